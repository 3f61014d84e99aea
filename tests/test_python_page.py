"""docs/howto/python.md: every block of code runs, and gives what it says."""

import pathlib
import re
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import cmbjax
from cmbjax.data import augment
from cmbjax.detect import classifier
from cmbjax.errors import InputError
from cmbjax.models import MODELS, get_model
from cmbjax.study import ready, resolve, run
from tests.messages import says

PAGE = pathlib.Path(__file__).parents[1] / 'docs/howto/python.md'


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """The names of all blocks of the page, run one after the other."""
  blocks = re.findall(r'^```python\n(.*?)^```', PAGE.read_text(), re.S | re.M)
  assert len(blocks) == 10
  names = {'home': tmp_path_factory.mktemp('page')}

  def checked(config, workdir):
    """A study takes a minute: its settings are checked, as it does first."""
    workdir = ready.local(workdir)
    names['checked'] = ready.check(resolve.points(config), workdir).plan
    return types.SimpleNamespace(rows=[])

  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(names['home'])
    patch.setattr(run, 'study', checked)
    for block in blocks:
      exec(compile(block, PAGE.name, 'exec'), names)
  return types.SimpleNamespace(**names)


def test_likelihoods_and_logits_have_a_row_for_each_network(page):
  rows = len(page.networks.table)
  assert page.logits.shape == (rows, 6)
  expected = page.networks.likelihood(page.augment.centre_crop(PATCHES))
  np.testing.assert_array_equal(page.likelihood, expected)
  np.testing.assert_allclose(
    page.likelihood, 1 / (1 + np.exp(-page.logits)), atol=2e-3
  )  # half precision
  assert page.is_microbleed.shape == page.probability.shape == (6,)


# The first ones of the page.
PATCHES = np.random.default_rng(0).uniform(size=(6, 24, 24, 12))


def test_one_network_alone_gives_its_row(page):
  np.testing.assert_allclose(page.logit, page.logits[0], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(page.same, page.logits[0], rtol=1e-4, atol=1e-4)
  assert page.saliency.shape == (6, 16, 16, 8, 1)
  assert np.abs(page.saliency).max() > 0


def test_fitted_networks_are_held_out_by_subject(page):
  fitted, each = page.fitted, page.fitted.networks.likelihood(page.patches)
  assert [row.fold for row in fitted.networks.table] == [0, 1]
  for name in set(page.subject):
    assert len(set(fitted.fold_of[page.subject == name])) == 1
  at = np.arange(len(page.label))
  # Each subject by the network that left its fold out. Another program, with
  # other batches, so rounded otherwise.
  np.testing.assert_allclose(
    fitted.held_out, each[fitted.fold_of, at], atol=1e-5
  )
  other = each[1 - fitted.fold_of, at]
  assert np.abs(fitted.held_out - other).max() > 1e-3
  assert not fitted.networks.simulated


def test_orbax_alone_reads_what_was_trained(page):
  mine, theirs = page.fitted.networks.variables, page.tree
  jax.tree.map(np.testing.assert_array_equal, theirs, dict(mine))


def test_numbers_of_the_page_are_those_of_its_arrays(page):
  y, score = page.label, page.fitted.held_out
  wins = score[y == 1][:, None] > score[y == 0]
  assert page.found['auc'].value == pytest.approx(wins.mean(), abs=1e-3)
  sensitivity = np.mean(score[y == 1] > 0.5)
  assert page.found['sensitivity'].value == pytest.approx(sensitivity)
  gap = page.paired['auc'].difference
  assert gap.low < gap.value < gap.high


def test_the_study_of_the_page_can_be_run(page):
  assert {one.recipe.name for one in page.checked.trainings} == {
    '7t',
    'finetuned',
  }
  seeds = {
    row.seed for one in page.checked.trainings for row in one.recipe.rows
  }
  assert seeds == {0, 1}


@pytest.mark.parametrize('name', MODELS)
def test_every_network_refuses_a_patch_of_another_shape(name):
  network, key = get_model(name), jax.random.key(0)
  for shape in ((2, 24, 24, 12, 1), (2, 16, 16, 8)):
    with says(InputError, f'{shape} (B, 16, 16, 8, C) patches[..., None]'):
      jax.eval_shape(
        lambda x: network.init(key, x, train=False), np.zeros(shape, 'f4')
      )


@pytest.mark.parametrize(
  ('shape', 'scale', 'said'),
  [
    ((2, 24, 24, 8), 1, ''),
    ((24, 24, 12), 1, ''),
    ((2, 16, 16, 8, 1, 1), 1, ''),
    ((2, 24, 24, 12, 2), 1, ''),
    ((2, 24, 24, 12), 255, '255'),
    ((2, 24, 24, 12), np.nan, ''),
  ],
)
def test_patches_that_no_network_learned_from_are_refused(shape, scale, said):
  with says(InputError, said):
    cmbjax.load('robust').likelihood(
      np.linspace(0, scale, np.prod(shape)).reshape(shape)
    )


def test_all_forms_of_patches_have_one_likelihood():
  networks, patches = cmbjax.load('robust'), PATCHES[:2]
  expected = networks.likelihood(patches)
  assert expected.shape == (len(networks.table), 2)
  for same in (
    patches[..., None],
    augment.centre_crop(patches),
    augment.centre_crop(patches)[..., None],
  ):
    np.testing.assert_array_equal(networks.likelihood(same), expected)
  assert networks.likelihood(patches[:0]).shape == (len(networks.table), 0)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'settings': {'train.epoch': 1}}, "'train.epoch'"),
    ({'settings': {'cohorts.ccm_3t': 'a'}}, ''),
    (
      {'settings': {'train.epochs': 1.5}},
      'train.epochs 1.5',
    ),
    ({'settings': {'train.epochs': 0}}, 'train.epochs'),
    ({'patches': PATCHES[:, :16]}, ''),
    ({'patches': PATCHES * 255}, ''),
    ({'label': [0, 1]}, ''),
    ({'label': [0, 1, 2, 0, 1, 1]}, 'mimic'),
    ({'subject': ['a'] * 6}, ''),
    ({'settings': {'channels': ('swi', 'phase')}}, ''),
    ({'start': '7t'}, ''),
  ],
)
def test_arrays_that_cannot_be_trained_on_are_refused(tmp_path, change, said):
  given = {
    'patches': PATCHES,
    'label': [0, 1, 0, 1, 0, 1],
    'subject': list('aabbcc'),
    'settings': {'patches': 'resampled', 'train.folds': 2},
  }
  with says(InputError, said):
    cmbjax.fit(**given | change, workdir=tmp_path)


