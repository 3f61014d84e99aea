"""What a person points at, to cases, and cases to voxels and candidates."""

import dataclasses
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import slices, volume
from cmbjax.review.cases import case as cases
from cmbjax.review.cases import sources
from tests import review_server, small_cohorts
from tests.messages import says

ROW = 'index\tname\tx\ty\tz\tlikelihood\tstatus\tlocation\n'


def mask_of(candidate, shape):
  found = np.zeros(int(np.prod(shape)), bool)
  found[candidate.voxels] = True
  return found.reshape(shape, order='F')


@pytest.fixture(scope='module')
def one(tmp_path_factory):
  """An image and its labels; nobody changes them."""
  folder = tmp_path_factory.mktemp('one')
  return review_server.write_scan(folder)


@pytest.fixture
def cohort(tmp_path):
  root = tmp_path / 'bids'
  made = small_cohorts.write_cohort(root, subjects=3)
  return root, made


def only(found):
  (case,) = found.cases
  return case


# One file.


def test_one_image_and_its_labels(one):
  image, labels, phantom = one
  case = only(sources.find(image, labels=labels))
  assert (case.name, case.subject, case.session) == ('sub-01', 'sub-01', None)
  assert case.source == 'sub-01_swi.nii.gz'
  loaded = cases.load(case)
  assert [c.index for c in loaded.candidates] == [1, 2, 3, 4, 5, 6]
  for number, found in enumerate(loaded.candidates[:4], 1):
    own = mask_of(found, phantom.swi.shape)
    np.testing.assert_array_equal(own, phantom.lesions == number)
    assert own[found.ijk]
  assert len(loaded.image_sha256) == len(loaded.labels_sha256) == 64


def test_an_image_alone_has_no_candidates(one):
  case = only(sources.find(one[0]))
  loaded = cases.load(case)
  assert loaded.candidates == ()
  assert loaded.labels_sha256 is None


def test_reviews_of_one_file_lie_beside_it_or_with_its_data_set(cohort, one):
  image = one[0]
  assert sources.find(image).reviews == image.resolve().parent / 'review'
  root = cohort[0]
  path = root / 'sub-01/anat/sub-01_swi.nii.gz'
  wanted = root.resolve() / 'derivatives/cmbjax/sourcedata/review'
  assert sources.find(path).reviews == wanted


def test_names_of_files_that_are_not_bids(tmp_path, one):
  path = tmp_path / 'Scan 7 (final).nii.gz'
  shutil.copy(one[0], path)
  assert only(sources.find(path)).name == 'sub-7'


def test_a_binary_mask_is_taken_apart(tmp_path, one):
  image, _, phantom = one
  array = small_cohorts.phantom(1, num_lesions=4).lesions > 0
  path = small_cohorts.save(tmp_path / 'm_mask.nii', array, phantom.affine)
  loaded = cases.load(only(sources.find(image, labels=path)))
  assert len(loaded.candidates) == 4
  union = sum(mask_of(c, array.shape) for c in loaded.candidates)
  np.testing.assert_array_equal(union > 0, array)


def test_a_mask_with_values_is_taken_apart_too(tmp_path, one):
  image, _, phantom = one
  array = phantom.lesions.astype(np.uint8)
  array[array > 0] = 2
  path = small_cohorts.save(tmp_path / 'a_mask.nii', array, phantom.affine)
  loaded = cases.load(only(sources.find(image, labels=path)))
  assert len(loaded.candidates) == 4


@pytest.mark.parametrize('name', ['lesions.nii.gz', 'a_mask.nii.gz'])
def test_labels_that_touch_stay_apart_whatever_the_file_is_called(
  tmp_path, one, name
):
  image, _, phantom = one
  array = np.zeros(phantom.swi.shape, np.int32)
  array[4:6, 4:6, 4] = 70_000
  array[6:8, 4:6, 4] = 3
  array[12:14, 12:14, 6] = 3  # the same number far away is another lesion
  path = small_cohorts.save(tmp_path / name, array, phantom.affine)
  loaded = cases.load(only(sources.find(image, labels=path)))
  assert [len(c.voxels) for c in loaded.candidates] == [4, 4, 4]
  for found in loaded.candidates:
    mask = mask_of(found, array.shape)
    assert len(np.unique(array[mask])) == 1


