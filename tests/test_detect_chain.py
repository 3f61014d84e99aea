"""One scan to its lesions: the same however it is stored."""

import dataclasses
import itertools

import nibabel as nib
import numpy as np
import pytest

from cmbjax.candidates import stages
from cmbjax.detect import (
  batch,
  chain,
  classifier,
  counts,
  derivatives,
  records,
  remarks,
)
from cmbjax.errors import InputError
from cmbjax.imaging import registration, volume
from cmbjax.intake.scan_files import ScanFiles
from tests import lesion_data, scan_results, small_cohorts
from tests.messages import says

OPTIONS = chain.DetectOptions(regions=False)
OWN_STAGE = 'tests.own_parts:dark_spots'
OBLIQUE = nib.affines.from_matvec(
  nib.eulerangles.euler2mat(0.2, -0.15, 0.1), (5, -3, 8)
)


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'w'
  lesion_data.write_weights(folder)
  return classifier.load(folder)


@pytest.fixture(scope='module')
def phantom():
  return small_cohorts.phantom(1)


def scan_of(path, **changes):
  fields = {
    'subject': 'sub-01',
    'session': None,
    'name': 'sub-01',
    'swi': path,
    'magnitude': (),
    'phase': (),
    'mask': None,
    'sidecar': {'EchoTime': 0.02, 'MagneticFieldStrength': 3.0},
  }
  return ScanFiles(**{**fields, **changes})


def analyse(path, networks=None, options=OPTIONS, **changes):
  return chain.analyse(scan_of(path, **changes), networks, options, threads=1)


def facts(result):
  """What must not depend on how a file is stored."""
  return [
    (x.id, x.status, x.volume_mm3, x.feret_mm, x.contrast, x.category)
    for x in result.lesions
  ]


@pytest.fixture(scope='module')
def plain(phantom, networks, tmp_path_factory):
  path = tmp_path_factory.mktemp('plain') / 'a_swi.nii'
  small_cohorts.save(path, np.rint(phantom.swi), phantom.affine)
  mask = path.with_name('a_mask.nii')
  small_cohorts.save(mask, phantom.brain, phantom.affine)
  return path, analyse(path, networks, mask=mask)


@pytest.fixture(scope='module')
def mask(plain):
  return plain[0].with_name('a_mask.nii')


def test_every_ball_is_found_where_it_is(phantom, plain):
  result = plain[1].result
  assert len(result.found) == 5
  truth = nib.affines.apply_affine(
    phantom.affine, np.r_[phantom.lesion_voxels, phantom.mimic_voxels]
  )
  away = np.linalg.norm(
    truth[:, None] - [x.centre_mm for x in result.found], axis=-1
  )
  assert away.min(0).max() < 1.0
  assert away.min(1).max() < 1.0


def test_index_id_order_and_label_image_agree(plain):
  result = plain[1].result
  assert [x.index for x in result.found] == [1, 2, 3, 4, 5]
  assert [x.id for x in result.found] == [f'lesion-00{n}' for n in range(1, 6)]
  sure = [x.likelihood for x in result.found]
  assert sure == sorted(sure, reverse=True)
  voxel = np.prod(result.spacing_mm)
  for lesion in result.found:
    mine = result.labels == lesion.index
    assert mine.sum() * voxel == pytest.approx(lesion.volume_mm3)
    assert lesion.diameter_mm == pytest.approx(
      np.cbrt(6 * lesion.volume_mm3 / np.pi), rel=1e-4
    )
    middle = nib.affines.apply_affine(result.affine, np.argwhere(mine).mean(0))
    assert lesion.centre_mm == pytest.approx(tuple(middle), abs=1e-3)
    extent = (np.ptp(np.argwhere(mine), axis=0) + 1) * result.spacing_mm
    assert lesion.extent_mm == pytest.approx(tuple(extent))
  assert result.labels.max() == 5


def test_the_table_of_candidates_names_the_lesions(plain):
  table = plain[1].result.candidates
  assert len({len(column) for column in table.values()}) == 1
  for lesion in plain[1].result.lesions:
    row = lesion.candidate - 1
    assert table['lesion'][row] == lesion.id
    assert table['kept'][row]
    assert table['likelihood'][row] == pytest.approx(lesion.likelihood)
  dropped = ~table['kept']
  assert (table['reason'][dropped] != '').all()
  assert np.isnan(table['likelihood'][dropped]).all()