# In a process of its own: here everything is imported already. Libraries that
# are needed come first, since what they change is theirs.
SIDE_EFFECTS = """
import importlib, logging, os, pkgutil, random, signal, socket, sys, warnings
import absl.flags, absl.logging, flax.linen, jax, jinja2, matplotlib.pyplot
import ml_collections, nibabel, numpy as np, optax
from orbax.checkpoint import v1
import scipy.ndimage, scipy.optimize, scipy.sparse, scipy.stats
import tensorflow_datasets

def state():
  root = logging.getLogger()
  known = logging.root.manager.loggerDict.items()
  return {
    'environment': dict(os.environ),
    'sys.path': list(sys.path),
    'importers': [*map(id, sys.meta_path), *map(id, sys.path_hooks)],
    'warnings': list(map(str, warnings.filters)) + [id(warnings.showwarning)],
    'log levels': {n: getattr(l, 'level', 0) for n, l in known if n in LOGGERS},
    'log': (root.level, root.handlers[:], logging.root.manager.disable),
    'absl': (absl.logging.get_verbosity(), sorted(absl.flags.FLAGS)),
    'signals': {s: signal.getsignal(s) for s in signal.valid_signals()},
    'jax': {k: repr(v) for k, v in jax.config.values.items()},
    'matplotlib': {k: repr(v) for k, v in matplotlib.rcParams.items()},
    'numpy': (np.geterr(), repr(np.get_printoptions())),
    'random': (random.getstate(), np.random.get_state()[1].tolist()),
    'other': (
      os.getcwd(), socket.getdefaulttimeout(), sys.getrecursionlimit(),
      sys.excepthook, sys.stdout, sys.stderr,
    ),
  }

LOGGERS = set(logging.root.manager.loggerDict)
before = state()
import cmbjax
count = 0
for module in pkgutil.walk_packages(cmbjax.__path__, 'cmbjax.'):
  importlib.import_module(module.name)
  count += 1
cmbjax.load, cmbjax.fit, cmbjax.metrics, cmbjax.compare
after = state()
assert count > 150, count
print([key for key in before if before[key] != after[key]])
"""


def test_importing_every_module_changes_nothing_of_the_program():
  done = subprocess.run(
    [sys.executable, '-W', 'ignore', '-c', SIDE_EFFECTS],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout.strip() == '[]', done.stdout + done.stderr


def test_importing_cmbjax_is_quick_and_names_what_there_is():
  code = (
    'import sys, cmbjax; assert "jax" not in sys.modules;'
    'assert "numpy" not in sys.modules;'
    'assert {"load", "fit", "metrics", "compare"} <= set(dir(cmbjax))'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
  assert cmbjax.load is classifier.load
  with says(AttributeError, "'lode'"):
    cmbjax.lode()


def test_saving_leaves_the_users_verbosity(page):
  from absl import logging

  before = logging.get_verbosity()
  try:
    for level in (logging.INFO, logging.FATAL):
      logging.set_verbosity(level)
      cmbjax.load(page.home / page.fitted.folder)
      assert logging.get_verbosity() == level
  finally:
    logging.set_verbosity(before)