def test_an_empty_label_image(tmp_path, one):
  image, _, phantom = one
  array = np.zeros(phantom.swi.shape, np.uint8)
  path = small_cohorts.save(tmp_path / 'e_dseg.nii', array, phantom.affine)
  assert cases.load(only(sources.find(image, labels=path))).candidates == ()


@pytest.mark.parametrize('axes', ['RAS', 'LPS', 'PIR', 'ASL'])
def test_labels_in_another_order_of_axes(tmp_path, one, axes):
  """The same voxels, however each file counts them."""
  image, labels, _ = one
  straight = nib.load(labels)
  turn = nib.orientations.ornt_transform(
    nib.orientations.io_orientation(straight.affine),
    nib.orientations.axcodes2ornt(axes),
  )
  turned = tmp_path / 'turned_dseg.nii.gz'
  nib.save(straight.as_reoriented(turn), turned)
  first = cases.load(only(sources.find(image, labels=labels)))
  second = cases.load(only(sources.find(image, labels=turned)))
  for a, b in zip(first.candidates, second.candidates, strict=True):
    np.testing.assert_array_equal(a.voxels, b.voxels)
    assert a.ijk == b.ijk


def test_labels_on_another_grid_name_both_files(tmp_path, one):
  image, _, phantom = one
  path = tmp_path / 'other_dseg.nii'
  small_cohorts.save(path, phantom.lesions[1:], phantom.affine)
  with pytest.raises(InputError) as error:
    sources.find(image, labels=path)
  assert str(path) in str(error.value)
  assert str(image) in str(error.value)
  affine = phantom.affine.copy()
  affine[0, 3] += 1
  small_cohorts.save(path, phantom.lesions, affine)
  with says(InputError):
    sources.find(image, labels=path)


# The table beside.


def test_the_table_beside_labels(tmp_path, one):
  image, labels, _ = one
  shutil.copy(labels, tmp_path / 'a_dseg.nii.gz')
  (tmp_path / 'a_dseg.tsv').write_text(
    ROW
    + '1\tleft one\t0\t0\t0\t0.25\tdefinite\tlobar\n'
    + '2\tn/a\t0\t0\t0\tn/a\tn/a\tmoon\n'
    + '3\tleft one\t0\t0\t0\t7\tPossible\tdeep\n'
  )
  found = only(sources.find(image, labels=tmp_path / 'a_dseg.nii.gz'))
  first, second, third, *rest = cases.load(found).candidates
  assert (first.id, first.score, first.status, first.region) == (
    'left one',
    0.25,
    'definite',
    'lobar',
  )
  assert (second.id, second.score, second.status, second.region) == (
    'lesion-002',
    None,
    None,
    'unknown',
  )
  assert (third.id, third.score, third.status) == (
    'left one-2',
    None,
    'possible',
  )
  assert len(rest) == 3
  assert len(found.rows) == 3


def test_a_row_without_voxels_is_a_point(tmp_path, one):
  image, labels, phantom = one
  shutil.copy(labels, tmp_path / 'a_dseg.nii.gz')
  x, y, z = phantom.affine[:3, 3] + phantom.affine[:3, :3] @ (30, 20, 8)
  (tmp_path / 'a_dseg.tsv').write_text(
    f'{ROW}9\tlost\t{x}\t{y}\t{z}\t0.5\tn/a\tn/a\n'
    f'10\toutside\t{x + 900}\t{y}\t{z}\t0.5\tn/a\tn/a\n'
  )
  found = only(sources.find(image, labels=tmp_path / 'a_dseg.nii.gz'))
  names = {c.id: c for c in cases.load(found).candidates}
  assert names['lost'].ijk == (30, 20, 8)
  assert len(names['lost'].voxels) == 0
  assert 'outside' not in names


def test_points_get_the_outline_that_grows_there(tmp_path, one):
  image, _, phantom = one
  world = phantom.lesion_voxels @ phantom.affine[:3, :3].T
  world = world + phantom.affine[:3, 3]
  rows = ['\t'.join(f'{v:.3f}' for v in row) for row in world]
  path = tmp_path / 'points.tsv'
  path.write_text('x\ty\tz\n' + '\n'.join(rows) + '\n')
  loaded = cases.load(only(sources.find(image, labels=path)))
  assert len(loaded.candidates) == len(world)
  for found, place, number in zip(
    loaded.candidates, phantom.lesion_voxels, range(1, 5)
  ):
    assert found.ijk == tuple(place)
    own = mask_of(found, phantom.swi.shape)
    truth = phantom.lesions == number
    assert 2 * (own & truth).sum() / (own.sum() + truth.sum()) > 0.6