@pytest.mark.parametrize('tilt', [None, OBLIQUE], ids=['straight', 'oblique'])
def test_48_axis_orders(tilt, phantom, plain, mask, tmp_path):
  """Lesions, labels and native grid, in every order of the file's axes."""
  affine = phantom.affine if tilt is None else tilt @ phantom.affine
  image = nib.Nifti1Image(np.rint(phantom.swi).astype(np.uint8), affine)
  brain = nib.Nifti1Image(phantom.brain.astype(np.uint8), affine)
  nib.save(brain, tmp_path / 'mask.nii')
  expected = analyse(plain[0], mask=mask).result
  assert len(expected.found) == 5
  truth = None
  for order in itertools.permutations(range(3)):
    for flips in itertools.product((1, -1), repeat=3):
      moved = image.as_reoriented(np.array([*zip(order, flips)], float))
      path = tmp_path / 'b_swi.nii'
      nib.save(moved, path)
      analysis = analyse(path, mask=tmp_path / 'mask.nii')
      result = analysis.result
      assert facts(result) == facts(expected)
      np.testing.assert_array_equal(result.labels, expected.labels)
      centres = np.array([x.centre_mm for x in result.lesions])
      truth = centres if truth is None else truth
      np.testing.assert_allclose(centres, truth, atol=1e-3)
      written = derivatives.write_scan(tmp_path, analysis, page=False)
      back = nib.load(written[0])
      np.testing.assert_allclose(back.affine, moved.affine, atol=1e-5)
      assert back.shape == moved.shape
      native = np.asanyarray(back.dataobj)
      for row in lesion_data.read_table(written[1]):
        ijk = tuple(int(row[a]) for a in 'ijk')
        near = native[tuple(slice(max(v - 1, 0), v + 2) for v in ijk)]
        assert int(row['index']) in near


def stored(kind, phantom, path):
  """The same voxels in another file."""
  values, affine = np.rint(phantom.swi), phantom.affine
  if kind == 'int16 with slope':
    image = nib.Nifti1Image(values.astype(np.int16), affine)
    image.header.set_slope_inter(1.0, 0.0)
    raw = (values * 4 - 40).astype(np.int16)
    image = nib.Nifti1Image(raw, affine)
    image.header.set_slope_inter(0.25, 10.0)
    nib.save(image, path)
    # nibabel would rescale the array: write the raw integers.
    data = bytearray(path.read_bytes())
    data[352:] = raw.tobytes(order='F')
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    header.set_slope_inter(0.25, 10.0)
    data[:348] = header.binaryblock
    path.write_bytes(bytes(data))
    return
  if kind == 'float64':
    image = nib.Nifti1Image(values.astype(np.float64), affine)
  elif kind == '4-D':
    image = nib.Nifti1Image(values.astype(np.uint8)[..., None], affine)
  elif kind == 'NaN outside':
    values = values.astype(np.float32)
    values[values == 0] = np.nan
    image = nib.Nifti1Image(values, affine)
  elif kind == 'extension':
    image = nib.Nifti1Image(values.astype(np.uint8), affine)
    text = nib.nifti1.Nifti1Extension('comment', b'x' * 100)
    image.header.extensions.append(text)
  else:
    image = nib.Nifti1Image(values.astype(np.uint8), affine)
  nib.save(image, path)


@pytest.mark.parametrize(
  'kind',
  ['int16 with slope', 'float64', '4-D', 'NaN outside', 'extension', 'gz'],
)
def test_storage_changes_nothing(
  kind, phantom, plain, networks, mask, tmp_path
):
  path = tmp_path / ('c_swi.nii.gz' if kind == 'gz' else 'c_swi.nii')
  stored(kind, phantom, path)
  np.testing.assert_array_equal(
    volume.load(path).array.astype(np.float32), volume.load(plain[0]).array
  )
  result = analyse(path, networks, mask=mask).result
  assert facts(result) == facts(plain[1].result)
  np.testing.assert_array_equal(result.labels, plain[1].result.labels)


def test_threads_change_nothing(plain, networks, mask):
  scan = scan_of(plain[0], mask=mask)
  again = chain.analyse(scan, networks, OPTIONS, threads=3)
  assert again.result.lesions == plain[1].result.lesions


def test_without_networks_all_are_possible(plain, mask):
  result = analyse(plain[0], mask=mask).result
  assert len(result.lesions) == 5
  assert {x.status for x in result.lesions} == {'possible'}
  assert all(x.likelihood is None for x in result.lesions)
  assert result.counts['grade'] is None
  assert any('no networks' in text for text in result.warnings)


