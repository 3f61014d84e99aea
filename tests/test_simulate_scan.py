"""One scan: truth against the whole computation, streams, counts, echoes."""

import dataclasses

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.imaging import phase as phase_filters
from cmbjax.simulate import (
  lesions,
  physics,
  placement,
  protocols,
  reconstruction,
  scan,
)
from cmbjax.simulate import world as world_lib
from tests.messages import says

SEED = 4
# A small grid: the same physics at a tenth of the work.
SMALL = dataclasses.replace(
  protocols.get_protocol('btumor_3t'), mean_lesions=60.0
)


@pytest.fixture(scope='module')
def world():
  return world_lib.build_world(
    scan.Streams(SEED, SMALL.name, 1), SMALL, slab_mm=8.0
  )


@pytest.fixture(scope='module')
def placed(world):
  rng = np.random.default_rng(5)
  return placement.place_lesions(rng, world, quantile=0.9)


def _whole_swi(world, effects):
  """The full path: whole slab, k-space crop, the real homodyne filter."""
  signal = world.signal(0)
  for effect in effects:
    signal[effect.box] *= effect.factors[0]
  signal = physics.crop_kspace(signal, world.extent.shape)
  local = phase_filters.homodyne(
    signal, SMALL.voxel_mm, sigma_mm=SMALL.homodyne_sigma_mm
  )
  return reconstruction.echo_swi(abs(signal), local, SMALL, 0)


def test_local_truth_agrees_with_a_second_whole_simulation(world, placed):
  assert len(placed) >= 5
  without = _whole_swi(world, [])
  with_ = _whole_swi(world, [p.effect for p in placed])
  overlap, sizes = [], []
  for item in placed:
    core = world.core(item.deposit, item.box)
    seen = lesions.label_contrast(
      without[item.box], with_[item.box], core, visible=0.1
    )
    assert seen is not None
    mask, _ = seen
    both = (mask & item.voxels).sum()
    overlap.append(2 * both / (mask.sum() + item.voxels.sum()))
    sizes.append((mask.sum(), item.voxels.sum()))
  assert np.mean(overlap) > 0.93
  sizes = np.array(sizes, float)
  assert np.median(sizes[:, 1] / sizes[:, 0]) == pytest.approx(1, abs=0.1)


def test_signal_of_a_box_is_that_of_the_whole(world):
  box = (slice(100, 160), slice(150, 200), slice(4, 12))
  np.testing.assert_allclose(
    world.signal(0, box), world.signal(0)[box], atol=1e-7
  )


def test_veins_are_dark_and_have_negative_phase(world):
  """The sign convention, on the simulated vessels themselves."""
  signal = physics.crop_kspace(world.signal(0), world.extent.shape)
  local = phase_filters.homodyne(
    signal, SMALL.voxel_mm, sigma_mm=SMALL.homodyne_sigma_mm
  )
  veins = world.drawn.veins
  thick = np.nanmax(veins.radius_mm, 1) > 0.35
  points = veins.points_mm[thick]
  step = np.diff(points, axis=1, append=np.nan)
  steep = abs(step[..., 2]) > 0.4  # nearly along the field
  place = np.rint(points[steep] / SMALL.voxel_mm).astype(int)
  inside = ((place >= 2) & (place < np.array(world.extent.shape) - 2)).all(-1)
  place = place[inside]
  brain = abs(signal) > 0.5 * np.median(abs(signal)[abs(signal) > 0])
  place = place[brain[tuple(place.T)]]
  values = local[tuple(place.T)]
  assert len(values) > 20
  assert np.median(values) < -0.1


def test_streams_are_independent_of_each_other():
  first = scan.Streams(1, 'ccm_3t', 2)
  again = scan.Streams(1, 'ccm_3t', 2)
  assert first('veins').random() == again('veins').random()
  values = {
    scan.Streams(s, c, n)(name).random()
    for s in (0, 1)
    for c in ('ccm_3t', 'btumor_3t')
    for n in (1, 2)
    for name in ('veins', 'air')
  }
  assert len(values) == 16