def test_points_outside_are_an_error(tmp_path, one):
  path = tmp_path / 'points.tsv'
  path.write_text('x\ty\tz\n900\t0\t0\n')
  with says(InputError):
    cases.load(only(sources.find(one[0], labels=path)))


# A data set.


def test_a_cohort_with_its_truth(cohort):
  root, made = cohort
  found = sources.find(root)
  assert [case.name for case in found.cases] == ['sub-01', 'sub-02', 'sub-03']
  assert found.reviews == root / 'derivatives/cmbjax/sourcedata/review'
  case = found.cases[1]
  assert case.protocol == {'field_t': 7.0, 'echo_time_s': 0.016}
  assert not case.simulated
  loaded = cases.load(case)
  for number, one in enumerate(loaded.candidates, 1):
    own = mask_of(one, made['sub-02'].swi.shape)
    np.testing.assert_array_equal(own, made['sub-02'].lesions == number)


def test_simulated_cohorts_say_so(tmp_path):
  small_cohorts.write_cohort(tmp_path / 'c', subjects=1, simulated=True)
  assert only(sources.find(tmp_path / 'c')).simulated


def test_a_cohort_without_labels(cohort):
  root, _ = cohort
  shutil.rmtree(root / 'derivatives')
  found = sources.find(root)
  assert len(found.cases) == 3
  assert cases.load(found.cases[0]).candidates == ()


@pytest.mark.parametrize(
  'name',
  [
    'sub-01_dseg.nii.gz',
    'sub-01_desc-lesion_mask.nii.gz',
    'sub-01_space-orig_label-lesion_mask.nii.gz',
  ],
)
def test_any_labels_below_derivatives(cohort, name):
  root, made = cohort
  shutil.rmtree(root / 'derivatives')
  path = root / 'derivatives/ours/sub-01/anat' / name
  small_cohorts.save(path, made['sub-01'].lesions, made['sub-01'].affine)
  (root / 'sub-01/anat/sub-01_desc-brain_mask.nii.gz').unlink()
  brain = path.with_name('sub-01_label-brain_mask.nii.gz')
  small_cohorts.save(brain, made['sub-01'].brain, made['sub-01'].affine)
  assert sources.find(root).cases[0].labels == path


def test_two_label_images_are_a_question(cohort):
  root, made = cohort
  shutil.rmtree(root / 'derivatives')
  for name in ('a', 'b'):
    path = root / f'derivatives/{name}/sub-01/anat/sub-01_dseg.nii.gz'
    small_cohorts.save(path, made['sub-01'].lesions, made['sub-01'].affine)
  found = sources.find(root)
  assert [case.name for case in found.cases] == ['sub-02', 'sub-03']
  (why,) = found.left_out
  assert 'derivatives/a' in why
  assert 'derivatives/b' in why
  assert '--labels' in why
  fine = sources.find(root, labels=root / 'derivatives/a')
  assert [case.name for case in fine.cases] == ['sub-01']


def test_what_was_detected_is_reviewed_where_there_is_no_truth(cohort):
  root, made = cohort
  shutil.rmtree(root / 'derivatives')
  path = root / 'derivatives/cmbjax/sub-01/anat/'
  path /= 'sub-01_space-orig_seg-cmb_dseg.nii.gz'
  small_cohorts.save(path, made['sub-01'].lesions, made['sub-01'].affine)
  facts = {'OperatingPoint': {'fingerprint': 'abc'}}
  path.with_name(path.name.replace('.nii.gz', '.json')).write_text(
    json.dumps(facts)
  )
  case = sources.find(root).cases[0]
  assert case.labels == path
  assert case.fingerprint == 'abc'


