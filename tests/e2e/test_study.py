"""The real command line: a study, a second run, a kill, and mistakes."""

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

from cmbjax.data import examples as examples_lib
from cmbjax.detect import classifier
from cmbjax.evaluation import prediction_files
from cmbjax.evaluation.predictions import ENSEMBLE, OUT_OF_FOLD
from tests import offline

ROOT = pathlib.Path(__file__).parents[2]
POINTS = ('high_sensitivity', 'balanced', 'high_precision')
COHORTS = ('btumor_7t', 'btumor_3t', 'ccm_3t')
SMALL = (  # enough to be a study, small enough to be killed twice
  '--config.train.epochs=3',
  '--config.train.finetune_epochs=2',
)

pytestmark = pytest.mark.e2e


def command(workdir, *arguments, config='smoke'):
  return [
    sys.executable,
    '-m',
    'cmbjax.main',
    f'--config={ROOT}/configs/{config}.py',
    f'--workdir={workdir}',
    *arguments,
  ]


def call(workdir, *arguments, config='smoke', timeout=400):
  workdir = pathlib.Path(workdir)
  return subprocess.run(
    command(workdir, *arguments, config=config),
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
    cwd=workdir.parent,
    env=offline.environment(workdir.parent / 'record'),
  )


def numbers(workdir):
  return json.loads((workdir / 'results.json').read_text())['rows']


def given(folders):
  return [f'--config.cohorts.{name}={path}' for name, path in folders.items()]


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  """configs/smoke.py as it is, on simulated cohorts."""
  workdir = tmp_path_factory.mktemp('smoke') / 'run'
  done = call(workdir)
  assert done.returncode == 0, done.stderr
  return workdir, done


@pytest.fixture(scope='module')
def cohorts(smoke):
  return {name: smoke[0] / 'cohorts' / name for name in COHORTS}


def test_smoke_ends_with_rows_and_report(smoke):
  workdir, done = smoke
  assert 'smoke, simulated data' in done.stdout
  assert [row['number'] for row in numbers(workdir)] == [2, 3, 4, 5]
  assert 'left at init (0): none' in done.stderr
  page = (workdir / 'report.html').read_text()
  assert 'simulated' in page
  assert '://' not in page.replace('http://www.w3.org', '')
  for name in ('results.csv', 'figure3_rows.png', 'figure5_roc.png'):
    assert (workdir / name).stat().st_size > 1000


def test_nothing_is_looked_up_anywhere(smoke):
  assert offline.attempts(smoke[0].parent / 'record') == []


def test_predictions_hold_every_network_and_the_training_subjects(smoke):
  """Ensemble and out of fold; size and region of every true lesion."""
  workdir, _ = smoke
  run = prediction_files.read(workdir)
  kinds = {(one.strategy, one.test): one.kind for one in run}
  assert kinds['finetuned', 'ccm_3t'] == ENSEMBLE
  held = [one for one in run if one.kind == OUT_OF_FOLD]
  assert [(one.strategy, one.test) for one in held] == [
    ('7t', 'btumor_7t'),
    ('finetuned', 'btumor_3t'),
  ]
  tested = set()
  for one in run:
    if one.kind == ENSEMBLE:
      tested |= set(one.scans.subject)
  for one in held:
    assert not tested & set(one.scans.subject)
    rows = one.networks.likelihood
    np.testing.assert_array_equal(
      np.isfinite(rows), one.networks.fold[:, None] == one.fold_of
    )
  for one in run:
    assert len(one.lesions.scan) == one.scans.num_lesions.sum()
    assert (one.lesions.why != '').sum() == one.scans.num_missed.sum()
    assert np.isfinite(one.lesions.diameter_mm).all()
    assert (one.lesions.region != '').all()
  parts = [row['parts'] for row in numbers(workdir)]
  assert all({'size', 'region'} == set(part) for part in parts)
  known = json.loads((workdir / 'results.json').read_text())
  assert [row['kind'] for row in known['held_out']] == ['out of fold'] * 2


def test_the_folder_names_no_place_on_this_machine(smoke):
  workdir, _ = smoke
  text = (workdir / 'report.html').read_text()
  assert str(workdir.parent) not in text
  assert str(ROOT) not in text


def test_a_second_run_reuses_everything(smoke):
  workdir, first = smoke
  before = numbers(workdir)
  second = call(workdir)
  assert second.returncode == 0, second.stderr
  assert second.stdout == first.stdout
  assert numbers(workdir) == before
  for word in ('simulate', 'candidates', 'train'):
    assert word not in second.stderr