def test_counts_follow_the_negative_binomial():
  """Mean and spread against its formulas; few subjects are enough."""
  for shift in (0.1, 0.77):
    counts = [
      placement.lesion_count(placement.spread_quantile(n, shift), 22.6)
      for n in range(1, 513)
    ]
    assert np.mean(counts) == pytest.approx(22.6, rel=0.04)
    wanted = np.sqrt(22.6 + 22.6**2 / 1.2)
    assert np.std(counts) == pytest.approx(wanted, rel=0.1)
    assert np.mean(counts[:16]) == pytest.approx(22.6, rel=0.3)
  assert placement.lesion_count(0.0, 22.6) == 0
  assert [placement.spread_quantile(n, 0.0) for n in (1, 2, 3)] == [
    0.5,
    0.25,
    0.75,
  ]


def test_the_number_of_lesions_depends_on_the_seed(monkeypatch):
  seen = []
  for owner, name in (
    (world_lib, 'build_world'),
    (placement, 'place_mimics'),
    (scan, '_acquire'),
  ):
    monkeypatch.setattr(owner, name, lambda *_, **__: None)
  monkeypatch.setattr(
    placement, 'place_lesions', lambda *_, quantile: seen.append(quantile)
  )
  for seed in (1, 1, 2):
    scan.make_scan(SMALL, 1, seed=seed)
  assert seen[0] == seen[1] != seen[2]


def test_short_echoes_mask_at_the_same_frequency():
  many = protocols.get_protocol('btumor_7t_4echo')
  assert many.swi_echoes == (1, 2, 3)
  phase = np.array([-0.5, 0.0, 0.5])
  value = reconstruction.echo_swi(np.ones(3), phase, many, 1)
  threshold = np.pi * 0.0104 / 0.016
  np.testing.assert_allclose(value, [(1 - 0.5 / threshold) ** 4, 1, 1])
  one = protocols.get_protocol('btumor_3t')
  value = reconstruction.echo_swi(np.ones(3), phase, one, 0)
  np.testing.assert_allclose(value, [(1 - 0.5 / np.pi) ** 4, 1, 1])


def test_every_protocol_fits_its_grids():
  for protocol in protocols.PROTOCOLS.values():
    for axis in range(3):
      ratio = protocol.voxel_mm[axis] / protocol.fine_mm[axis]
      assert ratio == round(ratio)
      length = protocol.shape[axis] * protocol.voxel_mm[axis]
      assert length == protocol.field_of_view_mm[axis]
  prefixes = [p.prefix for p in protocols.PROTOCOLS.values()]
  assert len(set(prefixes)) == len(prefixes)
  with says(InputError, 'btumor_7t'):
    protocols.get_protocol('nobody')


def test_multi_echo_scan_keeps_every_echo():
  small = dataclasses.replace(
    protocols.get_protocol('btumor_7t_4echo'),
    voxel_mm=(1.0, 1.0, 1.0),
    fine_mm=(1.0, 1.0, 1.0),
    mean_lesions=40.0,
  )
  made = scan.make_scan(small, 1, seed=SEED, slab_mm=10.0)
  assert len(made.magnitude) == len(made.phase) == 4
  brain = made.brain
  levels = [np.median(m[brain]) for m in made.magnitude]
  assert levels[0] > levels[1] > levels[2] > levels[3]
  assert made.swi.shape == brain.shape == (176, 216, 10)
  assert len(made.lesion_rows) == len(set(np.unique(made.lesions)) - {0})
  assert set(np.unique(made.mimics)) - {0} <= {r.index for r in made.mimic_rows}
  assert not ((made.lesions > 0) & (made.mimics > 0)).any()
  _check_noise_is_new_in_every_echo(made)


def _check_noise_is_new_in_every_echo(made):
  """No shift of one echo's noise in air fits that of another."""
  air = made.magnitude[0] < 3 * np.median(made.magnitude[0][:20, :20])
  spectra = [
    np.fft.fftn(np.where(air, m * np.exp(1j * p), 0))
    for m, p in zip(made.magnitude[:2], made.phase)
  ]
  match = abs(np.fft.ifftn(spectra[0] * spectra[1].conj())).max()
  energy = [np.mean(abs(s) ** 2) for s in spectra]
  assert match < 0.1 * np.sqrt(energy[0] * energy[1])


def test_a_version_of_several_echoes_leaves_the_others_alone():
  for protocol in protocols.PROTOCOLS.values():
    several = len(protocol.echo_times_s) > 1
    assert (scan.version_of(protocol) == scan.VERSION) == (not several)