def test_a_finished_review_is_judged_again_whole(cohort):
  """Accepted and rejected ones, which may have the same numbers."""
  root, made = cohort
  accepted = small_cohorts.label_path(root, 'sub-01')
  rejected = accepted.with_name('sub-01_seg-mimic_dseg.nii.gz')
  one = made['sub-01']
  small_cohorts.save(rejected, one.mimics.astype(np.uint8), one.affine)
  beside = accepted.with_name('sub-01_seg-cmb_dseg.json')
  beside.write_text('{"AllCandidatesReviewed": true}')
  loaded = cases.load(sources.find(root).cases[0])
  assert len(loaded.candidates) == 5
  assert len({c.index for c in loaded.candidates}) == 5
  assert len({c.id for c in loaded.candidates}) == 5


def test_participants_may_be_chosen(cohort):
  root, _ = cohort
  found = sources.find(root, participants=['02', 'sub-03'])
  assert [case.name for case in found.cases] == ['sub-02', 'sub-03']
  with says(InputError):
    sources.find(root, participants=['77'])


def test_sessions_are_cases(tmp_path):
  for session in ('ses-1', 'ses-2'):
    one = small_cohorts.phantom(3)
    small_cohorts.write_scan(tmp_path, 'sub-01', one, session=session)
  found = sources.find(tmp_path)
  assert [c.name for c in found.cases] == ['sub-01_ses-1', 'sub-01_ses-2']


def test_one_bad_subject_does_not_stop_the_others(cohort):
  root, _ = cohort
  anat = root / 'sub-02/anat'
  shutil.copy(anat / 'sub-02_swi.nii.gz', anat / 'sub-02_acq-b_swi.nii.gz')
  (root / 'sub-03/anat/sub-03_swi.nii.gz').write_bytes(b'no image')
  found = sources.find(root)
  assert [case.name for case in found.cases] == ['sub-01']
  assert len(found.left_out) == 2


def test_the_folders_of_the_labeler(tmp_path):
  small_cohorts.write_lupolab(tmp_path, subjects=2)
  found = sources.find(tmp_path)
  assert len(found.cases) == 2
  assert len(cases.load(found.cases[0]).candidates) == 5


# Further sequences.


@pytest.fixture
def signal(tmp_path):
  """SWI, magnitude and phase of one scan."""
  root, one = tmp_path / 'bids', small_cohorts.phantom(2)
  anat = small_cohorts.write_scan(root, 'sub-01', one)
  rng = np.random.default_rng(0)
  magnitude = one.swi + 20
  slow = np.linspace(-9, 9, 64)[:, None, None]
  phase = np.angle(np.exp(1j * (slow + 0.1 * rng.normal(size=one.swi.shape))))
  for part, array in (('mag', magnitude), ('phase', phase)):
    path = anat / f'sub-01_part-{part}_T2starw.nii.gz'
    small_cohorts.save(path, array.astype(np.float32), one.affine)
  (anat / 'sub-01_part-phase_T2starw.json').write_text('{"Units": "rad"}')
  return root, anat, one


def test_phase_and_magnitude_on_the_same_grid(signal):
  root, _, one = signal
  case = only(sources.find(root))
  assert [s.name for s in case.sequences] == ['swi', 'magnitude', 'phase']
  image, _ = cases.read_image(case)
  magnitude = cases.read_sequence(case, 'magnitude', image)
  np.testing.assert_allclose(magnitude, one.swi + 20, rtol=1e-5)
  phase = cases.read_sequence(case, 'phase', image)
  assert phase.shape == one.swi.shape
  inner = phase[16:48, 15:45, 4:12]
  assert np.abs(inner).max() < 1.5  # the slow part of 18 rad has gone
  assert inner.std() > 0.02  # what is left is not nothing


def test_swapped_files_show_the_true_magnitude(signal):
  root, anat, one = signal
  files_of = [
    anat / f'sub-01_part-{part}_T2starw.nii.gz' for part in ('mag', 'phase')
  ]
  for path, kind in zip(files_of, 'PM'):  # the wrong way round
    path.with_name(path.name.split('.')[0] + '.json').write_text(
      json.dumps({'ImageType': ['ORIGINAL', 'PRIMARY', kind]})
    )
  keep = files_of[0].with_name('keep')
  files_of[0].rename(keep)
  files_of[1].rename(files_of[0])
  keep.rename(files_of[1])
  case = only(sources.find(root))
  image, _ = cases.read_image(case)
  magnitude = cases.read_sequence(case, 'magnitude', image)
  np.testing.assert_allclose(magnitude, one.swi + 20, rtol=1e-5)
  phase = cases.read_sequence(case, 'phase', image)
  assert np.abs(phase[16:48, 15:45, 4:12]).max() < 1.5


