"""Patch mode: its physics against the NumPy one, and its patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import phase
from cmbjax.simulate import lesions, patches, physics, protocols, vessels
from cmbjax.simulate import local_physics as local

B0 = np.array([0.1, 0.2, 0.974], np.float32)
FINE_MM = (0.5, 0.5, 1.0)
PROTOCOL = protocols.get_protocol('btumor_7t')


@pytest.fixture(scope='module')
def group():
  """The first person, with 40 patches instead of 100."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(patches, 'GROUP', 40)
    return patches.make_group(PROTOCOL, 0, seed=9000)


def test_field_is_that_of_numpy_under_jit_and_vmap():
  chi = np.random.default_rng(0).normal(size=(2, 12, 10, 8)).astype(np.float32)
  here = jax.jit(jax.vmap(lambda c: local.field_ppm(c, FINE_MM, B0)))(chi)
  for one, wanted in zip(here, chi):
    wanted = physics.field_ppm(wanted, FINE_MM, B0)
    assert np.allclose(one, wanted, atol=1e-5)


def test_steady_state_is_that_of_numpy():
  grey = physics.TISSUES[7.0]['grey']
  how = {'repetition_time_s': 0.05, 'flip_deg': 20.0}
  here = local.steady_state(grey.density, grey.t1_s, **how)
  assert float(here) == pytest.approx(physics.spoiled_echo(grey, **how))


@pytest.mark.parametrize('moment', [0.2, 1.0, 5.0])
def test_deposit_is_that_of_whole_scans(moment):
  rng = np.random.default_rng(4)
  shape, corner = (32, 32, 16), np.array([-8.1, -7.8, -8.4], np.float32)
  made = lesions.draw_microbleed(rng, np.zeros(3), moment=moment)
  moved = made.spheres - np.array([*corner, 0], np.float32)
  wanted = np.ones(shape, np.complex64)
  effect = lesions.effect(
    made._replace(spheres=moved), shape, FINE_MM, b0=B0, field_t=7.0,
    echo_times_s=(0.016,),
  )  # fmt: skip
  wanted[effect.box] = effect.factors[0]
  axes = [
    c + np.arange(n, dtype=np.float32) * np.float32(s)
    for c, n, s in zip(corner, shape, FINE_MM)
  ]
  spheres = local.Spheres(
    made.spheres[:, :3], made.spheres[:, 3], made.chi_ppm, np.float32(1)
  )
  (found,) = local.deposit_factors(
    axes, FINE_MM, spheres, B0, centre=(16, 16, 8), field_t=7.0,
    echo_times_s=(0.016,),
  )  # fmt: skip
  assert abs(np.asarray(found) - wanted).mean() < 0.004
  assert abs(np.asarray(found) - wanted).max() < 0.2


def test_one_sphere_has_a_dipole_field():
  at = np.array([[0, 0, 3.0], [3.0, 0, 0], [0, 0, 0.5]], np.float32)
  ball = local.Spheres(
    np.zeros((1, 3)), np.array([1.0]), np.array([0.3]), np.float32(1)
  )
  (found,) = local.phasors(
    at, ball, np.array([0.0, 0, 1]), field_t=3.0, echo_times_s=(0.01,)
  )
  rate = physics.phase_per_ppm(3.0, 0.01)
  wanted = [rate * 0.1 / 27 * 2, -rate * 0.1 / 27, 0]
  assert np.allclose(np.angle(found), wanted, atol=1e-6)
  inside = np.exp(-0.3 * 0.01 * physics.R2_PRIME * 3.0)
  assert np.allclose(abs(found), [1, 1, inside], atol=1e-6)


@pytest.mark.parametrize(('discs', 'radius'), [(8, 0.3), (48, 1.2)])
def test_tubes_keep_their_volume_and_place(discs, radius):
  points = np.stack([[6.0, 6.0, z] for z in np.arange(4, 12, vessels.STEP_MM)])
  heading = np.tile([0.0, 0, 1], (len(points), 1))
  found = local.fill_tubes(
    points, heading, np.full(len(points), radius), np.zeros(3), FINE_MM,
    shape=(24, 24, 16), discs=discs,
  )  # fmt: skip
  volume = float(found.sum()) * np.prod(FINE_MM)
  assert volume == pytest.approx(np.pi * radius**2 * 8, rel=1e-3)
  x = (np.asarray(found).sum((1, 2)) * np.arange(24)).sum() / found.sum() * 0.5
  assert float(x) == pytest.approx(6, abs=0.1)