def test_the_domain_check_is_told_of_this_scan(plain, mask, monkeypatch):
  told = {}

  def warnings(facts, domain):
    told.update(facts)
    return ('unusual',)

  monkeypatch.setattr(chain.domain, 'warnings', warnings)
  result = analyse(plain[0], mask=mask).result
  assert 'unusual' in result.warnings
  litres = result.mask.sum() * np.prod(result.spacing_mm) / 1e6
  assert told['mask_ml'] == pytest.approx(1000 * litres)
  kept = result.candidates['kept'].sum()
  assert told['candidates_per_litre'] == pytest.approx(kept / litres)
  assert (told['field_t'], told['echo_time_s']) == (3.0, 0.02)


def test_counts_by_hand():
  def lesion(status, volume_mm3, *, counted=True):
    return scan_results.lesion(
      1, (0, 0, 0), np.eye(4), status, volume_mm3=volume_mm3, counted=counted
    )

  found = counts.count(
    [
      lesion('definite', 4.0),
      lesion('definite', 900.0, counted=False),
      lesion('possible', 2.5),
      lesion('rejected', 7.0),
      lesion('rejected', 8.0),
    ],
    classified=True,
  )
  names = ('definite', 'possible', 'counted', 'too_large', 'rejected')
  assert [found[name] for name in names] == [1, 1, 2, 1, 2]
  assert found['volume_mm3'] == 6.5


def test_a_threshold_decides_and_definite_is_never_below_it(
  plain, networks, mask
):
  each = [x.likelihood for x in plain[1].result.lesions]
  middle = float(np.median(each))
  options = chain.DetectOptions(threshold=middle, regions=False)
  result = analyse(plain[0], networks, options, mask=mask).result
  assert [x.likelihood > middle for x in result.lesions] == [
    x.status != 'rejected' for x in result.lesions
  ]
  assert result.operating_point['definite_threshold'] == 0.999
  assert [x.index for x in result.found] == [1, 2]
  assert [x.index for x in result.rejected] == [0, 0, 0]
  assert {x.note for x in result.lesions} == {''}
  assert result.rejected[0].volume_mm3 > 0
  reasons = result.candidates['reason']
  assert sum(reasons == 'likelihood') == 3


def test_an_empty_result_explains_itself(plain, networks, mask):
  options = chain.DetectOptions(threshold=0.9999, regions=False)
  result = analyse(plain[0], networks, options, mask=mask).result
  assert not result.found
  assert 'no microbleed was found' in result.warnings[0]
  assert result.top_rejected[0]['reason'] == 'likelihood'
  assert result.top_rejected[0]['id'] == result.rejected[0].id
  assert not result.labels.any()


def test_a_blank_brain_explains_itself(phantom, mask, tmp_path):
  path = tmp_path / 'd_swi.nii'
  rng = np.random.default_rng(0)
  flat = np.where(phantom.brain, 200 + rng.normal(size=phantom.brain.shape), 0)
  small_cohorts.save(path, flat.astype(np.float32), phantom.affine)
  result = analyse(path, mask=mask).result
  assert not result.found
  assert (
    'nothing' in result.warnings[0] or 'no microbleed' in result.warnings[0]
  )


def test_a_large_lesion_is_outlined_and_not_counted(tmp_path):
  """11 mm across: two candidates see it, and it is one lesion."""
  one = small_cohorts.phantom(
    3, num_lesions=0, num_mimics=0, shape=(96, 90, 24)
  )
  grid = np.stack(np.indices(one.swi.shape), -1)
  away = (grid - (48, 44, 12)) * small_cohorts.SPACING_MM
  radius = np.linalg.norm(away, axis=-1)
  dark = 0.95 * np.exp(-((radius / 5.5) ** 4))
  path = tmp_path / 'e_swi.nii'
  small_cohorts.save(path, one.swi * (1 - dark), one.affine)
  small_cohorts.save(tmp_path / 'm.nii', one.brain, one.affine)
  result = analyse(path, mask=tmp_path / 'm.nii').result
  assert sum(result.candidates['kept']) == 2
  assert 'same as a better one' in result.candidates['reason']
  (lesion,) = result.found
  assert max(lesion.diameter_mm, lesion.feret_mm) > 10
  assert not lesion.counted
  name = 'Feret' if lesion.feret_mm > lesion.diameter_mm else 'equivalent'
  assert lesion.note.startswith(f'{name} diameter')
  assert result.labels.max() == 1
  assert result.counts['too_large'] == 1
  assert result.counts['counted'] == 0


