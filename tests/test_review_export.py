"""A reader's labels as a cohort: read back, checked, trained on."""

import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax.data import cohort, examples
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.review.cases import sources
from cmbjax.review.export import cohort as export
from cmbjax.review.export import labels as labels_lib
from cmbjax.review.log import folders, journal, lines
from cmbjax.review.log.geometry import View
from cmbjax.review.log.record import ReviewRecord
from cmbjax.review.readers import merge
from cmbjax.review.server import desk
from tests import readings, small_cohorts
from tests.lesion_data import read_table
from tests.messages import says

EMPTY = (30, 30, 2)  # RAS voxel of no phantom's lesion


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  return readings.detected(tmp_path_factory.mktemp('detected'), rejected=0)


@pytest.fixture(scope='module')
def found(results):
  return sources.find(results[0]).cases


def right(phantom):
  """A reader who knows which candidates are microbleeds."""

  def judge(candidate):
    known = phantom.lesions[tuple(candidate.ijk)]
    return 'accept' if known else 'reject'

  return judge


def cube(view, ijk, reach=1):
  span = range(-reach, reach + 1)
  x, y, z = ijk
  return view.index_of(
    np.array([[x + a, y + b, z] for a in span for b in span])
  )


def add(case, ijk, **more):
  view = View.of(volume.load(case.image))
  tool = {'name': 'brush', 'mm': 1.5}
  drawn = {'set': cube(view, ijk), 'tool': tool}
  return readings.action('add', ijk=list(ijk), **drawn, **more)


@pytest.fixture(scope='module')
def reviews(results, found, tmp_path_factory):
  """Both scans read; in the first one addition, in the second one unsure."""
  root = tmp_path_factory.mktemp('reviews')
  made = results[1]
  new = add(found[0], EMPTY)
  readings.read_case(root, 'ann', found[0], right(made['sub-01']), extra=[new])
  judge = right(made['sub-02'])
  readings.read_case(
    root, 'ann', found[1], lambda c: 'unsure' if c.index == 1 else judge(c)
  )
  return root


@pytest.fixture(scope='module')
def exported(found, reviews, tmp_path_factory):
  out = tmp_path_factory.mktemp('out') / 'cohort'
  return export.write_cohort(found, reviews, 'ann', out)


def test_accepted_are_microbleeds_and_rejected_false_positives(
  results, exported
):
  read = cohort.read_cohort(exported)
  assert read.simulated
  assert [scan.truth.kind for scan in read.scans] == ['candidates'] * 2
  first, second = (cohort.load_scan(scan) for scan in read.scans)
  one = results[1]['sub-01']
  assert len(first.truth.lesions) == 4  # three and the addition
  assert first.truth.rejected.max() == 2
  for n in range(1, 4):  # each accepted outline lies at its ball
    at = first.truth.labels[one.lesions == n]
    assert len(set(at[at > 0])) == 1
  assert first.truth.labels[EMPTY] == 4
  assert not ((first.truth.labels > 0) & (first.truth.rejected > 0)).any()
  lesions, mimics = len(second.truth.lesions), second.truth.rejected.max()
  assert lesions + mimics == 4  # of five, one unsure


def test_labels_are_on_the_native_grid_without_scaling(found, exported):
  image = nib.load(found[0].image)
  for name in ('cmb', 'mimic'):
    path = small_cohorts.label_path(
      exported, 'sub-01', ending=f'seg-{name}_dseg.nii.gz'
    )
    label = nib.load(path)
    assert label.shape == image.shape
    assert label.get_data_dtype() == np.uint16
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-5)
    assert label.header.get_slope_inter() in ((None, None), (1, 0))


