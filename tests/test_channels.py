"""Phase and magnitude beside the SWI: from files to networks and verdicts."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from cmbjax.data import (
  augment,
  cohort,
  cohort_builder,
  evidence,
  examples,
  patches,
  tables,
)
from cmbjax.detect import batch, chain, classifier
from cmbjax.errors import InputError
from cmbjax.imaging import phase_mask, swi
from cmbjax.intake import bids
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.models import convolution
from cmbjax.reconstruct import channels, scan_image
from cmbjax.simulate import physics
from cmbjax.study import config as configs
from cmbjax.study import networks, resolve
from tests import lesion_data, small_cohorts
from tests.messages import says

ALL = ('swi', *channels.MEASURED)
SHAPE, SPACING_MM = (72, 72, 32), (0.5, 0.5, 1.0)
BLOOD, CALCIFIED = (24, 36, 16), (48, 36, 16)  # voxels
FIELD_T, ECHO_S = 3.0, 0.02


def write_signal(anat, name, magnitude, phase, affine):
  """What a scanner gives, beside the SWI."""
  for part, array in (('mag', magnitude), ('phase', phase)):
    path = anat / f'{name}_part-{part}_T2starw.nii.gz'
    small_cohorts.save(path, array.astype(np.float32), affine)
    facts = {'EchoTime': ECHO_S, 'MagneticFieldStrength': FIELD_T}
    units = {'Units': 'rad'} if part == 'phase' else {}
    path.with_name(path.name.replace('.nii.gz', '.json')).write_text(
      json.dumps(facts | units)
    )


@pytest.fixture(scope='module')
def head():
  """A noise-free head: a microbleed, a calcification and two veins.

  The phase is that of their susceptibility (paramagnetic blood,
  diamagnetic calcium) by the simulator's dipole field.
  """
  grid = np.stack(np.indices(SHAPE), -1) * np.array(SPACING_MM)
  middle = (np.array(SHAPE) - 1) * SPACING_MM / 2
  brain = (((grid - middle) / (middle - 1)) ** 2).sum(-1) < 1
  chi, dark = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool)
  for place, ppm in ((BLOOD, 1.0), (CALCIFIED, -1.0)):
    ball = np.linalg.norm(grid - np.array(place) * SPACING_MM, axis=-1) < 1.3
    chi[ball], dark = ppm, dark | ball
  for y in (22, 50):  # along the field, where a vein's phase is largest
    tube = np.linalg.norm((grid - (18, y / 2, 0))[..., :2], axis=-1) < 0.8
    chi[tube & brain], dark = 0.45, dark | (tube & brain)
  field = physics.field_ppm(chi, SPACING_MM, (0, 0, 1))
  turned = physics.phase_per_ppm(FIELD_T, ECHO_S) * field
  phase = np.angle(np.exp(1j * (turned + 0.4 + 0.02 * grid[..., 0])))
  magnitude = np.where(brain, np.where(dark, 60.0, 200.0), 2.0)
  return magnitude, phase, brain


@pytest.fixture(scope='module')
def folder(head, tmp_path_factory):
  """The head with an SWI of its own and a truth, as a cohort."""
  root = tmp_path_factory.mktemp('heads')
  return write_head(root, head)


def write_head(root, head, *, sign=1):
  magnitude, phase, brain = head
  affine = small_cohorts.affine_of(SPACING_MM, SHAPE)
  anat = root / 'sub-01' / 'anat'
  weighted = magnitude * phase_mask.phase_mask(np.zeros(SHAPE, np.float32))
  small_cohorts.save(anat / 'sub-01_swi.nii.gz', weighted, affine)
  small_cohorts.save(anat / 'sub-01_desc-brain_mask.nii.gz', brain, affine)
  write_signal(anat, 'sub-01', magnitude, sign * phase, affine)
  labels = np.zeros(SHAPE, np.uint16)
  labels[BLOOD] = 1
  small_cohorts.save(small_cohorts.label_path(root, 'sub-01'), labels, affine)
  return root


def images(root):
  (scan,) = bids.find_scans(root)
  return scan_image.load_image(scan, ALL)


def test_names_and_order():
  assert channels.data_set('native') == 'native'
  assert channels.data_set('resampled', ALL) == 'resampled_phase_magnitude'
  assert channels.in_order(('swi', 'magnitude'))
  for wrong in (('phase',), ('phase', 'swi'), ('swi', 'swi'), ('swi', 'tof')):
    assert not channels.in_order(wrong)


def test_phase_by_hand():
  turn = np.array([-2 * np.pi, -np.pi, -np.pi / 2, 0, np.pi / 4, np.pi])
  expected = [0, 0, 0.25, 0.5, 0.625, 1]
  found = channels.of_phase(turn.astype(np.float32))
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_phase_tells_calcification_from_blood(head, folder, tmp_path):
  """Both are dark in SWI and magnitude; a second scanner's sign is mended."""
  found = images(folder)
  assert not found.lacking
  assert list(found.beside) == ['phase', 'magnitude']
  phase, magnitude = found.beside.values()
  assert magnitude[BLOOD] == magnitude[CALCIFIED] < 0.4
  assert phase[BLOOD] < 0.45 < 0.55 < phase[CALCIFIED]
  assert phase[36, 22, 16] < 0.45  # a vein
  expected = swi.scale_to_unit(head[0].astype(np.float32), found.mask)
  np.testing.assert_array_equal(magnitude, expected)
  other = images(write_head(tmp_path, head, sign=-1))
  np.testing.assert_allclose(
    other.beside['phase'][head[2]], phase[head[2]], atol=1e-5
  )