def test_regions_unknown_are_said_not_hidden(plain, mask):
  """A phantom of 8 ml cannot be placed; its lesions are there all the same."""
  result = analyse(plain[0], None, chain.DetectOptions(), mask=mask).result
  assert len(result.found) == 5
  assert {x.region for x in result.found} == {'unknown'}
  assert any('regions are not known' in text for text in result.warnings)


def test_an_own_atlas_names_the_places(plain, mask, tmp_path, monkeypatch):
  """Each half of the phantom, as if its world were MNI."""
  found = registration.Registration(np.eye(4), 1.0, 0.0)
  monkeypatch.setattr(registration, 'register', lambda *_: found)
  halves = np.ones((20, 20, 20), np.uint8)
  halves[10:] = 2
  affine = nib.affines.from_matvec(np.diag([4.0, 4, 4]), (-38, -60, -40))
  path = small_cohorts.save(tmp_path / 'mine.nii.gz', halves, affine)
  (tmp_path / 'mine.tsv').write_text('index\tname\n1\tmy left\n2\tmy right\n')
  options = chain.DetectOptions(atlas=path)
  lesions = analyse(plain[0], None, options, mask=mask).result.found
  named = {x.region: x.centre_mm[0] > 0 for x in lesions}
  assert named == {'my left': False, 'my right': True}


def test_the_last_echo_is_what_was_judged_without_a_phase(plain, tmp_path):
  """A review shows the image that the record names."""
  echoes = (tmp_path / 'first.nii', tmp_path / 'last.nii')
  record = records.write_record(
    tmp_path, plain[1].result, 'mark', [], scan=scan_of(None, magnitude=echoes)
  )
  assert record['images']['swi'] == ['last.nii']
  assert 'cartesian' not in record


def test_a_record_says_that_images_are_real_and_imaginary(plain, tmp_path):
  """A review would take the real part for the magnitude."""
  scan = dataclasses.replace(
    scan_of(None, magnitude=(tmp_path / 'real.nii',)), cartesian=True
  )
  record = records.write_record(
    tmp_path, plain[1].result, 'mark', [], scan=scan
  )
  assert record['cartesian']


def test_each_doubt_is_one_sentence():
  """What the image shows is said by `appearance`, and here no second time."""
  array = np.ones((8, 8, 8), np.float32)
  mask = np.ones(array.shape, bool)
  image = volume.from_array(array, np.eye(4))
  (crop,) = remarks.of_image(image, mask)
  assert 'crop' in crop
  assert 'inverted' not in crop
  mask[:2] = False
  array[:2] = 5
  (bright,) = remarks.of_image(image, mask)
  assert 'inverted' in bright
  assert 'crop' not in bright
  array[:2] = 0
  mask[0] = mask[-1] = False
  assert not list(remarks.of_image(image, mask))


def test_protocol_stands_beside_sizes(plain, tmp_path):
  written = derivatives.write_scan(tmp_path, plain[1], page=False)
  rows = lesion_data.read_table(written[1])
  assert len(rows) == 5
  assert {(r['field_t'], r['echo_time_s']) for r in rows} == {('3', '0.02')}
  native = lesion_data.load(written[0])
  assert native.dtype == np.uint16
  for row in rows:
    count = np.sum(native == int(row['index']))
    assert float(row['volume_mm3']) == pytest.approx(
      count * np.prod(small_cohorts.SPACING_MM)
    )


def test_magnitude_alone_is_used_and_said(plain, mask):
  result = analyse(None, magnitude=(plain[0],), mask=mask).result
  assert result.protocol['made'] == 'magnitude'
  assert any('no phase' in text for text in result.warnings)


def test_a_mask_on_another_grid_is_refused(plain, tmp_path):
  path = small_cohorts.save(
    tmp_path / 'm.nii', np.ones((4, 4, 4), np.uint8), np.eye(4)
  )
  with says(InputError):
    analyse(plain[0], mask=path)


def test_unknown_point_names_the_ones_there_are(plain, networks, mask):
  options = chain.DetectOptions(operating_point='best')
  with says(InputError, 'high_sensitivity'):
    analyse(plain[0], networks, options, mask=mask)


def test_doubtful_images_are_doubted(phantom, plain, mask, tmp_path):
  def warnings(array, affine=phantom.affine, **changes):
    path = tmp_path / f'{len(list(tmp_path.iterdir()))}_swi.nii'
    nib.save(nib.Nifti1Image(np.asarray(array, np.float32), affine), path)
    return ' '.join(analyse(path, **changes).result.warnings)

  doubts = ('header does not', 'is not inverted', 'only 1 slice')
  usual = ' '.join(plain[1].result.warnings)
  assert not any(some in usual for some in doubts)
  swi = phantom.swi
  assert 'header does not say' in warnings(swi, None)
  assert 'brain mask is darker' in warnings(swi.max() - swi, mask=mask)
  with says(InputError):
    warnings(swi, phantom.affine @ np.diag([12, 12, 12, 1]), mask=None)