def test_tables_and_sidecars_say_who_and_how(found, exported):
  stem = small_cohorts.label_path(exported, 'sub-01', ending='seg-cmb_dseg')
  about = json.loads(stem.with_name(stem.name + '.json').read_text())
  assert about['Manual'] is True
  assert about['AllCandidatesReviewed'] is True
  assert about['Simulated'] is True
  assert (about['Rater'], about['Readers']) == ('ann', ['ann'])
  assert about['FirstTime'] <= about['LastTime']
  assert about['Lesions'] == 4
  rows = read_table(stem.with_name(stem.name + '.tsv'))
  assert [row['index'] for row in rows] == ['1', '2', '3', '4']
  assert [row['verdict'] for row in rows] == ['accept'] * 4
  assert rows[3]['origin'] == 'reader_after_model'
  assert rows[3]['source_id'] == 'n/a'
  assert rows[0]['source_id'].startswith('lesion-')
  view = View.of(volume.load(found[0].image))
  world = [float(rows[3][axis]) for axis in 'xyz']
  np.testing.assert_allclose(world, view.to_world(np.array(EMPTY)), atol=1e-3)
  assert float(rows[3]['volume_mm3']) == pytest.approx(9 * view.voxel_mm3)
  other = small_cohorts.label_path(exported, 'sub-02', ending='seg-cmb_dseg')
  about = json.loads(other.with_name(other.name + '.json').read_text())
  assert about['LeftOut'] == {'unsure': 1, 'unread': 0}
  top = json.loads((exported / 'dataset_description.json').read_text())
  assert top['Simulated'] is True
  assert 'Simulated' in top['Name']
  first, second = read_table(exported / 'participants.tsv')
  assert list(first.values()) == ['sub-01', '4', '2', '0', '0']
  assert (second['participant_id'], second['unsure']) == ('sub-02', '1')
  assert export.describe(exported) == [
    'sub-02: neither accepted nor rejected: 1 unsure'
  ]


def test_images_are_the_same_files_never_links(found, exported):
  image = exported / 'sub-01' / 'anat' / 'sub-01_swi.nii.gz'
  assert not image.is_symlink()
  assert image.samefile(found[0].image)
  facts = json.loads(image.with_name('sub-01_swi.json').read_text())
  assert facts['EchoTime'] == 0.016
  # The brain mask that came with the scan comes with it.
  read = cohort.read_cohort(exported).scans[0]
  given = volume.load(read.files.mask).array > 0
  own = cohort.read_cohort(found[0].image.parents[2]).scans[0]
  assert (given == (volume.load(own.files.mask).array > 0)).all()


@pytest.mark.parametrize('link', ['copy', 'symbolic'])
def test_images_are_copied_or_linked_when_asked(found, reviews, tmp_path, link):
  out = export.write_cohort(found, reviews, 'ann', tmp_path / 'c', link=link)
  image = out / 'sub-01' / 'anat' / 'sub-01_swi.nii.gz'
  assert image.is_symlink() == (link == 'symbolic')
  assert image.read_bytes() == found[0].image.read_bytes()
  if link == 'copy':
    assert not image.samefile(found[0].image)


def test_builder_reads_what_the_reader_said(exported, tmp_path):
  """From the reader's verdicts to the examples that a network learns from."""
  built = examples.build('btumor_3t', exported, tmp_path)
  some = examples.load(built)
  own = examples.select(some, some.scan == 'sub-01')
  assert sorted(own.label.tolist()) == [0, 0, 1, 1, 1, 1]
  assert sorted(own.lesion.tolist()) == [0, 0, 1, 2, 3, 4]
  assert EMPTY in {tuple(c) for c in own.centre[own.label == 1].tolist()}
  scans = examples.load_scans(built)
  assert scans.num_lesions[0] == 4
  assert scans.num_missed.tolist() == [0, 0]
  assert scans.simulated.all()


def test_neighbours_that_touch_stay_two_lesions(found, tmp_path):
  case = found[0]
  x, y, z = EMPTY
  beside = (x + 3, y, z)  # cubes of three voxels, side by side
  extra = [add(case, EMPTY), add(case, beside, second=2)]
  root = tmp_path / 'reviews'
  readings.read_case(root, 'ann', case, lambda c: 'reject', extra=extra)
  out = export.write_cohort([case], root, 'ann', tmp_path / 'c')
  truth = cohort.load_scan(cohort.read_cohort(out).scans[0]).truth
  assert truth.lesions.tolist() == [1, 2]
  assert truth.labels[beside] != truth.labels[EMPTY]


def test_nothing_accepted_and_nothing_rejected_are_fine(found, tmp_path):
  root = tmp_path / 'reviews'
  readings.read_case(root, 'ann', found[0], lambda c: 'reject')
  readings.read_case(root, 'ann', found[1], lambda c: 'accept')
  out = export.write_cohort(found, root, 'ann', tmp_path / 'c')
  truths = [cohort.load_scan(s).truth for s in cohort.read_cohort(out).scans]
  assert [len(truth.lesions) for truth in truths] == [0, 5]
  assert [truth.rejected.max() for truth in truths] == [5, 0]