def test_a_reconstructed_scan_gives_what_its_swi_is_made_of(folder):
  (given,) = bids.find_scans(folder)
  scan = changed(given, swi=None)
  plain, found = scan_image.load_image(scan), scan_image.load_image(scan, ALL)
  assert found.made == plain.made == 'reconstructed'
  np.testing.assert_array_equal(found.volume.array, plain.volume.array)
  assert plain.beside == {}
  inside = found.mask
  wanted = scan_image.load_image(given, ALL).beside['phase']
  np.testing.assert_allclose(found.beside['phase'][inside], wanted[inside])


def changed(scan, **changes):
  return ScanFiles(**(vars(scan) | changes))


def test_what_a_scan_lacks(folder):
  (scan,) = cohort.read_cohort(folder).scans
  alone = changed(scan.files, phase=())
  found = scan_image.load_image(alone, ALL)
  assert found.lacking == {'phase': 'there is no phase beside the SWI'}
  assert list(found.beside) == ['magnitude']
  nothing = changed(alone, magnitude=())
  assert set(scan_image.load_image(nothing, ALL).lacking) == set(ALL[1:])
  bare = cohort.Scan(scan.subject, scan.name, nothing, scan.truth)
  for refused in (cohort.load_scan, cohort.check_channels):
    with says(InputError, "sub-01 'phase' config.channels"):
      refused(bare, ('swi', 'phase'))
  cohort.check_channels(bare, channels.ONLY_SWI)


def test_a_phase_on_another_grid(head, tmp_path):
  write_head(tmp_path, head)
  affine = small_cohorts.affine_of(SPACING_MM, SHAPE)
  cut = [array[:, :, 1:] for array in head[:2]]
  write_signal(tmp_path / 'sub-01/anat', 'sub-01', *cut, affine)
  found = images(tmp_path)
  assert set(found.lacking) == {'phase', 'magnitude'}
  assert 'has shape 72x72x31' in found.lacking['phase']
  (scan,) = bids.find_scans(tmp_path)
  alone = scan_image.load_image(changed(scan, phase=()), ('swi', 'magnitude'))
  assert 'has shape 72x72x31' in alone.lacking['magnitude']


@pytest.mark.parametrize('kind', ['native', 'resampled'])
def test_records_of_all_channels(kind, folder, tmp_path, monkeypatch):
  """One table of candidates; image is the SWI whatever else is there."""
  plain = examples.load(examples.build('own', folder, tmp_path, config=kind))
  monkeypatch.setattr(tables, 'make_table', None)  # must not be needed
  config = channels.data_set(kind, ALL)
  built = examples.build('own', folder, tmp_path, config=config)
  found = examples.load(built)
  assert len(found.key) == len(plain.key) > 0
  np.testing.assert_array_equal(found.image, plain.image)
  assert examples.seen(plain) is plain.image
  seen = examples.seen(found)
  assert seen.shape == (len(found.key), 24, 24, 12, 3)
  (scan,) = cohort.read_cohort(folder).scans
  beside = images(folder).beside
  for n, name in enumerate(ALL[1:], start=1):
    if kind == 'native':
      own = patches.cut(beside[name], found.centre)
    else:
      own = patches.resample(beside[name], found.centre, SPACING_MM)
    np.testing.assert_array_equal(seen[..., n], own.astype(np.float16))
  assert examples.load_as('x', built, config=config)[0].cohort[0] == 'x'
  other = channels.data_set(kind, ('swi', 'phase'))
  with says(InputError, f'{config} {other}'):
    examples.load_as('x', built, config=other)
  assert scan.paths(ALL) > scan.paths()