def test_networks_that_see_the_phase(cohorts, tmp_path):
  """Resampled patches of two channels, from the config to `cmbjax detect`."""
  run = tmp_path / 'run'
  arguments = (
    *given({'btumor_7t': cohorts['btumor_7t']}),
    "--config.channels=('swi','phase')",
    '--config.patches=resampled',
    "--config.strategies=('7t',)",
    "--config.tests=('btumor_7t',)",
    '--config.model.name=simpler_cnn_v2',
    '--config.train.epochs=1',
  )
  done = call(run, *arguments)
  assert done.returncode == 0, done.stderr
  weights = run / 'models' / '7t'
  before = _judged(run, weights)
  mirrored = '--config.evaluation.mirrored=True'
  done = call(run, *arguments, mirrored)
  assert_one_line(done, 2, 'evaluation.mirrored was False, is True')
  assert '--overwrite' in done.stderr
  done = call(run, *arguments, mirrored, '--overwrite')
  assert done.returncode == 0, done.stderr
  assert 'train' not in done.stderr
  after = _judged(run, weights)
  assert np.abs(after - before).max() > 1e-6
  record = json.loads((weights / 'weights.json').read_text())
  assert record['channels'] == ['swi', 'phase']
  assert list(run.glob('examples/*/btumor_7t/resampled_phase'))
  (scan,) = cohorts['btumor_7t'].glob('sub-7T001/anat/*_swi.nii.gz')
  for source, out, code in (
    (scan, 'alone', 2),
    (scan.parent, 'folder', 0),
  ):
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'cmbjax.cli', 'detect', source),
        *(tmp_path / out, '--weights', weights, '--no-regions', '--no-report'),
      ],
      capture_output=True,
      text=True,
      timeout=200,
      check=False,
    )
    assert done.returncode == code, done.stderr
    if code:
      assert 'there is no phase beside the SWI' in done.stderr
      assert 'networks of --weights (7t) see swi and phase' in done.stderr
  assert (tmp_path / 'folder' / 'logs' / 'sub-7T001.json').is_file()


def _judged(run, weights):
  """Likelihoods of the test set, which are those that detect would give."""
  (test,) = (
    table
    for table in prediction_files.read(run / 'predictions.npz')
    if table.kind == ENSEMBLE
  )
  (built,) = run.glob('examples/*/btumor_7t/resampled_phase/*')
  examples = examples_lib.load(built)
  at = {key: n for n, key in enumerate(examples.key)}
  mine = [at[key] for key in test.predictions.key]
  seen = examples_lib.seen(examples)[mine]
  expected = classifier.load(weights).likelihood(seen).mean(0)
  found = test.predictions.probability
  np.testing.assert_allclose(found, expected, atol=1e-6)
  return found


def test_its_weights_detect(smoke, tmp_path):
  """Out-of-fold operating points lie beside the weights; detect takes both."""
  workdir, _ = smoke
  weights = workdir / 'models' / 'finetuned'
  known = json.loads((weights / 'operating_points.json').read_text())
  points = [known['points'][n]['threshold'] for n in POINTS]
  assert points[0] == 0.1
  assert points == sorted(points)
  assert known['simulated'] is True
  assert known['domain']['field_t'] == [3.0]
  assert known['out_of_fold']['lesions'] > 0
  (scan,) = workdir.glob('cohorts/btumor_3t/sub-3T001/anat/*_swi.nii.gz')
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'cmbjax.cli', 'detect', scan, tmp_path / 'out'),
      *('--weights', weights, '--operating-point', 'balanced'),
    ],
    capture_output=True,
    text=True,
    timeout=200,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  record = json.loads((tmp_path / 'out/logs/sub-3T001.json').read_text())
  assert record['row']['threshold'] == points[1]
  assert not [w for w in record['warnings'] if 'voxels of' in w]