def test_scans_that_are_not_completed_are_left_out(found, results, tmp_path):
  root = tmp_path / 'reviews'
  readings.read_case(root, 'ann', found[0], lambda c: 'accept')
  readings.read_case(root, 'ann', found[1], lambda c: 'accept', finish=False)
  out = export.write_cohort(found, root, 'ann', tmp_path / 'c')
  assert [s.name for s in cohort.read_cohort(out).scans] == ['sub-01']
  top = json.loads((out / 'dataset_description.json').read_text())
  assert top['LeftOut'] == {'sub-02': 'in progress'}
  assert export.left_out(found, root, 'ann') == {'sub-02': 'in progress'}


def test_what_is_not_shown_is_neither(found, tmp_path, monkeypatch):
  case, root, least = found[0], tmp_path / 'reviews', 0.25
  loaded = export.cases_lib.load(case)
  scores = [one.index / 10 for one in loaded.candidates]
  scored = [
    dataclasses.replace(one, score=score)
    for one, score in zip(loaded.candidates, scores)
  ]
  loaded = loaded._replace(candidates=tuple(scored))
  monkeypatch.setattr(export.cases_lib, 'load', lambda _: loaded)
  likely = [score for score in scores if score >= least]
  assert 0 < len(likely) < len(scores)
  for name in ('ann', 'bob'):
    readings.read_case(root, name, case, lambda c: 'reject', least=least)
  merge.run_merge(root, ['ann', 'bob'])
  for rater in ('ann', 'merge_ann_bob'):
    out = export.write_cohort([case], root, rater, tmp_path / rater)
    (scan,) = cohort.read_cohort(out).scans
    assert scan.truth.kind == 'candidates'
    assert cohort.load_scan(scan).truth.rejected.max() == len(likely)
    (path,) = out.glob('derivatives/truth/sub-*/anat/*_seg-mimic_dseg.json')
    about = json.loads(path.read_text())
    assert about['LeftOut']['not_shown'] == len(scores) - len(likely)
    assert about['Least'] == least
  readings.read_case(root, 'eve', case, lambda c: 'reject')
  with says(InputError, '--least'):
    merge.run_merge(root, ['ann', 'eve'])


def test_who_is_left_out_is_known_without_reading_all(
  found, tmp_path, monkeypatch
):
  root = tmp_path / 'reviews'
  readings.read_case(root, 'ann', found[0], lambda c: 'accept')
  path = root / 'ann' / found[0].name
  state = json.dumps(journal.read(path).state())
  (path / journal.STATE).write_text(state)
  monkeypatch.setattr(journal, 'read', None)
  assert export.left_out(found, root, 'ann') == {'sub-02': 'not begun'}


def test_consensus_is_exported_like_a_reader(found, results, tmp_path):
  root = tmp_path / 'reviews'
  for name in ('ann', 'bob'):
    readings.read_case(root, name, found[0], right(results[1]['sub-01']))
  readings.read_case(root, 'ann', found[1], lambda c: 'accept')
  readings.read_case(root, 'bob', found[1], lambda c: 'reject')
  folder = merge.run_merge(root, ['ann', 'bob'])
  out = export.write_cohort(found, root, folder.name, tmp_path / 'c')
  (scan,) = cohort.read_cohort(out).scans  # the other is still open
  truth = cohort.load_scan(scan).truth
  assert (len(truth.lesions), truth.rejected.max()) == (3, 2)
  about = json.loads(scan.truth.path.with_name(
    'sub-01_seg-cmb_dseg.json').read_text())  # fmt: skip
  assert about['Readers'] == ['ann', 'bob']