def test_the_fingerprint_covers_what_is_read(head, tmp_path):
  write_head(tmp_path, head)

  def marks():
    (scan,) = cohort.read_cohort(tmp_path).scans
    return [cohort.scan_fingerprint(scan, c) for c in (ALL[:1], ALL[:2])]

  before = marks()
  write_head(tmp_path, head, sign=-1)
  after = marks()
  assert before[0] == after[0]
  assert len({before[1], after[1], before[0]}) == 3
  # The weighting of a reconstruction depends on it.
  facts = tmp_path / 'sub-01/anat/sub-01_part-mag_T2starw.json'
  facts.write_text(json.dumps({'EchoTime': 0.03}))
  timed = marks()
  assert timed[0] == after[0]
  assert timed[1] != after[1]
  names = [known.name for known in cohort_builder.CohortBuilder.BUILDER_CONFIGS]
  assert names[:2] == ['native', 'resampled']
  assert len(names) == len(set(names)) == 2 * 2 ** (len(channels.CHANNELS) - 1)


def test_augmentation_moves_all_channels_alike():
  patch = np.random.default_rng(1).random((24, 24, 12, 3)).astype(np.float32)
  run = jax.jit(augment.augment)
  for seed in range(4):
    key = jax.random.key(seed)
    parts = [run(key, patch[..., n]) for n in range(3)]
    np.testing.assert_allclose(run(key, patch), np.stack(parts, -1), atol=1e-6)
  crop = augment.centre_crop(patch[None])
  np.testing.assert_array_equal(crop[0], patch[4:20, 4:20, 2:10])
  assert augment.with_channels(patch[..., 0][None]).shape == (
    1,
    *patch.shape[:3],
    1,
  )


@pytest.mark.parametrize('count', [2, 3])
def test_the_first_convolution_here(count):
  """What 'auto' is on this machine, values and gradients."""
  rng = np.random.default_rng(count)
  x = rng.normal(size=(2, 4, 4, 8, count)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, count, 8)).astype(np.float32)

  def run(convolve):
    def loss(x, kernel):
      return (convolve(x, kernel) ** 2).sum()

    return jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(x, kernel))

  for mine, known in zip(run(convolution.convolve), run(convolution.native)):
    np.testing.assert_allclose(mine, known, rtol=2e-4, atol=2e-3)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """Untrained networks that see the phase, and some of the SWI only."""
  home = tmp_path_factory.mktemp('weights')
  lesion_data.write_weights(home / 'two', channels=['swi', 'phase'])
  lesion_data.write_weights(home / 'one')
  return home


def test_weights_of_other_channels_end_before_any_work(weights):
  changes = {'pretrained': str(weights / 'two'), 'model.name': 'resnet_v3'}
  config = configs.load('configs/finetune.py')
  config.update_from_flattened_dict(changes)
  with says(InputError, 'config.channels'):
    networks.check_given(resolve.study_of(config))
  config.channels = ('swi', 'phase')
  networks.check_given(resolve.study_of(config))
  for wrong in (('phase', 'swi'), ('swi', 'tof'), 'swi', ()):
    with config.ignore_type():
      config.channels = wrong
    with says(InputError, 'config.channels'):
      resolve.study_of(config)