def test_ten_rows_and_more_subjects(smoke, tmp_path):
  """All rows; the subjects that are there are kept, others are added."""
  run = tmp_path / 'run'
  shutil.copytree(smoke[0] / 'cohorts', run / 'cohorts')
  done = call(
    run,
    '--config.simulate.slab_mm=24',
    '--config.simulate.subjects.btumor_7t=4',
    '--config.simulate.subjects.btumor_3t=4',
    '--config.simulate.subjects.ccm_3t=2',
    '--config.model.name=resnet_v3',
    '--config.train.folds=2',
    '--config.train.epochs=1',
    '--config.train.finetune_epochs=1',
    '--config.test_subjects.btumor_7t=2',
    '--config.test_subjects.btumor_3t=2',
    '--config.evaluation.draws=100',
    config='study',
  )
  assert done.returncode == 0, done.stderr
  assert 'simulate btumor_7t 3/4' in done.stderr
  rows = numbers(run)
  assert len(rows) == 12  # 4 strategies on 3 test sets
  found = {row['number']: (row['strategy'], row['test']) for row in rows}
  assert set(found) == {*range(1, 11), None}
  assert found[5] == ('finetuned', 'ccm_3t')
  without = {r['strategy'] for r in rows if r['number'] is None}
  assert without == {'finetuned', 'scratch'}  # both on 7T
  for row in rows:
    auc = row['metrics']['auc']
    assert 'subject' in auc['note']  # two of them, or all lesions in one
    if auc['low'] is not None:
      assert 0 <= auc['low'] <= auc['value'] <= auc['high'] <= 1
    assert row['bootstrap']['auc']['value'] == auc['value']
    found = row['metrics']['sensitivity_lesions']['value']
    assert found <= row['metrics']['detector_sensitivity']['value']


def interrupt(workdir, number, *arguments):
  """Starts a run and sends a signal once the first of 3 epochs is logged."""
  log = workdir / 'models' / '7t' / 'epochs.jsonl'
  log.unlink(missing_ok=True)
  with subprocess.Popen(
    command(workdir, *arguments),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    cwd=workdir.parent,
  ) as process:
    end = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < end:
      if log.exists() and log.read_text():
        break
      time.sleep(0.05)
    assert process.poll() is None, 'it ended before it could be interrupted'
    process.send_signal(number)
    errors = process.communicate(timeout=100)[1]
  assert not (workdir / 'report.html').exists()
  return process.returncode, errors


def test_killed_and_run_again_gives_the_same_numbers(cohorts, tmp_path):
  """SIGTERM ends with 0 and says what to do, SIGKILL says nothing."""
  unbroken, killed = tmp_path / 'unbroken', tmp_path / 'killed'
  done = call(unbroken, *given(cohorts), *SMALL)
  assert done.returncode == 0, done.stderr
  code, errors = interrupt(killed, signal.SIGTERM, *given(cohorts), *SMALL)
  assert code == 0, errors
  assert errors.splitlines()[-1] == (
    'cmbjax: stopped and saved; run it again to go on.'
  )
  assert list(killed.glob('models/7t/checkpoints/epoch-*.json'))
  record = json.loads((killed / 'record.json').read_text())
  assert record['status'] == 'incomplete'
  # Another setting deletes nothing of it.
  rate = '--config.train.learning_rate=3e-4'
  refused = call(killed, *given(cohorts), *SMALL, rate)
  assert_one_line(refused, 2, 'train.learning_rate was 0.0001, is 0.0003')
  assert list(killed.glob('models/7t/checkpoints/epoch-*.json'))
  code, _ = interrupt(killed, signal.SIGKILL, *given(cohorts), *SMALL)
  assert code == -signal.SIGKILL
  again = call(killed, *given(cohorts), *SMALL)
  assert again.returncode == 0, again.stderr
  assert again.stdout == done.stdout
  assert numbers(killed) == numbers(unbroken)
  record = json.loads((killed / 'record.json').read_text())
  assert record['status'] == 'done'
  assert len(record['table']) == 4


def test_a_dry_run_trains_nothing(tmp_path):
  done = call(tmp_path / 'run', '--mode=dryrun', config='sweep')
  assert done.returncode == 0, done.stderr
  assert '60 trainings, 1 program, 2 calls' in done.stdout
  assert not (tmp_path / 'run').exists()


def test_pretrained_weights_of_another_run(smoke, cohorts, tmp_path):
  weights = smoke[0] / 'models' / '7t'
  done = call(
    tmp_path / 'run', *given(cohorts), f'--config.pretrained={weights}'
  )
  assert done.returncode == 0, done.stderr
  assert not (tmp_path / 'run' / 'models' / '7t').exists()
  assert numbers(tmp_path / 'run') == numbers(smoke[0])