def test_adjudicator_opens_the_disagreements_and_settles_them(
  found, results, tmp_path
):
  """The page's own desk, from merge to consensus to cohort."""
  root = tmp_path / 'reviews'
  readings.read_case(root, 'ann', found[0], right(results[1]['sub-01']))
  readings.read_case(root, 'bob', found[0], lambda c: 'accept')
  merge.run_merge(root, ['ann', 'bob'], adjudicate='carl')
  with folders.hold(root, 'carl'):
    table = desk.Desk(found, root, 'carl')
    assert [case.name for case in table.cases] == ['sub-01']
    with table.use(0) as opened:
      book = opened.book
      shown = book.record.view_items()
      assert len(shown) == 2  # the two mimics
      assert {item['verdict'] for item in shown} == {None}
      for item in shown:
        action = {'event': 'verdict', 'item': item['item'], 'value': 'reject'}
        book.apply(action | {'ms': 500})
      book.apply({'event': 'status', 'value': 'completed', 'ms': 0})
  folder = merge.run_merge(root, ['bob', 'ann'], adjudicate='carl')
  out = export.write_cohort(found, root, folder.name, tmp_path / 'c')
  (scan,) = cohort.read_cohort(out).scans
  truth = cohort.load_scan(scan).truth
  assert (len(truth.lesions), truth.rejected.max()) == (3, 2)
  about = json.loads(
    scan.truth.path.with_name('sub-01_seg-cmb_dseg.json').read_text()
  )
  assert (about['Readers'], about['Adjudicator']) == (['ann', 'bob'], 'carl')


def test_outlines_that_were_hidden_are_those_of_the_source(found, tmp_path):
  root = tmp_path / 'reviews'
  readings.read_case(
    root, 'ann', found[0], lambda c: 'accept', blind=('mask', 'score')
  )
  out = export.write_cohort(found, root, 'ann', tmp_path / 'c')
  truth = cohort.load_scan(cohort.read_cohort(out).scans[0]).truth
  source = volume.load(found[0].labels).array
  assert ((truth.labels > 0) == (source > 0)).all()


def test_a_scan_without_candidates_has_lesions_only(found, tmp_path):
  """Training then proposes the false positives itself."""
  bare = dataclasses.replace(found[0], labels=None)
  root, extra = tmp_path / 'reviews', [add(found[0], EMPTY)]
  readings.read_case(root, 'ann', bare, None, extra=extra)
  out = export.write_cohort([bare], root, 'ann', tmp_path / 'c')
  (scan,) = cohort.read_cohort(out).scans
  assert scan.truth.kind == 'labels'
  assert cohort.load_scan(scan).truth.lesions.tolist() == [1]


def test_candidates_that_a_first_reader_never_saw_are_no_mimics(
  found, tmp_path
):
  root, extra = tmp_path / 'reviews', [add(found[0], EMPTY)]
  readings.read_case(
    root, 'ann', found[0], lambda c: None, extra=extra, mode='first-reader'
  )
  out = export.write_cohort([found[0]], root, 'ann', tmp_path / 'c')
  (scan,) = cohort.read_cohort(out).scans
  assert scan.truth.kind == 'labels'
  assert cohort.load_scan(scan).truth.lesions.tolist() == [1]


def test_what_a_first_reader_found_first_is_one_lesion(found, tmp_path):
  case, root = found[0], tmp_path / 'reviews'
  loaded = export.cases_lib.load(case)
  first = loaded.candidates[0]
  drawn = {'set': first.voxels[:2]}
  extra = [
    readings.action('add', ijk=list(first.ijk), **drawn),
    add(case, EMPTY),
    readings.action('done'),
  ]
  readings.read_case(
    root, 'ann', case, lambda c: None, extra=extra, mode='first-reader'
  )
  record = journal.read(root / 'ann' / case.name)
  labels = labels_lib.collect(record, loaded.image)
  assert len(labels.accepted) == 2
  out = export.write_cohort([case], root, 'ann', tmp_path / 'c')
  (path,) = out.glob('derivatives/truth/sub-*/anat/*_seg-cmb_dseg.tsv')
  rows = read_table(path)
  assert [(r['origin'], r['unaided']) for r in rows] == [
    ('model', 'true'),
    ('reader', 'true'),
  ]
  assert '\t2' in (out / 'participants.tsv').read_text()


OBLIQUE = nib.affines.from_matvec(
  nib.eulerangles.euler2mat(0.2, -0.15, 0.1) @ np.diag([-0.5, 2.0, -0.5])
  @ np.eye(3)[[0, 2, 1]],
  (5, -3, 8),
)  # fmt: skip


