"""Receivers, reconstructions and finishes by numbers that are known."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.imaging import volume
from cmbjax.simulate import (
  families,
  finish,
  finish_exported,
  labels,
  physics,
  placement,
  protocols,
  receiver,
  receiver_coils,
  receiver_segmented,
  reconstruction,
  reconstruction_mapped,
  scan,
  subject_files,
  tissue,
)
from cmbjax.simulate import world as world_lib

SEED = 9002
# A tenth of the work of a real protocol.
SMALL = dataclasses.replace(
  protocols.get_protocol('ccm_3t'), fine_mm=(1.0, 1.0, 1.5)
)


def rng():
  return np.random.default_rng(SEED)


def small(**names):
  return dataclasses.replace(SMALL, families=families.CLASSIC._replace(**names))


# Receivers.


def test_g_factor_of_two_coils_is_that_of_pruessmann():
  """Closed form for two coils and two pixels: det and traces by hand."""
  a, b = np.array([1.0, 0.3]), np.array([0.4j, 1.0])  # pixel -> both coils
  coils = np.stack([a, b], 1).reshape(2, 2, 1, 1)
  whole = receiver_coils.g_factor(coils, axis=0, times=1)
  np.testing.assert_allclose(whole, 1, atol=2e-4)
  g = receiver_coils.g_factor(coils, axis=0, times=2)
  aa, bb, ab = 1.09, 1.16, np.vdot(a, b)
  wanted = np.sqrt(aa * bb / (aa * bb - abs(ab) ** 2))
  np.testing.assert_allclose(g.ravel(), wanted, rtol=1e-3)
  turned = receiver_coils.g_factor(coils.swapaxes(1, 2), axis=1, times=2)
  np.testing.assert_allclose(turned.ravel(), g.ravel(), rtol=1e-6)


@pytest.mark.parametrize('name', ['coils', 'segmented'])
def test_a_slab_is_received_like_that_part_of_the_head(name):
  """Bias, phase and noise belong to places, not to voxels."""
  draw = families.find('receiver', name)
  whole = tissue.get_extent(SMALL, None)
  part = tissue.get_extent(SMALL, 24.0)
  start = round(part.start_mm / 1.5) + part.margin
  cut = slice(start, start + part.shape[2] - 2 * part.margin)
  one, other = (draw(rng(), SMALL, extent) for extent in (whole, part))
  for maps in ('bias', 'offset'):
    (first,), (second,) = getattr(one, maps), getattr(other, maps)
    middle = np.s_[40:140, 40:170]  # of the head
    if name == 'segmented':  # coils are scaled by a median of all they see
      np.testing.assert_allclose(
        first[..., cut][middle], second[middle], atol=0.03
      )
    assert first.shape == SMALL.shape
    assert second.shape == (*part.shape[:2], cut.stop - cut.start)
    assert np.std(abs(first)) > 0.02 or maps == 'offset'
  (offset,) = one.offset
  assert np.median(abs(offset)) == pytest.approx(1, abs=0.05)


def test_noise_of_coils_is_strongest_where_they_see_least():
  got = receiver_coils.draw_coils(
    np.random.default_rng(3), SMALL, tissue.get_extent(SMALL, 24.0)
  )
  noise = got.noise(rng(), (176, 216, 16), 2.0)
  local = np.sqrt(ndimage.uniform_filter(noise.real**2, 17))
  assert np.median(local) == pytest.approx(2.0, rel=0.15)
  assert local[88, 108, 8] > 1.15 * local[12, 108, 8]


def test_correlated_noise_has_the_variance_and_likeness_of_its_formula():
  noise = receiver_segmented.correlated_noise(
    rng(), (300, 300, 4), 1.5, alike=(0.5, 0.0)
  ).real
  assert noise.std() == pytest.approx(1.5, rel=0.01)
  next_x = np.mean(noise[1:] * noise[:-1]) / noise.var()
  assert next_x == pytest.approx(0.5 / 1.25, abs=0.01)
  next_y = np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var()
  assert next_y == pytest.approx(0, abs=0.01)


def test_a_train_leaves_lines_out_and_makes_a_ghost_of_half_a_field():
  weight = receiver_segmented.train_weight((1, 100), taken=0.7, blur=0, ghost=0)
  assert (abs(weight) > 0).sum() == 70
  line = np.rint(np.fft.fftfreq(100) * 100)
  assert line[weight[0] == 0].min() == 20
  weight = receiver_segmented.train_weight(
    (4, 100), taken=1, blur=0, ghost=0.04
  )
  point = np.zeros((4, 100, 1), np.complex64)
  point[1, 30] = 1
  out = abs(receiver.filtered(point, weight, 1))[..., 0]
  assert out[1, 30] == pytest.approx(np.cos(0.02), abs=1e-5)
  assert out[1, 80] == pytest.approx(np.sin(0.02), abs=1e-5)
  out[1, [30, 80]] = 0
  assert out.max() < 1e-5


def test_the_edge_of_k_space_rings_or_is_tapered():
  axes = np.meshgrid(
    np.fft.fftfreq(64), np.fft.fftfreq(64), indexing='ij', sparse=True
  )
  hard = receiver_coils.edge(axes, (1.0, 0.5), hamming=False)
  assert hard[0].sum() == 2 * int(0.6 * 32) + 1  # 1.2 times half of the lines
  soft = receiver_coils.edge(axes, (1.0, 1.0), hamming=True)
  assert soft[0, 0] == pytest.approx(1)
  assert soft[0, 16] == pytest.approx(0.54)
  assert soft[0, 32] == pytest.approx(0.08)
  assert soft[32, 32] == 0


def test_motion_keeps_the_energy_and_blurs():
  image = np.zeros((64, 64, 1), np.complex64)
  image[20:40, 20:40] = 1
  draws = (
    receiver_coils._draw_encoding(np.random.default_rng(n), SMALL)
    for n in range(12)
  )
  full = dataclasses.replace(SMALL, resolution=(2.0, 2.0))
  changed = []
  for encode in draws:
    out = encode(rng(), image.copy(), full, 1)
    again = encode(rng(), image.copy(), full, 1)
    np.testing.assert_array_equal(out, again)  # of every echo alike
    changed.append(abs(abs(out) - abs(image)).max())
  assert min(changed) < 1e-4  # at rest, hard edge, nothing left out
  assert max(changed) > 0.1


# Reconstructions.


def _wave(amplitude, *, turns, drift=0.0, depth=8):
  """Signal of size 1 whose phase is a wave along x, on 1 x 1 x 1.5 mm."""
  x = np.arange(96)
  phase = amplitude * np.cos(2 * np.pi * turns * x / 96) + drift * x
  signal = np.exp(1j * phase).astype(np.complex64)
  return np.broadcast_to(signal[:, None, None], (96, 48, depth)).copy()


@pytest.mark.parametrize('by_slice', [True, False])
def test_unwrapped_phase_loses_what_the_gaussian_keeps(by_slice):
  """A wave a cos(kx) keeps a (1 - exp(-k^2 sigma^2 / 2)), wrapped or not."""
  signal = _wave(2.5, turns=8, drift=0.3)
  local = reconstruction.unwrapped(
    signal, SMALL, sigma_mm=2.0, by_slice=by_slice
  )
  k = 2 * np.pi * 8 / 96
  kept = 2.5 * (1 - np.exp(-((2.0 * k) ** 2) / 2))
  middle = local[24:72, 24, 4]
  wanted = kept * np.cos(k * np.arange(24, 72))
  np.testing.assert_allclose(middle, wanted, atol=0.05)


def test_masks_of_vendors_by_hand():
  magnitude = np.full(3, 2.0, np.float32)
  phase = np.array([-0.5, 0.0, 0.5], np.float32)

  def weigh(both):
    return reconstruction._weighted(
      magnitude, phase, SMALL, 0, power=3, both=both, reach=0.5, lean={0: 1.0}
    )

  low = 2 * (1 - 0.5 / (0.5 * np.pi)) ** 3
  np.testing.assert_allclose(weigh(False), [low, 2, 2], rtol=1e-6)
  np.testing.assert_allclose(weigh(True), [low, 2, low], rtol=1e-6)
  step = reconstruction._smooth_step(magnitude, phase, SMALL, 0, middle=0.25)
  wanted = 1 + np.tanh(1 + phase / (0.25 * np.pi))
  np.testing.assert_allclose(step, wanted, rtol=1e-6)


def test_late_echoes_of_a_vendor_count_for_more():
  four = protocols.get_protocol('btumor_7t_4echo')
  made = reconstruction.draw_weighted(rng(), four)
  one = np.ones(1, np.float32)
  levels = [made.swi(one, 0 * one, four, echo)[0] for echo in four.swi_echoes]
  assert levels[0] < levels[1] < levels[2]
  assert np.mean(levels) == pytest.approx(1)


def test_a_wave_of_susceptibility_comes_back():
  """chi = a cos(kx) across the field has a field of a / 3 cos(kx)."""
  rate = physics.phase_per_ppm(3.0, SMALL.echo_times_s[-1])
  signal = _wave(0.06 * rate / 3, turns=24, depth=60)
  chi = reconstruction_mapped.susceptibility_ppm(signal, SMALL, widen=1.0)
  middle = chi[24:72, 24, 30]
  wanted = 0.06 * np.cos(2 * np.pi * 24 * np.arange(24, 72) / 96)
  np.testing.assert_allclose(middle, wanted, atol=0.012)
  dark = reconstruction_mapped._darken(
    np.full(4, 2.0), np.array([-0.1, 0.05, 0.16, 0.9]), SMALL, 0, top_ppm=0.46,
    power=2,
  )  # fmt: skip
  np.testing.assert_allclose(dark, [2, 2, 2 * 0.75**2, 0], rtol=1e-6)


# Finishes.


def _scan(shape=(40, 48, 20), voxel_mm=(0.5, 0.5, 2.0)):
  """A ramp of brightness in mm, and two lesions, one of a single voxel."""
  affine = np.diag([*voxel_mm, 1.0])
  affine[:3, 3] = -7, 3, 11
  index = np.indices(shape)
  place = [affine[i, i] * index[i] + affine[i, 3] for i in range(3)]
  lesions = np.zeros(shape, np.uint16)
  lesions[18:24, 20:26, 9:11] = 1
  lesions[29, 31, 13] = 2
  brain = np.zeros(shape, bool)
  brain[2:-2, 2:-2, 1:-1] = True
  image = 100 + place[0] + 2 * place[1] - place[2]
  return scan.SimulatedScan(
    [image], [image], image.astype(np.float32), brain, lesions,
    np.zeros(shape, np.uint16), [], [], affine, {'SNR': 20},
  )  # fmt: skip


@pytest.mark.parametrize('turn_deg', [(0, 0, 0), (5, -3, 8)])
@pytest.mark.parametrize('order', [1, 3])
def test_a_new_grid_shows_the_same_world(turn_deg, order):
  old = _scan()
  new = finish.on_grid(old, new_mm=np.ones(3), turn_deg=turn_deg, order=order)
  np.testing.assert_allclose(finish.spacing_of(new.affine), 1, rtol=1e-9)
  inside = np.argwhere(ndimage.binary_erosion(new.brain, iterations=4))
  assert len(inside) > 500
  x, y, z = (new.affine[:3, :3] @ inside.T) + new.affine[:3, 3:]
  value = new.swi[tuple(inside.T)]
  np.testing.assert_allclose(value, 100 + x + 2 * y - z, atol=0.1)
  for index in (1, 2):  # even that of one voxel
    places = [np.argwhere(s.lesions == index).mean(0) for s in (old, new)]
    world = [
      s.affine[:3, :3] @ p + s.affine[:3, 3] for s, p in zip((old, new), places)
    ]
    assert np.linalg.norm(world[0] - world[1]) < 0.9
  size = [
    (s.lesions == 1).sum() * np.prod(finish.spacing_of(s.affine))
    for s in (old, new)
  ]
  assert size[1] == pytest.approx(size[0], rel=0.35)


def test_flattening_takes_a_smooth_field_away():
  shape, voxel = (80, 80, 40), (1.0, 1.0, 2.0)
  x, y, z = np.indices(shape)
  brain = (x - 40) ** 2 + (y - 40) ** 2 + 4 * (z - 20) ** 2 < 35**2
  texture = 100 * (1 + 0.1 * np.cos(x * 1.3) * np.cos(y * 1.1))
  field = np.exp(0.012 * (x - 40) + 0.008 * (y - 40))
  out = finish.flattened(
    (texture * field).astype(np.float32), brain, voxel, sigma_mm=8.0
  )
  core = ndimage.binary_erosion(brain, iterations=6)
  before = (texture * field)[core] / texture[core]
  after = out[core] / texture[core]
  assert before.std() / before.mean() > 0.19
  assert after.std() / after.mean() < 0.06
  assert np.median(out[brain]) == pytest.approx(
    np.median((texture * field)[brain]), rel=0.1
  )


def test_denoising_takes_noise_and_leaves_edges():
  step = np.full((60, 60, 20), 10.0, np.float32)
  step[30:] = 5.0
  noise = rng().normal(0, 0.4, step.shape).astype(np.float32)
  out = finish.denoised(step + noise, np.ones(step.shape, bool), share=1.0)
  flat = np.s_[3:27, 3:-3, 3:-3]
  assert out[flat].std() < 0.5 * noise[flat].std()
  edge = out[27:33, 3:-3, 3:-3].mean((1, 2))
  np.testing.assert_allclose(edge, [10, 10, 10, 5, 5, 5], atol=0.1)


def test_a_lesion_that_faded_is_a_mimic_and_no_lesion():
  """By its mean over its surroundings: 0.06 is left of 0.3, 0.1 of 0.3."""
  old = _scan()
  rows = [
    labels.Finding(n, 'microbleed', 'deep', np.zeros(3), 1.0, 0.5)
    for n in (1, 2)
  ]
  image = np.full(old.swi.shape, 100.0, np.float32)
  image[old.lesions > 0] = 70.0
  old = old._replace(lesion_rows=rows, swi=image)
  before = finish.contrasts(old)
  assert before == pytest.approx({1: 0.3, 2: 0.3})
  image = image.copy()
  image[old.lesions == 1], image[old.lesions == 2] = 94.0, 90.0

  def change(before):
    return finish.finished(
      old, image, old.brain, before=before, bare=False, done={}
    )

  new = change(before)
  assert set(np.unique(new.lesions)) == {0, 2}
  np.testing.assert_array_equal(new.mimics > 0, old.lesions == 1)
  assert [(row.index, row.kind) for row in new.mimic_rows] == [
    (1, 'faded microbleed')
  ]
  # One that was as faint before is none of a finish's.
  assert set(np.unique(change({1: 0.1, 2: 0.3}).lesions)) == {0, 1, 2}


def test_a_stripped_brain_is_off_by_some_millimetres_at_its_edge_alone():
  shape, voxel = (90, 90, 45), np.array((1.0, 1.0, 2.0))
  x, y, z = np.indices(shape)
  far = np.sqrt((x - 45) ** 2 + (y - 45) ** 2 + 4 * (z - 22) ** 2)
  brain = far < 35
  off = []
  for seed in range(8):
    mask = finish.strip_mask(np.random.default_rng(seed), brain, voxel)
    wrong = mask != brain
    off.append(abs(far[wrong] - 35).max())
  assert 1 < min(off) < max(off) < 5


def test_what_was_stripped_is_gone_from_image_and_truth():
  old = _scan()
  brain = old.brain.copy()
  brain[:21] = False
  new = finish.finished(
    old, old.swi, brain, before=finish.contrasts(old), bare=True, done={}
  )
  assert set(np.unique(new.lesions)) == {0, 1, 2}
  assert not new.lesions[:21].any()
  assert new.magnitude == new.phase == []
  assert new.facts == {'SNR': 20, 'Finish': {}}


def test_zero_filling_is_exact_for_waves_and_keeps_the_first_voxel():
  old = _scan(shape=(32, 48, 20))
  x, y = np.arange(64) / 2, np.arange(96) / 2

  def waves(x, y):
    a, b = 2 * np.pi * 3 * x / 32, 2 * np.pi * 5 * y / 48
    return 3 + np.cos(a)[:, None, None] + np.sin(b)[:, None] + np.zeros(20)

  old = old._replace(swi=waves(x[::2], y[::2]))
  new = finish_exported.zero_filled(old)
  np.testing.assert_allclose(new.swi, waves(x, y), atol=1e-5)
  np.testing.assert_allclose(new.affine[:3, 3], old.affine[:3, 3])
  np.testing.assert_allclose(finish.spacing_of(new.affine), (0.25, 0.25, 2))
  assert new.brain.sum() == 4 * old.brain.sum()


def test_a_lossy_code_keeps_what_is_flat_and_costs_detail():
  flat = np.full((20, 13, 2), 0.5, np.float32)
  out = finish_exported.coded(flat, quality=90)
  np.testing.assert_allclose(out, 0.5, atol=1.5 / 255)
  noise = rng().uniform(0.3, 0.7, (64, 64, 2)).astype(np.float32)
  good, poor = (
    abs(finish_exported.coded(noise, quality=q) - noise).mean()
    for q in (95, 40)
  )
  assert 0 < good < 0.01 < poor < 0.12


# Whole scans: one person, acquired again and again.


@pytest.fixture(scope='module')
def person():
  streams = scan.Streams(SEED, SMALL.name, 1)
  world = world_lib.build_world(streams, SMALL, slab_mm=10.5)
  placed = placement.place_lesions(rng(), world, quantile=0.9)
  assert len(placed) >= 5
  return world, placed


def _acquired(person, **names):
  world, placed = person
  streams = scan.Streams(SEED, SMALL.name, 1)
  protocol = small(**names)
  make = families.find('reconstruction', protocol.families.reconstruction)
  made = make(streams('reconstruction'), protocol)
  world = dataclasses.replace(world, protocol=protocol, made=made)
  return scan._acquire(streams, world, placed, [], 1)


def _check(made, plain):
  """Images on one grid, and lesions that are dark in another SWI."""
  shape = made.swi.shape
  assert made.brain.shape == made.lesions.shape == made.mimics.shape == shape
  assert all(m.shape == shape for m in (*made.magnitude, *made.phase))
  assert made.swi.min() >= 0
  assert shape != plain.swi.shape or (made.swi != plain.swi).any()
  usual = np.median(made.swi[made.brain])
  darkest = [
    made.swi[made.lesions == index].min() / usual
    for index in set(np.unique(made.lesions)) - {0}
  ]
  assert len(darkest) >= 4
  assert np.median(darkest) < 0.7


@pytest.fixture(scope='module')
def plain(person):
  return _acquired(person)


@pytest.mark.parametrize('part', ['receiver', 'reconstruction'])
def test_every_family_makes_a_scan_whose_lesions_are_dark(part, person, plain):
  for name in list(families.KINDS[part])[1:]:
    made = _acquired(person, **{part: name})
    _check(made, plain)
    kept = 0 if name == 'magnitude' else 1
    assert len(made.magnitude) == len(made.phase) == kept
    again = _acquired(person, **{part: name})
    np.testing.assert_array_equal(made.swi, again.swi)


@pytest.mark.parametrize('name', list(families.KINDS['finish'])[1:])
def test_every_finish_leaves_one_image_and_the_truth_on_its_grid(name, plain):
  change = families.find('finish', name)
  for number in range(4):
    made = change(np.random.default_rng(number), plain, SMALL)
    _check(made, plain)
    assert made.magnitude == made.phase == []
    assert made.swi.max() <= 1
    assert not made.lesions[~made.brain].any()
    again = change(np.random.default_rng(number), plain, SMALL)
    np.testing.assert_array_equal(made.swi, again.swi)


def test_a_finished_scan_is_one_image_without_facts(tmp_path, plain):
  protocol = small(finish='exported')
  made = finish_exported.exported(rng(), plain, protocol)
  subject_files.write_images(
    tmp_path, 'a', made, protocol=protocol, made={'SimulationSeed': SEED}
  )
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'a_swi.json', 'a_swi.nii.gz',
  ]  # fmt: skip
  facts = json.loads((tmp_path / 'a_swi.json').read_text())
  assert set(facts) == {'Simulated', 'SimulationSeed', 'Families'}
  assert facts['Families']['finish'] == 'exported'
  image = volume.load(tmp_path / 'a_swi.nii.gz')
  np.testing.assert_allclose(image.spacing_mm, (0.5, 0.5, 1.5), atol=1e-4)