def test_networks_that_know_nothing_here_say_so(plain, mask, tmp_path):
  points = {**lesion_data.POINTS, 'points': dict(lesion_data.POINTS['points'])}
  points['points']['high_precision'] = {
    'threshold': 0.999,
    'rule': 'a test',
    'precision': 0.08,
  }
  lesion_data.write_weights(tmp_path / 'w', points=points, simulated=True)
  networks = classifier.load(tmp_path / 'w')
  warnings = ' '.join(analyse(plain[0], networks, mask=mask).result.warnings)
  assert 'learned from simulated scans' in warnings
  assert 'right for 8%' in warnings
  for made in ('learned from simulated', 'was right for'):
    assert made not in ' '.join(plain[1].result.warnings)


def test_a_scan_of_the_training_is_no_test(plain, mask, tmp_path):
  """Simulated people only: labels of patients are used again and again."""
  known = ['sub-01', 'sub-01@5']
  lesion_data.write_weights(tmp_path / 'w', persons=known, networks=1)
  networks = classifier.load(tmp_path / 'w')
  for sidecar, told in (
    ({'Simulated': True, 'SimulationSeed': 5}, True),
    ({'Simulated': True, 'SimulationSeed': 6}, False),
    ({}, False),
  ):
    sidecar = {'EchoTime': 0.02, 'MagneticFieldStrength': 3.0, **sidecar}
    result = analyse(plain[0], networks, mask=mask, sidecar=sidecar).result
    found = ' '.join(result.warnings)
    assert ('learned from this simulated person' in found) is told


@pytest.mark.parametrize(
  ('learned', 'asked', 'used', 'told'),
  [
    (None, None, 'frst', ''),
    (OWN_STAGE, None, OWN_STAGE, ''),
    (OWN_STAGE, OWN_STAGE, OWN_STAGE, ''),
    (None, OWN_STAGE, OWN_STAGE, f'found by {OWN_STAGE}'),
    (OWN_STAGE, 'frst', 'frst', f'learned from candidates of {OWN_STAGE}'),
  ],
)
def test_networks_judge_the_candidates_they_learned_from(
  plain, mask, tmp_path, monkeypatch, learned, asked, used, told
):
  """Or the result says that they did not."""
  known = {} if learned is None else stages.facts(learned)
  lesion_data.write_weights(tmp_path / 'w', networks=1, **known)
  networks = classifier.load(tmp_path / 'w')
  seen, propose = [], stages.propose

  def spy(*scan, gates, jobs):
    seen.append(gates.generator)
    return propose(*scan, gates=gates, jobs=jobs)

  monkeypatch.setattr(stages, 'propose', spy)
  options = chain.DetectOptions(candidates=asked, regions=False)
  result = analyse(plain[0], networks, options, mask=mask).result
  assert seen == [used]
  found = ' '.join(result.warnings)
  assert told in found
  assert ('thresholds learned' in found) is bool(told)


def test_an_own_stage_that_changed_since_is_said(tmp_path, monkeypatch):
  known = {'candidates': 'my_spots:spots', 'candidates_code': 'before'}
  lesion_data.write_weights(tmp_path / 'w', networks=1, **known)
  networks = classifier.load(tmp_path / 'w')
  assert networks.candidates == 'my_spots:spots'
  for code, told in (('before', False), ('after', True)):
    monkeypatch.setattr(stages, 'code', lambda name, code=code: code)
    found = remarks.other_candidates('my_spots:spots', networks)
    assert any('is not the code' in text for text in found) is told


def test_another_stage_or_other_code_of_it_is_another_result(
  plain, tmp_path, monkeypatch
):
  """What decides whether `detect` does a scan again."""
  lesion_data.write_weights(tmp_path / 'w', networks=1, candidates=OWN_STAGE)
  scan = scan_of(plain[0])

  def mark(**change):
    options = chain.DetectOptions(**change)
    return batch.mark_of(
      scan, batch.Settings(tmp_path, tmp_path / 'w', options=options)
    )

  usual = mark()
  assert mark() == usual == mark(candidates=OWN_STAGE)
  assert mark(candidates='frst') != usual
  monkeypatch.setattr(stages, 'code', lambda name: 'other')
  assert mark() != usual