def test_native_voxels_sessions_and_scans_made_from_signal(tmp_path):
  """Oblique, flipped axes, a session, magnitude and phase without SWI."""
  one = small_cohorts.phantom(5)
  anat = tmp_path / 'scans' / 'sub-07' / 'ses-2' / 'anat'
  stem = anat / 'sub-07_ses-2_part'
  phase = np.random.default_rng(0).uniform(-3, 3, one.swi.shape)
  for part, array in (('mag', one.swi), ('phase', phase.astype(np.float32))):
    small_cohorts.save(f'{stem}-{part}_T2starw.nii.gz', array, OBLIQUE)
    facts = {'EchoTime': 0.02, 'MagneticFieldStrength': 3, 'Units': 'rad'}
    path = stem.with_name(f'{stem.name}-{part}_T2starw.json')
    path.write_text(json.dumps(facts))
  (case,) = sources.find(tmp_path / 'scans').cases
  image = export.cases_lib.load(case).image
  view = View.of(image)
  ijk = (30, 8, 31)
  voxels = view.index_of(np.array([ijk, (31, 8, 31)]))
  drawn = {'set': voxels, 'tool': {'name': 'brush', 'mm': 1}}
  new = readings.action('add', ijk=list(ijk), **drawn)
  readings.read_case(tmp_path / 'r', 'ann', case, None, extra=[new])
  out = export.write_cohort([case], tmp_path / 'r', 'ann', tmp_path / 'c')
  assert sorted(p.name for p in (out / 'sub-07/ses-2/anat').glob('*.gz')) == [
    'sub-07_ses-2_part-mag_T2starw.nii.gz',
    'sub-07_ses-2_part-phase_T2starw.nii.gz',
  ]
  (scan,) = cohort.read_cohort(out).scans
  label = nib.load(scan.truth.path)
  assert label.shape == one.swi.shape
  native = sorted(map(tuple, np.argwhere(np.asarray(label.dataobj)).tolist()))
  wanted = view.to_native(view.ijk_of(voxels))
  assert native == sorted(map(tuple, wanted.tolist()))
  world = nib.affines.apply_affine(OBLIQUE, wanted)
  np.testing.assert_allclose(
    world, view.to_world(view.ijk_of(voxels)), atol=1e-4
  )
  assert cohort.load_scan(scan).truth.lesions.tolist() == [1]


def test_what_a_killed_export_left_is_cleared(found, reviews, tmp_path):
  stale = tmp_path / '.partial-c-1'
  (stale / 'sub-01').mkdir(parents=True)
  export.write_cohort(found, reviews, 'ann', tmp_path / 'c')
  assert [p.name for p in tmp_path.iterdir()] == ['c']


def test_names_of_readers_lead_nowhere_else(found, reviews, tmp_path):
  (tmp_path / 'merge_x').mkdir()
  (tmp_path / 'merge_x' / 'merge.json').write_text('{}')
  for name in ('../merge_x', str(tmp_path / 'merge_x'), 'merge_x'):
    with says(NoInputError):
      export.write_cohort(found, reviews, name, tmp_path / 'c')


def without_outline(root, case, number=1):
  own = export.cases_lib.load(case).candidates[number - 1].voxels
  erase = readings.action('edit', number, set=[], clear=own)
  return readings.read_case(
    root, 'ann', case, lambda c: 'accept', extra=[erase]
  )


def test_what_was_grown_is_not_free_for_the_next(monkeypatch):
  """Outlines of nine voxels each in an image of 5760."""
  nothing, free = np.zeros(0, np.int64), []
  bare = [
    dataclasses.replace(one, voxels=nothing) for one in readings.candidates()
  ]
  state = ReviewRecord(readings.header('ann', some=bare))
  for number in (1, 2):
    state.apply({'event': 'verdict', 'item': number, 'value': 'accept'})

  def grow(array, spacing_mm, ijk, **how):
    free.append(how['free']((slice(None),) * 3).sum())
    return labels_lib.grow.Grown(readings.cube(ijk), {})

  monkeypatch.setattr(labels_lib.grow, 'grow', grow)
  image = volume.from_array(np.ones(readings.SHAPE, np.uint8), readings.AFFINE)
  labels_lib.collect(state, image, grow_missing=True)
  assert free == [5760, 5751]