def test_detect_gives_networks_what_they_learned_from(folder, weights):
  """And falls back only where it is allowed to."""
  two, one = (classifier.load(weights / name) for name in ('two', 'one'))
  assert (two.channels, one.channels) == (('swi', 'phase'), ('swi',))
  (scan,) = bids.find_scans(folder)
  options = chain.DetectOptions(regions=False)
  with_phase = chain.analyse(scan, two, options, fallback=one, threads=1)
  table = with_phase.result.candidates
  kept = np.flatnonzero(table['kept'])
  found = scan_image.load_image(scan, two.channels)
  unit = swi.scale_to_unit(found.volume.array, found.mask)
  whole = evidence.Evidence(
    unit, found.mask, SPACING_MM, found.volume.affine, found.beside
  )
  seen = whole.patches(with_phase.candidates.centre[kept], channels=ALL[:2])
  np.testing.assert_allclose(
    table['likelihood'][kept], two.likelihood(seen).mean(0), atol=1e-6
  )
  assert with_phase.result.operating_point['fingerprint'] == two.fingerprint
  assert with_phase.result.source.split(', ') == [
    'sub-01_swi.nii.gz',
    'sub-01_part-mag_T2starw.nii.gz',
    'sub-01_part-phase_T2starw.nii.gz',
    'sub-01_desc-brain_mask.nii.gz',
  ]
  bare = changed(scan, phase=())
  without = chain.analyse(bare, two, options, fallback=one, threads=1).result
  assert without.operating_point['fingerprint'] == one.fingerprint
  assert any('no phase beside the SWI, so' in w for w in without.warnings)
  with says(InputError):
    chain.analyse(bare, two, options, threads=1)


def test_channels_reach_networks_in_their_order(folder, weights, monkeypatch):
  """Calcium is bright in the phase and dark in the magnitude behind it."""
  seen = []

  def look(self, cut):
    seen.append(cut[:, 12, 12, 6])
    return np.zeros((1, len(cut)))

  monkeypatch.setattr(classifier.Classifier, 'likelihood', look)
  two = classifier.described(weights / 'two')
  three = dataclasses.replace(two, channels=ALL)
  (scan,) = bids.find_scans(folder)
  options = chain.DetectOptions(regions=False)
  found = chain.analyse(scan, three, options, threads=1).candidates
  away = np.abs(found.centre[found.kept] - CALCIFIED).max(1)
  (middle,) = seen[0][away <= 1]
  weighted, phase, magnitude = middle
  assert phase > 0.55
  assert max(weighted, magnitude) < 0.4


def test_what_is_done_is_known_by_all_its_files(head, weights, tmp_path):
  write_head(tmp_path, head)
  (scan,) = bids.find_scans(tmp_path)
  settings = {
    name: batch.Settings(out=tmp_path / 'out', weights=weights / name)
    for name in ('one', 'two')
  }
  before = {n: batch.mark_of(scan, s) for n, s in settings.items()}
  write_head(tmp_path, head, sign=-1)
  after = {n: batch.mark_of(scan, s) for n, s in settings.items()}
  assert before['one'] == after['one']
  assert before['two'] != after['two']
  lesion_data.write_weights(tmp_path / 'other', networks=1)
  marks = {
    batch.mark_of(scan, dataclasses.replace(settings['two'], fallback=other))
    for other in (None, weights / 'one', tmp_path / 'other')
  }
  assert len(marks) == 3


def test_derived_channels_need_no_files(folder, tmp_path):
  """Networks get in `detect` what a data set holds, from the SWI alone."""
  names = ('swi', *channels.DERIVED)
  config = channels.data_set('resampled', names)
  assert config == 'resampled_wide_mirror_vessels_place'
  (scan,) = bids.find_scans(folder)
  bare = changed(scan, phase=(), magnitude=())
  assert scan_image.load_image(bare, names).lacking == {}
  assert chain.files_of(scan, names) == chain.files_of(scan)
  found = examples.load(examples.build('own', folder, tmp_path, config=config))
  seen = examples.seen(found)
  assert (
    seen.shape[1:] == (24, 24, 12, channels.depth(names)) == (24, 24, 12, 7)
  )
  lesion_data.write_weights(tmp_path / 'all', channels=list(names))
  weights = classifier.load(tmp_path / 'all')
  weights = dataclasses.replace(weights, patches='resampled')
  options = chain.DetectOptions(regions=False)
  result = chain.analyse(bare, weights, options, threads=1).result
  kept = result.candidates['kept']
  np.testing.assert_allclose(
    result.candidates['likelihood'][kept],
    weights.likelihood(seen).mean(0),
    atol=1e-6,
  )
