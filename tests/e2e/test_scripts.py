"""scripts/*: stopped in the middle, they end with the same numbers."""

import json

import numpy as np
import pytest

from cmbjax.evaluation import prediction_files
from tests import small_cohorts
from tests.slurm import ROOT, Slurm

SCRIPTS = ROOT / 'scripts'
CONFIG = """
from configs import base

def get_config(preset=''):
  config = base.get_config(preset)
  config.strategies = ('scratch',)
  config.tests = ('btumor_3t',)
  config.test_subjects.btumor_3t = 1
  config.model.name = 'simpler_cnn'
  config.train.folds = 2
  config.train.epochs = 4
  config.train.save_every_s = 0.0
  config.evaluation.draws = 50
  return config
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
  """A small config and its only cohort, as arguments."""
  folder = tmp_path_factory.mktemp('given')
  small_cohorts.write_cohort(folder / 'cohort', subjects=3, simulated=True)
  (folder / 'tiny.py').write_text(CONFIG)
  return [folder / 'tiny.py', f'--config.cohorts.btumor_3t={folder}/cohort']


@pytest.fixture(scope='module')
def expected(arguments, tmp_path_factory):
  """What an unbroken run ends with, started by workstation.sh."""
  folder = tmp_path_factory.mktemp('workstation')
  slurm = Slurm(folder / 'bin', folder / 'run')  # for its environment
  done = slurm.call(
    SCRIPTS / 'workstation.sh', *arguments, WORKDIR=folder / 'run'
  )
  assert done.returncode == 0, done.stderr
  return likelihoods(folder / 'run')


def likelihoods(workdir):
  assert json.loads((workdir / 'record.json').read_text())['status'] == 'done'
  assert (workdir / 'report.html').is_file()
  return np.concatenate(
    [one.predictions.probability for one in prediction_files.read(workdir)]
  )


def test_slurm_study_requeues_itself(arguments, expected, tmp_path):
  """Two tasks that find each other; both are stopped after an epoch."""
  run = tmp_path / 'run'
  slurm = Slurm(tmp_path / 'bin', run)
  slurm.preempt()
  done = slurm.call(
    *('sbatch', '--ntasks=2', SCRIPTS / 'slurm_study.sh', *arguments),
    WORKDIR=run,
  )
  assert done.returncode == 0, done.stderr
  assert slurm.history == [
    'step ended with 0',
    'requeued',
    'job ended with 0',
    'step ended with 0',
    'job ended with 0',
  ]
  assert 'stopped and saved' in done.stderr
  np.testing.assert_allclose(likelihoods(run), expected, atol=1e-6)


def test_slurm_array_goes_on_when_sent_again(arguments, expected, tmp_path):
  """One task for each line; a line that is missing is said."""
  run = tmp_path / 'array'
  slurm = Slurm(tmp_path / 'bin', run / '1')
  slurm.preempt()
  name, *rest = arguments
  studies = tmp_path / 'studies.txt'
  studies.write_text(f'--config={name} {" ".join(rest)}\n')
  send = ('sbatch', '--array=1-1', SCRIPTS / 'slurm_array.sh', studies)
  assert slurm.call(*send, WORKDIR=run).returncode == 0
  record = json.loads((run / '1' / 'record.json').read_text())
  assert record['status'] == 'incomplete'
  done = slurm.call(*send, WORKDIR=run)
  assert done.returncode == 0, done.stderr
  np.testing.assert_array_equal(likelihoods(run / '1'), expected)
  send = ('sbatch', '--array=2-2', *send[2:])
  done = slurm.call(*send, WORKDIR=run)
  assert done.returncode == 2
  assert 'studies.txt: has no line 2' in done.stderr