def test_an_accepted_lesion_without_outline_is_refused_or_grown(
  found, tmp_path
):
  root = tmp_path / 'reviews'
  without_outline(root, found[0])
  with says(InputError):
    export.write_cohort(found, root, 'ann', tmp_path / 'c')
  assert not list(tmp_path.glob('*c*'))  # neither it nor a part of it
  out = export.write_cohort(
    found, root, 'ann', tmp_path / 'c', grow_missing=True
  )
  truth = cohort.load_scan(cohort.read_cohort(out).scans[0]).truth
  assert len(truth.lesions) == 5


def test_an_accepted_point_where_nothing_is_dark_is_named(
  found, tmp_path, monkeypatch
):
  root = tmp_path / 'reviews'
  without_outline(root, found[0])
  nothing = labels_lib.grow.Grown(np.zeros(0, np.int64), {})
  monkeypatch.setattr(labels_lib.grow, 'grow', lambda *_, **__: nothing)
  with says(InputError):
    export.write_cohort(found, root, 'ann', tmp_path / 'c', grow_missing=True)


def test_a_rejected_point_is_one_voxel(found, tmp_path):
  """Candidates of a table have no outline; they are training data too."""
  root, case = tmp_path / 'reviews', found[0]
  record = readings.read_case(
    root, 'ann', case, lambda c: 'reject', blind=('mask',)
  )
  for row in record.header['items']:
    row['voxels'] = []
  labels = labels_lib.collect(
    export.ReviewRecord(record.header | {'items': record.header['items']}),
    volume.load(case.image),
  )
  assert labels.left_out['unread'] == 5
  for item in record.items.values():
    item.voxels = item.voxels[:0]
  parts = labels_lib.collect(record, volume.load(case.image)).rejected
  assert [len(part.voxels) for part in parts] == [1] * 5
  assert not any(part.outlined for part in parts)


@pytest.mark.parametrize('what', ['image', 'labels'])
def test_another_image_or_result_than_reviewed_is_refused(
  found, tmp_path, what
):
  root = tmp_path / 'reviews'
  case = found[0]
  readings.read_case(root, 'ann', case, lambda c: 'accept')
  folder = root / 'ann' / 'sub-01'
  header, *rest = journal.lines(folder)
  header['image_sha256' if what == 'image' else 'labels_sha256'] = 'ff' * 32
  (folder / journal.EVENTS).write_bytes(lines.encoded([header, *rest]))
  with says(InputError):
    export.write_cohort(found, root, 'ann', tmp_path / 'c')
  assert not (tmp_path / 'c').exists()


def test_places_that_are_taken_and_readers_that_are_not_there(
  found, reviews, tmp_path
):
  (tmp_path / 'c').mkdir()
  (tmp_path / 'c' / 'mine.txt').write_text('precious')
  with says(InputError):
    export.write_cohort(found, reviews, 'ann', tmp_path / 'c')
  assert [p.name for p in tmp_path.rglob('*')] == ['c', 'mine.txt']
  with says(NoInputError):
    export.write_cohort(found, reviews, 'bob', tmp_path / 'd')
  with says(InputError, "'soft'"):
    export.write_cohort(found, reviews, 'ann', tmp_path / 'd', link='soft')
  assert not (tmp_path / 'd').exists()


def test_disagreements_alone_are_no_cohort(found, tmp_path):
  root = tmp_path / 'reviews'
  for name, value in (('ann', 'accept'), ('bob', 'reject')):
    readings.read_case(root, name, found[0], lambda c, v=value: v)
  merge.run_merge(root, ['ann', 'bob'], adjudicate='carl')
  with says(InputError):
    export.write_cohort(found, root, 'carl', tmp_path / 'c')


def test_an_outline_far_from_its_point_is_refused(found, tmp_path):
  case = found[0]
  record = readings.read_case(tmp_path, 'ann', case, lambda c: 'accept')
  image = volume.load(case.image)
  assert len(labels_lib.collect(record, image).accepted) == 5
  item = record.items[1]
  item.ijk = tuple(
    (v + n // 2) % n for v, n in zip(item.ijk, image.array.shape)
  )
  with says(InputError):
    labels_lib.collect(record, image)