def test_a_magnitude_is_shown_whatever_its_phase_is(signal):
  root, anat, one = signal
  (anat / 'sub-01_part-phase_T2starw.json').write_text('{"Units": "Hz"}')
  case = only(sources.find(root))
  image, _ = cases.read_image(case)
  magnitude = cases.read_sequence(case, 'magnitude', image)
  np.testing.assert_allclose(magnitude, one.swi + 20, rtol=1e-5)


def test_a_phase_alone_is_in_the_unit_that_it_says(signal):
  root, anat, one = signal
  wanted = np.linspace(0, 1, one.swi.size, dtype=np.float32)
  wanted = wanted.reshape(one.swi.shape)
  path = anat / 'sub-01_part-phase_T2starw.nii.gz'
  small_cohorts.save(path, wanted, one.affine)
  case = dataclasses.replace(only(sources.find(root)), signal=None)
  found = cases.read_sequence(case, 'phase', cases.read_image(case)[0])
  np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_phase_is_filtered_as_its_field_wants(signal, monkeypatch):
  root, anat, _ = signal
  for part in ('mag', 'phase'):
    fields = {'Units': 'rad', 'MagneticFieldStrength': 7.0}
    path = anat / f'sub-01_part-{part}_T2starw.json'
    path.write_text(json.dumps(fields))
  seen = []

  def homodyne(whole, _, *, sigma_mm):
    seen.append(sigma_mm)
    return np.angle(whole)

  monkeypatch.setattr(cases.phase, 'homodyne', homodyne)
  case = only(sources.find(root))
  cases.read_sequence(case, 'phase', cases.read_image(case)[0])
  assert seen == [1.9]


def test_a_sequence_on_another_grid_is_left_out(signal):
  root, anat, one = signal
  path = anat / 'sub-01_part-phase_T2starw.nii.gz'
  small_cohorts.save(path, one.swi[::2].astype(np.float32), one.affine)
  case = only(sources.find(root))
  assert [s.name for s in case.sequences] == ['swi', 'magnitude']
  (notice,) = cases.load(case).notices
  assert path.name in notice


def test_an_swi_is_made_where_there_is_none(signal):
  root, anat, _ = signal
  (anat / 'sub-01_swi.nii.gz').unlink()
  case = only(sources.find(root))
  assert case.image is None
  assert case.sequences[0].label == 'SWI'
  loaded = cases.load(case)
  assert loaded.image.array.shape == (64, 60, 16)
  assert any('made from magnitude and phase' in n for n in loaded.notices)
  again = cases.load(case)
  np.testing.assert_array_equal(loaded.image.array, again.image.array)


def test_a_magnitude_alone_is_called_so(signal):
  root, anat, one = signal
  (anat / 'sub-01_swi.nii.gz').unlink()
  (anat / 'sub-01_part-phase_T2starw.nii.gz').unlink()
  case = only(sources.find(root))
  assert [(s.name, s.label) for s in case.sequences] == [('swi', 'Magnitude')]
  image, _ = cases.read_image(case)
  np.testing.assert_allclose(image.array, one.swi + 20, rtol=1e-5)


# Results of `cmbjax detect`.


def write_results(out, image, labels, **record):
  """One scan of results by hand; `tests/e2e` has the real ones."""
  anat = out / 'sub-01' / 'anat'
  anat.mkdir(parents=True)
  path = anat / 'sub-01_space-orig_seg-cmb_dseg.nii.gz'
  shutil.copy(labels, path)
  (anat / 'sub-01_space-orig_seg-cmb_dseg.json').write_text(
    json.dumps(
      {
        'Sources': [image.name],
        'Simulated': True,
        'MagneticFieldStrength': 7.0,
        'EchoTime': 0.02,
        'OperatingPoint': {'fingerprint': 'f00'},
        'Protocol': {'made': 'given'},
      }
    )
  )
  record = {
    'mark': 'x',
    'files': [str(path.relative_to(out))],
    'row': {'name': 'sub-01', 'session': None},
    **record,
  }
  (out / 'logs').mkdir()
  (out / 'logs' / 'sub-01.json').write_text(json.dumps(record))
  return out


