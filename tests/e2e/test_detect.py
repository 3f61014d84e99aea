"""The real command line of `cmbjax detect`, and its batch."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from cmbjax.detect import classifier
from cmbjax.evaluation import matching
from cmbjax.simulate import cohort
from cmbjax.weights import catalogue
from tests import lesion_data, offline, small_cohorts
from tests.messages import printed

pytestmark = pytest.mark.e2e

OWN_STAGE = 'tests.own_parts:dark_spots'
FAST = ('--weights', 'none', '--no-regions', '--no-report')


def command(*arguments):
  return [sys.executable, '-m', 'cmbjax.cli', 'detect', *map(str, arguments)]


def call(*arguments, timeout=200, env=None):
  return subprocess.run(
    command(*arguments),
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
    env=env,
  )


def here(*arguments):
  """The same in this process, where no start-up has to be paid for."""
  return cli.main(['detect', *map(str, arguments)])


def log_of(out):
  """Events of the newest run."""
  newest = max((out / 'logs').glob('run-*'), key=lambda p: p.stat().st_mtime_ns)
  return [json.loads(line) for line in newest.read_text().splitlines()]


def events(out, kind):
  return [line['name'] for line in log_of(out) if line['event'] == kind]


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'w'
  lesion_data.write_weights(folder)
  return folder


@pytest.fixture(scope='module')
def simulated(tmp_path_factory):
  """One simulated slab, with its truth."""
  folder = tmp_path_factory.mktemp('simulated') / 'cohort'
  return cohort.simulate(
    'btumor_3t', subjects=1, out=folder, seed=9055, jobs=1, slab_mm=10
  )


@pytest.fixture(scope='module')
def analysed(simulated, weights, tmp_path_factory):
  """The whole verb on the simulated cohort, in a process of its own."""
  out = tmp_path_factory.mktemp('analysed') / 'out'
  done = call(
    simulated, out, 'participant', '--weights', weights, '--write-candidates',
    '--write-steps', '--jobs', 1, env=offline.environment(out.parent / 'record')
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert offline.attempts(out.parent / 'record') == []
  return out, done


def test_a_simulated_scan_to_files(analysed, simulated):
  out, done = analysed
  assert '1 done' in done.stderr
  anat = out / 'sub-3T001' / 'anat'
  stem = 'sub-3T001_space-orig_seg-cmb_dseg'
  labels = nib.load(anat / f'{stem}.nii.gz')
  (source,) = simulated.glob('sub-*/anat/*_swi.nii.gz')
  scan = nib.load(source)
  assert labels.shape == scan.shape
  np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-5)
  rows = lesion_data.read_table(anat / f'{stem}.tsv')
  assert rows
  array = np.asanyarray(labels.dataobj)
  assert sorted(set(np.unique(array)) - {0}) == [int(r['index']) for r in rows]
  fields = json.loads((anat / f'{stem}.json').read_text())
  assert fields['Simulated'] is True
  assert fields['MagneticFieldStrength'] == 3
  assert set(rows[0]) - {'index', 'name'} <= set(fields)  # all described
  page = (out / 'sub-3T001.html').read_text()
  assert rows[0]['name'] in page
  assert 'simulated' in page.lower()
  assert (out / 'group.html').is_file()
  described = json.loads((out / 'dataset_description.json').read_text())
  assert described['DatasetType'] == 'derivative'


def test_without_an_option_the_shipped_weights_are_taken(tmp_path, capsys):
  """A phantom that is no simulated scan: found, and doubted, offline."""
  phantom = lesion_data.write_swi(tmp_path / 'a_swi.nii.gz')
  out = tmp_path / 'out'
  again = (tmp_path / 'a_swi.nii.gz', out, '--no-regions', '--no-report')
  record = tmp_path / 'record'
  done = call(*again, env=offline.environment(record))
  assert done.returncode == 0, done.stderr
  assert offline.attempts(record) == []
  assert 'learned from simulated scans' in done.stderr
  (described,) = out.rglob('*_seg-cmb_dseg.json')
  point = json.loads(described.read_text())['OperatingPoint']
  shipped = catalogue.folder(catalogue.DEFAULT)
  assert point['weights'] == catalogue.DEFAULT
  assert point['networks'] == 5
  assert point['trained_on_simulated'] is True
  assert point['fingerprint'] == classifier.described(shipped).fingerprint
  assert phantom.lesions.max() > 0
  # The default by its name is the same; another shipped ensemble is not.
  for name, said in ((catalogue.DEFAULT, 'skip'), ('7t', 'do')):
    assert here(*again, '--weights', name, '--dry-run') == 0
    assert capsys.readouterr().err.startswith(f'would {said} ')


def test_true_microbleeds_are_among_the_outlines(analysed, simulated):
  """By the touch rule; untrained networks reject nothing."""
  out, _ = analysed
  (found,) = out.glob('sub-*/anat/*_seg-cmb_dseg.nii.gz')
  (truth,) = simulated.glob('derivatives/truth/sub-*/anat/*cmb_dseg.nii.gz')
  match = matching.touch(lesion_data.load(found), lesion_data.load(truth))
  assert match.hit.mean() > 0.6


def test_the_table_of_candidates_has_reasons_and_features(analysed):
  (path,) = analysed[0].glob('sub-*/anat/*_desc-candidates.tsv')
  rows = lesion_data.read_table(path)
  assert {'x_mm', 'y_mm', 'z_mm', 'score', 'kept', 'reason'} <= set(rows[0])
  assert {'circularity', 'contrast', 'diameter_mm'} <= set(rows[0])
  assert {r['kept'] for r in rows} == {'true', 'false'}
  assert all(r['reason'] != 'n/a' for r in rows if r['kept'] == 'false')
  assert all(r['likelihood'] == 'n/a' for r in rows if r['kept'] == 'false')


def test_no_path_of_this_machine_in_what_is_shared(analysed, simulated):
  out, _ = analysed
  for path in [*out.rglob('*.json'), *out.rglob('*.html'), *out.glob('*.tsv')]:
    text = path.read_text()
    assert str(simulated) not in text, path
    assert str(out) not in text, path


def test_nothing_half_written_is_left(analysed):
  assert not list(analysed[0].rglob('.partial-*'))


@pytest.fixture
def twenty(tmp_path):
  """20 subjects, the seventh of which is cut short."""
  root = tmp_path / 'bids'
  small_cohorts.write_cohort(root, subjects=20, num_lesions=1, num_mimics=1)
  broken = root / 'sub-07' / 'anat' / 'sub-07_swi.nii.gz'
  whole = broken.read_bytes()
  broken.write_bytes(whole[: len(whole) // 2])
  return root, tmp_path / 'out', broken, whole


def test_twenty_subjects_one_broken(twenty, capsys):
  root, out, broken, whole = twenty
  assert here(root, out, *FAST) == 1
  errors = capsys.readouterr().err
  assert '19 done, 1 failed' in errors
  assert 'sub-07' in errors
  assert 'cut short' in errors
  assert len(list(out.glob('sub-*/anat/*_dseg.nii.gz'))) == 19
  assert len(events(out, 'done')) == 19
  rows = lesion_data.read_table(out / 'group_cmb.tsv')
  assert [r['name'] for r in rows if r['status'] == 'failed'] == ['sub-07']
  before = {p: p.stat().st_mtime_ns for p in out.glob('sub-*/anat/*')}

  assert here(root, out, *FAST) == 1  # only the broken one is tried
  assert (events(out, 'done'), events(out, 'failed')) == ([], ['sub-07'])
  assert log_of(out)[0]['todo'] == ['sub-07']
  assert '19 were done already' in capsys.readouterr().err
  assert before == {p: p.stat().st_mtime_ns for p in out.glob('sub-*/anat/*')}

  broken.write_bytes(whole)
  assert here(root, out, *FAST) == 0
  assert events(out, 'done') == ['sub-07']
  assert here(root, out, *FAST) == 0
  assert events(out, 'done') == []


@pytest.fixture
def one(tmp_path):
  path = tmp_path / 'in' / 'sub-01_swi.nii.gz'
  lesion_data.write_swi(path)
  mask = small_cohorts.save(
    tmp_path / 'in' / 'brain_mask.nii.gz',
    small_cohorts.phantom(1).brain,
    small_cohorts.affine_of(),
  )
  return path, tmp_path / 'out', (*FAST, '--mask', mask)


def tried(out):
  return log_of(out)[0]['todo']


def test_only_what_changed_is_done_again(one):
  path, out, options = one
  assert here(path, out, *options) == 0
  assert tried(out) == ['sub-01']
  assert here(path, out, *options) == 0
  assert tried(out) == []
  assert here(path, out, *options, '--overwrite') == 0
  assert tried(out) == ['sub-01']
  assert here(path, out, *options, '--generator', OWN_STAGE) == 0
  assert tried(out) == ['sub-01']
  facts = path.with_name('sub-01_swi.json')
  facts.write_text(facts.read_text().replace('0.028', '0.02'))
  assert here(path, out, *options, '--generator', OWN_STAGE) == 0
  assert tried(out) == ['sub-01']
  next(out.glob('sub-01/anat/*.tsv')).unlink()  # a result that is lost
  assert here(path, out, *options, '--generator', OWN_STAGE) == 0
  assert tried(out) == ['sub-01']
  assert here(path, out, *options, '--generator', OWN_STAGE) == 0
  assert tried(out) == []


def test_results_that_were_changed_are_kept_and_told(one, capsys):
  """An outline that somebody corrected in place; a record that was edited."""
  path, out, options = one
  options = [option for option in options if option != '--no-report']
  assert here(path, out, *options) == 0
  capsys.readouterr()
  assert here(path, out, *options) == 0
  assert 'note: ' not in capsys.readouterr().err
  table = next(out.glob('sub-01/anat/*_dseg.tsv'))
  table.write_text(table.read_text() + 'mine\n')
  assert here(path, out, *options) == 0
  assert tried(out) == []
  assert f'{table}: is not as it was written; it is kept' in (
    capsys.readouterr().err
  )
  assert 'mine' in table.read_text()
  record = out / 'logs' / 'sub-01.json'
  text = record.read_text()
  record.write_text(text.replace('"definite": 0', '"definite": 7'))
  assert record.read_text() != text
  assert here(path, out, 'group', '--no-report') == 3
  assert f'{record}: is damaged, so its scan is left out' in (
    capsys.readouterr().err
  )
  assert here(path, out, *options) == 0
  assert tried(out) == ['sub-01']
  assert '"definite": 0' in record.read_text()


def test_an_own_candidate_stage(one, capsys, monkeypatch):
  """Found in the current folder; other processes find it too."""
  path, out, options = one
  lesion_data.write_swi(path.with_name('sub-02_swi.nii.gz'), seed=2)
  (out.parent / 'dark_spots.py').write_text(
    'import numpy as np\n'
    'def find(swi, spacing_mm, mask):\n'
    '  middle = np.argwhere(mask).mean(0)\n'
    '  return [middle, middle + [9, 0, 0]]\n'
  )
  monkeypatch.chdir(out.parent)
  words = ('--candidates', 'dark_spots:find', '--write-candidates')
  assert here(path.parent, out, *FAST, *words, '--jobs', '2') == 0
  sys.modules.pop('dark_spots', None)
  for name in ('sub-01', 'sub-02'):
    table = out / name / 'anat' / f'{name}_desc-candidates.tsv'
    rows = lesion_data.read_table(table)
    assert [row['reason'] for row in rows] == ['n/a'] * 2
  assert here(path, out, *options, '--candidates', 'dark_spots:no') == 2
  said = capsys.readouterr().err
  assert "--candidates: 'dark_spots:no' cannot be imported" in said
  assert here(path, out, *options, '--candidates', 'dog') == 2
  printed(capsys.readouterr().err)


def test_networks_of_other_candidates_warn(one, tmp_path, capsys):
  """The weights say what they learned from; another choice is told."""
  path, out, options = one
  rest = options[options.index('--mask') :]
  home = tmp_path / 'w'
  lesion_data.write_weights(home, networks=1, candidates=OWN_STAGE)
  words = (*rest, '--weights', home, '--no-regions', '--no-report')
  assert here(path, out, *words) == 0
  assert 'learned from candidates of' not in capsys.readouterr().err
  assert here(path, out, *words, '--candidates', 'frst') == 0
  assert 'candidates were found by frst, but' in capsys.readouterr().err
  described = json.loads(next(out.rglob('*_dseg.json')).read_text())
  assert any(f'of {OWN_STAGE}' in text for text in described['Warnings'])


def test_dry_run_writes_nothing(one, capsys):
  path, out, options = one
  assert here(path, out, *options, '--dry-run') == 0
  assert 'would do    sub-01' in capsys.readouterr().err
  assert not out.exists()
  assert here(path, out, *options) == 0
  before = sorted(out.rglob('*'))
  capsys.readouterr()
  assert here(path, out, *options, '--dry-run') == 0
  assert 'would skip  sub-01' in capsys.readouterr().err
  assert sorted(out.rglob('*')) == before


def test_a_file_is_written_over_by_nobody(one):
  """The input folder stays as it was."""
  path, out, options = one
  before = {p: p.read_bytes() for p in path.parent.iterdir()}
  assert here(path, out, *options) == 0
  assert before == {p: p.read_bytes() for p in path.parent.iterdir()}


def test_group_alone(one, capsys):
  path, out, options = one
  assert here(path, out, 'group', '--no-report') == 3
  assert here(path, out, *options) == 0
  (out / 'group_cmb.tsv').unlink()
  assert here(path, out, 'group', '--no-report') == 0
  assert len(lesion_data.read_table(out / 'group_cmb.tsv')) == 1


@pytest.mark.parametrize(
  ('arguments', 'code', 'words'),
  [
    (('{in}/none.nii',), 3, 'no such file'),
    (('{in}/empty',), 3, 'holds no scan'),
    (('{in}/text.nii.gz',), 2, 'not a readable NIfTI'),
    (('{in}/notes.txt',), 2, 'not a NIfTI file'),
    (('{scan}', '--threshold', '2'), 2, '--threshold'),
    (('{scan}', '--threshold', 'nan'), 2, '--threshold'),
    (('{scan}', '--jobs', '0'), 2, '--jobs'),
    (('{scan}', '--mask', '{in}/none.nii'), 3, '--mask'),
    (('{scan}', '--atlas', '{in}/none.nii'), 3, 'no such file'),
    (('{scan}', '--weights', '{in}/empty'), 3, 'weights.json'),
    (('{scan}', '--weights', 'robst'), 3, '7t, finetuned, combined, robust'),
    (('{scan}', '--threshold', '0.5'), 2, '--weights none gives none'),
    (('{scan}', '--series', '3'), 2, 'DICOM folder'),
    (('{scan}', '--dicom-seg'), 2, 'DICOM'),
  ],
)
def test_mistakes_are_one_sentence(one, capsys, arguments, code, words):
  path, out, _ = one
  folder = path.parent
  (folder / 'empty').mkdir()
  (folder / 'text.nii.gz').write_text('no image')
  (folder / 'notes.txt').write_text('no image')
  places = {'in': folder, 'scan': path}
  arguments = [a.format(**places) for a in arguments]
  if '--weights' not in arguments:
    arguments += ['--weights', 'none']
  assert here(arguments[0], out, *arguments[1:]) == code
  errors = capsys.readouterr().err
  assert words in errors
  assert 'Traceback' not in errors


def test_the_input_is_not_the_output(one, capsys):
  folder = one[0].parent
  assert here(folder, folder, *FAST) == 2
  printed(capsys.readouterr().err)


def test_results_do_not_go_among_scans_or_into_other_data_sets(
  tmp_path, capsys
):
  root = tmp_path / 'bids'
  small_cohorts.write_cohort(root, subjects=1, num_lesions=1)
  before = (root / 'dataset_description.json').read_bytes()
  scan = next(root.glob('sub-*/anat/*_swi.nii.gz'))
  assert here(root, root / 'sub-01' / 'found', *FAST) == 2
  printed(capsys.readouterr().err)
  assert here(scan, root, *FAST) == 2
  printed(capsys.readouterr().err)
  assert (root / 'dataset_description.json').read_bytes() == before
  assert not list(root.glob('**/logs'))
  inside = root / 'derivatives' / 'cmbjax'
  for _ in range(2):  # its own results are no other data set
    assert here(root, inside, *FAST) == 0


def test_who_was_left_out_is_said(tmp_path, capsys):
  root = tmp_path / 'bids'
  small_cohorts.write_cohort(root, subjects=1, num_lesions=1)
  for number in range(2, 16):
    (root / f'sub-{number:02d}' / 'anat').mkdir(parents=True)
  assert here(root, tmp_path / 'out', *FAST, '--dry-run') == 0
  shown = capsys.readouterr().out.splitlines()
  assert [row.split('\t')[0] for row in shown if row.endswith('no scan')] == [
    f'sub-{number:02d}' for number in range(2, 16)
  ]


def test_pages_and_tables_do_not_outlive_their_result(one):
  path, out, options = one
  options = [word for word in options if word != '--no-report']
  assert here(path, out, *options, '--write-candidates') == 0
  anat = out / 'sub-01' / 'anat'
  extra = [
    out / 'sub-01.html',
    out / 'group.html',
    anat / 'sub-01_desc-candidates.tsv',
  ]
  (anat / 'notes.txt').write_text('of a person')
  assert all(some.is_file() for some in extra)
  assert here(path, out, *options, '--generator', OWN_STAGE, '--no-report') == 0
  assert not any(some.exists() for some in extra)
  assert (anat / 'sub-01_space-orig_seg-cmb_dseg.tsv').is_file()
  assert (anat / 'notes.txt').is_file()


def test_a_bug_in_one_scan_keeps_its_traceback(one, capsys, monkeypatch):
  from cmbjax.detect import chain

  path, out, options = one

  def crash(*_, **__):
    raise ZeroDivisionError('a bug')

  monkeypatch.setattr(chain, 'analyse', crash)
  assert here(path, out, *options) != 0
  assert 'ZeroDivisionError: a bug' in capsys.readouterr().err
  (failed,) = [line for line in log_of(out) if line['event'] == 'failed']
  assert 'in crash' in failed['trace']


def test_two_processes_find_what_one_finds(tmp_path):
  root = tmp_path / 'bids'
  small_cohorts.write_cohort(root, subjects=3, num_lesions=2)
  done = call(root, tmp_path / 'two', *FAST, '--jobs', 2)
  assert done.returncode == 0, done.stderr
  assert here(root, tmp_path / 'one', *FAST, '--jobs', 1) == 0
  for path in (tmp_path / 'one').glob('sub-*/anat/*_dseg.*'):
    other = tmp_path / 'two' / path.relative_to(tmp_path / 'one')
    if path.suffix != '.json':  # it holds the seconds
      assert path.read_bytes() == other.read_bytes()


def test_interrupt_is_130_and_goes_on(tmp_path):
  root, out = tmp_path / 'bids', tmp_path / 'out'
  small_cohorts.write_cohort(root, subjects=1, num_lesions=1)
  first = root / 'sub-01'
  for number in range(2, 120):
    name = f'sub-{number:02d}'
    shutil.copytree(first, root / name)
    for path in (root / name / 'anat').iterdir():
      path.rename(path.with_name(path.name.replace('sub-01', name)))
  with subprocess.Popen(
    command(root, out, *FAST, '--jobs', 1),
    stderr=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    text=True,
  ) as process:
    end = time.monotonic() + 300
    while len(list(out.glob('logs/sub-*.json'))) < 3 and time.monotonic() < end:
      time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
  assert process.returncode == 130
  assert 'Traceback' not in errors
  done = len(events(out, 'done'))
  assert 0 < done < 119
  assert log_of(out)[-1]['event'] == 'stopped'
  assert here(root, out, *FAST, '--dry-run') == 0
  ready = [p for p in out.glob('sub-*/anat/*_dseg.nii.gz')]
  assert len(ready) >= done
  assert not [p for p in pathlib.Path(out).rglob('.partial-*')]