def test_crop_and_low_pass_are_those_of_whole_scans():
  rng = np.random.default_rng(1)
  image = rng.normal(size=(2, 20, 24, 8)).astype(np.float32)
  image = (image[0] + 1j * image[1]).astype(np.complex64)
  matrices = [local.crop_matrix(a, b) for a, b in zip(image.shape, (10, 24, 4))]
  found = local.along_axes(matrices, jnp.asarray(image))
  wanted = physics.crop_kspace(image.copy(), (10, 24, 4))
  assert np.allclose(found, wanted, atol=1e-5)
  spot = np.ones((48, 48, 4), np.complex64)
  spot[20:24, 22:25, 1:3] *= np.exp(1j)
  low = local.along_axes(
    [local.lowpass_matrix(48, 0.5, 1.9)] * 2 + [None], spot
  )
  theirs = phase.homodyne(spot, (0.5, 0.5, 2.0), sigma_mm=1.9)
  assert np.allclose(np.angle(spot * np.conj(low)), theirs, atol=2e-3)


def test_noise_has_variance_one():
  matrix = local.noise_matrix(40, 0.5, 2.6)
  assert np.allclose((matrix**2).sum(1).mean(), 1, atol=0.1)


def test_grow_follows_what_is_connected():
  dark = np.zeros((9, 9, 3), bool)
  dark[1:5, 1:5, 1], dark[7:, 7:, 1] = True, True
  seed = np.zeros_like(dark)
  seed[1, 1, 1] = True
  region = np.asarray(local.grow(jnp.asarray(dark), seed, steps=6))
  assert region.sum() == 16
  assert not region[7:].any()


def test_patches_are_labelled_images_of_one_person(group):
  made = group
  assert made.image.shape == (40, 24, 24, 12)
  assert made.image.dtype == np.float32
  assert made.image.min() >= 0
  assert made.image.max() <= 1
  assert np.array_equal(made.image, np.rint(made.image * 255) / np.float32(255))
  assert np.array_equal(made.label, made.kind == 'microbleed')
  assert 0.1 < made.label.mean() < 0.7
  bleeds = made.label == 1
  assert (made.moment[bleeds] > 0).all()
  assert (made.contrast[bleeds] >= 0.25).all()
  assert (made.diameter_mm[bleeds] > 0.5).all()
  assert not made.diameter_mm[~bleeds].any()
  assert len({image.tobytes() for image in made.image}) == 40


def test_the_object_is_dark_and_in_the_middle(group):
  made = group
  centre = made.image[:, 11:14, 11:14, 5:8].min((1, 2, 3))
  around = np.median(made.image.reshape(40, -1), 1)
  assert (centre < 0.85 * around).all()


def test_more_iron_makes_larger_microbleeds(group):
  made = group
  bleeds = made.label == 1
  columns = (made.moment[bleeds], made.diameter_mm[bleeds])
  rank = [np.argsort(np.argsort(column)) for column in columns]
  assert np.corrcoef(*rank)[0, 1] > 0.7


def test_a_patch_depends_on_nothing_but_its_number(group, monkeypatch):
  monkeypatch.setattr(patches, 'GROUP', 4)
  made = patches.make_patches(PROTOCOL, count=3, seed=9000, first=2)
  assert made.group.tolist() == [0, 0, 1]
  for mine, theirs in zip(made, group):
    assert np.array_equal(mine[:2], theirs[2:4])
  again = patches.make_patches(PROTOCOL, count=1, seed=9000, first=4)
  assert np.array_equal(again.image[0], made.image[2])


def test_numbers_out_of_range_are_refused():
  with pytest.raises(InputError, match='count: found 0'):
    patches.make_patches(PROTOCOL, count=0, seed=0)
  with pytest.raises(InputError, match='seed: found -1'):
    patches.make_patches(PROTOCOL, count=1, seed=-1)