@pytest.fixture
def results(tmp_path, one):
  folder = tmp_path / 'data'
  folder.mkdir()
  image = folder / 'sub-01_swi.nii.gz'
  shutil.copy(one[0], image)
  images = {'swi': ['../data/sub-01_swi.nii.gz'], 'magnitude': [], 'phase': []}
  out = write_results(tmp_path / 'out', image, one[1], images=images)
  return out, image


def test_results_know_their_image(results):
  out, image = results
  found = sources.find(out)
  case = only(found)
  assert case.image.resolve() == image.resolve()
  assert found.reviews == out / 'sourcedata/review'
  assert case.simulated
  assert case.fingerprint == 'f00'
  assert case.protocol == {'field_t': 7.0, 'echo_time_s': 0.02}
  assert len(cases.load(case).candidates) == 6


@pytest.mark.parametrize('lost', [None, 'imag'])
def test_results_of_real_and_imaginary_parts(results, lost):
  out, image = results
  size = nib.load(image).shape
  parts = {'real': 30 * np.ones(size), 'imag': -40 * np.ones(size)}
  parts['real'][:2] = -30
  names = {'swi': ['../data/sub-01_swi.nii.gz']}
  for (part, array), kind in zip(parts.items(), ('magnitude', 'phase')):
    path = image.with_name(f'sub-01_part-{part}_T2starw.nii.gz')
    small_cohorts.save(path, array.astype(np.float32), nib.load(image).affine)
    names[kind] = [f'../data/{path.name}']
    if part == lost:
      path.unlink()
  path = out / 'logs/sub-01.json'
  record = json.loads(path.read_text())
  record |= {'images': names, 'cartesian': True}
  path.write_text(json.dumps(record))
  case = only(sources.find(out))
  if lost:  # one part alone is neither magnitude nor phase
    assert [s.name for s in case.sequences] == ['swi']
    return
  shown, _ = cases.read_image(case)
  magnitude = cases.read_sequence(case, 'magnitude', shown)
  np.testing.assert_allclose(magnitude, 50, rtol=1e-6)
  assert cases.read_sequence(case, 'phase', shown).shape == size


def test_results_show_the_last_echo(results):
  out, image = results
  echoes = [image.with_name(f'sub-01_echo-{n}_mag.nii.gz') for n in (1, 2)]
  for path in echoes:
    shutil.copy(image, path)
  path = out / 'logs/sub-01.json'
  record = json.loads(path.read_text())
  record['images']['magnitude'] = list(map(str, echoes))
  path.write_text(json.dumps(record))
  assert only(sources.find(out)).sequences[1].path == echoes[1]


@pytest.mark.parametrize(
  ('made', 'label'),
  [('given', 'SWI'), ('reconstructed', 'SWI'), ('magnitude', 'Magnitude')],
)
def test_results_say_what_was_judged(results, made, label):
  (path,) = results[0].glob('sub-01/anat/*_dseg.json')
  fields = json.loads(path.read_text()) | {'Protocol': {'made': made}}
  path.write_text(json.dumps(fields))
  assert only(sources.find(results[0])).sequences[0].label == label


def test_images_that_were_moved(results, tmp_path):
  out, image = results
  new = tmp_path / 'elsewhere' / 'deep'
  new.mkdir(parents=True)
  image.rename(new / image.name)
  with says(InputError, '--images') as error:
    sources.find(out)
  assert image.name in str(error.value)
  found = sources.find(out, images=tmp_path / 'elsewhere')
  assert only(found).image == new / image.name


def test_images_that_are_not_there_either(results, tmp_path):
  out, image = results
  image.unlink()
  (tmp_path / 'empty').mkdir()
  with says(InputError, '--images'):
    sources.find(out, images=tmp_path / 'empty')


def test_of_several_images_of_one_name_the_one_on_the_grid(
  results, tmp_path, one
):
  out, image = results
  for name, array in (('a', one[2].swi[1:]), ('b', one[2].swi)):
    path = tmp_path / 'moved' / name / image.name
    small_cohorts.save(path, array, one[2].affine)
  image.unlink()
  found = sources.find(out, images=tmp_path / 'moved')
  assert only(found).image.parent.name == 'b'