@pytest.mark.parametrize(
  ('arguments', 'code', 'message'),
  [
    (['--config.cohorts.btumor_3t=/no/where'], 3, 'is not a folder'),
    (['--config.pretrained=/no/where'], 3, 'is not a folder'),
    (['--config.train.epoch=3'], 2, 'did you mean train.epochs'),
    (['--config.train.epochs=many'], 2, "is 'many', must be a whole number"),
    (['--config.train.epochs=0'], 2, 'must be 1 to'),
    (['--config.train.seeds=(1,1)'], 2, 'train.seeds'),
    (['--config.model.name=resnet_v9'], 2, 'resnet_v4'),
    (['--config.tests=("nowhere",)'], 2, 'btumor_3t'),
    (['--config.model.convolution=magic'], 2, 'winograd'),
    (['--config.train.backend=pmap'], 2, 'vmap'),
    (['--config.train.learning_rate=inf'], 2, 'learning_rate'),
    (['--config.train.folds=50'], 2, 'config.train.folds'),
    (['--config.test_subjects.btumor_3t=0'], 2, '1 or more'),
    (['--config.simulate.slab_mm=3'], 2, '8 to 200'),
    (['--config.evaluation.draws=1000000000000'], 2, '1 to 1,000,000'),
    (['--workdir=gs://bucket/run'], 2, 'is a remote address'),
    ([f'--config={ROOT}/configs/study.py'], 2, 'given twice'),
    (['--other=1'], 2, 'other'),
    (['stray'], 2, 'stray'),
  ],
)
def test_mistakes_are_one_line(tmp_path, arguments, code, message):
  done = call(tmp_path / 'run', *arguments)
  assert_one_line(done, code, message)
  assert not (tmp_path / 'run').exists()


def test_a_file_as_workdir(tmp_path):
  (tmp_path / 'run').write_text('')
  done = call(tmp_path / 'run')
  assert_one_line(done, 2, 'run is a file); choose another')


def test_a_missing_config(tmp_path):
  done = call(tmp_path / 'run', config='nope')
  assert_one_line(done, 3, 'no such file')


def assert_one_line(done, code, message):
  assert done.returncode == code, done.stderr
  lines = done.stderr.strip().splitlines()
  assert len(lines) == 1, done.stderr
  assert lines[0].startswith('cmbjax: ')
  assert message in lines[0]
  assert done.stdout == ''


def last_line(done, code, message):
  """Progress may come first; the error is one line, without a traceback."""
  assert done.returncode == code, done.stderr
  assert 'Traceback' not in done.stderr
  line = done.stderr.strip().splitlines()[-1]
  assert line.startswith('cmbjax: ')
  assert message in line


def test_overlapping_subjects(cohorts, tmp_path):
  same = {**cohorts, 'ccm_3t': cohorts['btumor_3t']}
  done = call(tmp_path / 'run', *given(same))
  assert_one_line(done, 2, 'btumor_3t: all of its subjects test another cohort')
  assert not (tmp_path / 'run').exists()


def test_overlap_with_pretraining(smoke, cohorts, tmp_path):
  """Weights of 3T subjects must not be tested on the same subjects."""
  weights = tmp_path / 'weights'
  shutil.copytree(smoke[0] / 'models' / 'finetuned', weights)
  done = call(
    tmp_path / 'run', *given(cohorts), f'--config.pretrained={weights}'
  )
  last_line(done, 2, 'pretraining and training share')


def test_a_cohort_with_one_subject(cohorts, tmp_path):
  folders = {**cohorts, 'btumor_3t': cohorts['ccm_3t']}
  done = call(
    tmp_path / 'run', *given(folders), '--config.tests=("btumor_3t",)'
  )
  last_line(done, 2, 'btumor_3t: all of its subjects (1) are held out')


def copy_of(cohort, tmp_path):
  copy = tmp_path / 'cohort'
  shutil.copytree(cohort, copy)
  return copy


def test_a_scan_cut_in_half(cohorts, tmp_path):
  copy = copy_of(cohorts['btumor_3t'], tmp_path)
  path = sorted(copy.glob('sub-*/anat/*_swi.nii.gz'))[1]
  os.truncate(path, path.stat().st_size // 2)
  done = call(tmp_path / 'run', *given({**cohorts, 'btumor_3t': copy}))
  last_line(done, 2, f'{path.name}: is not a readable NIfTI')


def test_labels_of_another_shape(cohorts, tmp_path):
  copy = copy_of(cohorts['btumor_3t'], tmp_path)
  path = sorted(copy.glob('derivatives/truth/*/anat/*_seg-cmb_dseg.nii.gz'))[0]
  image = nib.load(path)
  smaller = np.asarray(image.dataobj)[:-3]
  nib.save(nib.Nifti1Image(smaller, image.affine), path)
  done = call(tmp_path / 'run', *given({**cohorts, 'btumor_3t': copy}))
  last_line(done, 2, path.name)
  assert 'shape' in done.stderr.splitlines()[-1]