def test_an_image_that_was_replaced_by_another_size(results, one):
  out, image = results
  small_cohorts.save(image, one[2].swi[:, 1:], one[2].affine)
  with says(InputError) as error:
    sources.find(out)
  assert image.name in str(error.value)


@pytest.mark.parametrize(
  'change',
  [
    {'images': None},
    {'images': 'x'},
    {'images': {'swi': 'x'}},
    {'images': {'swi': [{}]}},
    {'files': 'x'},
    {'files': [3]},
    {'files': None},
    {'files': {'a': 1}},
  ],
)
def test_spoilt_records_are_sentences(results, change):
  path = results[0] / 'logs/sub-01.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with says(InputError):
    sources.find(results[0])


def test_scans_that_failed_are_left_out(results):
  out, _ = results
  (out / 'logs/sub-02.json').write_text('{"row": {"status": "failed"}}')
  found = sources.find(out)
  assert len(found.cases) == 1
  assert 'sub-02' in found.left_out[0]


# Mistakes.


@pytest.mark.parametrize(
  ('source', 'options', 'kind', 'words'),
  [
    ('none', {}, NoInputError, ''),
    ('empty', {}, NoInputError, ''),
    ('notes.txt', {}, InputError, 'NIfTI'),
    ('broken.nii.gz', {}, InputError, 'NIfTI'),
    ('four.nii', {}, InputError, ''),
    ('good.nii', {'images': 'empty'}, InputError, '--images'),
    ('good.nii', {'labels': 'none'}, NoInputError, '--labels'),
    ('good.nii', {'labels': 'notes.txt'}, InputError, '--labels'),
    ('good.nii', {'labels': 'empty'}, InputError, ''),
    ('good.nii', {'labels': 'broken.nii.gz'}, InputError, ''),
  ],
)
def test_mistakes_are_sentences(tmp_path, source, options, kind, words):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'notes.txt').write_text('x')
  (tmp_path / 'broken.nii.gz').write_bytes(b'\x1f\x8bxxx')
  small_cohorts.save(tmp_path / 'four.nii', np.zeros((3, 3, 3, 2)), np.eye(4))
  small_cohorts.save(tmp_path / 'good.nii', np.zeros((3, 3, 3)), np.eye(4))
  options = {name: tmp_path / value for name, value in options.items()}
  with says(kind, words):
    sources.find(tmp_path / source, **options)


def test_names_that_are_no_folders_are_left_out(tmp_path):
  one = small_cohorts.phantom(1)
  small_cohorts.write_scan(tmp_path, 'sub-01', one)
  small_cohorts.write_scan(tmp_path, 'sub-<b>x', one)
  found = sources.find(tmp_path)
  assert [case.name for case in found.cases] == ['sub-01']
  assert 'sub-<b>x' in found.left_out[0]


def test_a_grid_needs_no_voxels(one, monkeypatch):
  """200 subjects are looked through without reading one image."""
  monkeypatch.setattr(volume, 'load', None)
  grid = volume.grid_of(one[0])
  assert grid.array.shape == one[2].swi.shape
  assert grid.array.nbytes / grid.array.size < 2
  assert grid.array.strides == (0, 0, 0)
  assert slices.axis_of(grid.spacing_mm) == 2


def test_one_of_two_runs_is_chosen_by_a_pattern(cohort):
  root, _ = cohort
  anat = root / 'sub-02/anat'
  for ending in ('.nii.gz', '.json'):
    image = anat / f'sub-02_swi{ending}'
    if image.exists():
      for run in (1, 2):
        shutil.copy(image, anat / f'sub-02_run-{run}_swi{ending}')
      image.unlink()
  found = sources.find(root)
  assert [case.name for case in found.cases] == ['sub-01', 'sub-03']
  assert '2 files' in found.left_out[0]
  assert '--swi-pattern' in found.left_out[0]
  found = sources.find(root, participants=['02'], swi_pattern='*_run-2_swi.*')
  case = only(found)
  assert case.image.name == 'sub-02_run-2_swi.nii.gz'
  assert len(cases.load(case).candidates) > 0
