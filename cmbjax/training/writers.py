"""Scalars to TensorBoard, Weights & Biases or MLflow, whichever is asked for.

Rule: each training (a row of the replica table) is a run of its own, so that
folds share a chart, and it holds each epoch once, also after a kill and a
restart. No library is needed; one that is missing is named.
"""

import contextlib
import importlib
import importlib.util
import inspect
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cmbjax import files
from cmbjax.errors import InputError, shown

WRITERS = ('tensorboard', 'wandb', 'mlflow')
_MODULES = {'tensorboard': 'tensorboardX'}
# Where W&B sends nothing, it needs no account.
_OFFLINE = ('offline', 'dryrun', 'disabled')
# MLflow would try again for minutes; a first look need not.
_ONE_TRY = {
  'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '1',
  'MLFLOW_HTTP_REQUEST_TIMEOUT': '10',
}


def check(names: Sequence[str]) -> None:
  """Refuses what cannot be written to later, before any work.

  Raises:
    InputError: an unknown name, a library that is not installed, or a server
      that cannot be reached or does not accept us.
  """
  for name in names:
    if name not in WRITERS:
      raise InputError(
        f'config.writers: holds {name!r}; allowed are {WRITERS}.'
      )
    module = _MODULES.get(name, name)
    if importlib.util.find_spec(module) is None:
      raise InputError(
        f'config.writers: {name} needs the package {module}, which is not '
        f"installed; call pip install 'cmbjax[{name}]'."
      )
  if 'wandb' in names:
    _check_wandb(importlib.import_module('wandb'))
  if 'mlflow' in names:
    _check_mlflow(importlib.import_module('mlflow'))


def open_writers(
  names: Sequence[str], folder: pathlib.Path, *, title: str, config: Mapping
) -> list:
  """The writers of those names, see `watch.Writer`.

  Args:
    names: some of `WRITERS`.
    folder: of the study; local files go into its `logs`.
    title: of the study.
    config: flat settings to show beside it.

  Raises:
    InputError: as `check`.
  """
  check(names)
  makers = {'tensorboard': TensorBoard, 'wandb': Wandb, 'mlflow': Mlflow}
  out = []
  for name in names:
    library = importlib.import_module(_MODULES.get(name, name))
    out.append(makers[name](library, folder / 'logs', title, dict(config)))
  return out


class TensorBoard:
  """Event files in a folder for each training, without TensorFlow."""

  def __init__(self, library: Any, folder: pathlib.Path, title: str, config):
    self._library, self._folder = library, folder / 'tensorboard'
    self._runs: dict[str, Any] = {}
    text = '\n'.join(f'    {key}: {value}' for key, value in config.items())
    self.begin('', 0, '')
    self._runs[''].add_text('config', f'{title}\n\n{text}', 0)

  def begin(self, name: str, first: int, fingerprint: str) -> None:
    del fingerprint
    # TensorBoard drops what older files of the folder hold from `first` on.
    # Anything is in the file a second later, should the program be killed.
    # Its files are named by the second: a run that goes on within one would
    # write over what it wrote before.
    self._runs[name] = self._library.SummaryWriter(
      str(self._folder / name),
      purge_step=first,
      flush_secs=1,
      filename_suffix=f'.{first or 0}',
    )

  def scalars(self, name: str, step: int, values: dict[str, float]) -> None:
    for tag, value in values.items():
      self._runs[name].add_scalar(tag, value, step)

  def close(self) -> None:
    for run in self._runs.values():
      run.close()


class Wandb:
  """Runs of Weights & Biases, one group; offline when its settings say so."""

  def __init__(self, library: Any, folder: pathlib.Path, title: str, config):
    self._library, self._folder = library, files.make_folder(folder)
    self._title, self._config = title, config
    self._runs: dict[str, Any] = {}

  def begin(self, name: str, first: int, fingerprint: str) -> None:
    self._runs[name] = self._library.init(
      project='cmbjax',
      group=self._title,
      name=name,
      dir=str(self._folder),
      config=self._config,
      id=run_id(self._folder, name, fingerprint),
      resume='allow',
      reinit='create_new',
      settings=self._library.Settings(console='off', silent=True),
    )

  def scalars(self, name: str, step: int, values: dict[str, float]) -> None:
    run = self._runs[name]
    if step >= run.step:  # else it is there, from before a kill
      run.log(values, step=step)

  def close(self) -> None:
    for run in self._runs.values():
      run.finish()


class Mlflow:
  """Runs of MLflow, in local files unless its environment says where."""

  def __init__(self, library: Any, folder: pathlib.Path, title: str, config):
    self._library, self._folder, self._title = library, folder, title
    self._client = library.MlflowClient()
    # Older servers of MLflow refuse longer values.
    self._params = {key: str(value)[:500] for key, value in config.items()}
    known = self._client.get_experiment_by_name('cmbjax')
    self._experiment = (
      known.experiment_id if known else self._client.create_experiment('cmbjax')
    )
    self._runs: dict[str, str] = {}
    self._next: dict[str, int] = {}  # step that a run does not hold yet

  def begin(self, name: str, first: int, fingerprint: str) -> None:
    mark = run_id(self._folder, name, fingerprint)
    found = self._client.search_runs(
      [self._experiment], f"tags.cmbjax_id = '{mark}'", max_results=1
    )
    if found:
      run = found[0].info.run_id
      self._next[name] = self._after(run, found[0].data.metrics)
    else:
      tags = {'cmbjax_id': mark, 'study': self._title}
      made = self._client.create_run(self._experiment, tags=tags, run_name=name)
      run, self._next[name] = made.info.run_id, 0
      for key, value in self._params.items():
        self._client.log_param(run, key, value)
    self._runs[name] = run

  def _after(self, run: str, names: Mapping) -> int:
    steps = [
      metric.step
      for name in names
      for metric in self._client.get_metric_history(run, name)
    ]
    return max(steps, default=-1) + 1

  def scalars(self, name: str, step: int, values: dict[str, float]) -> None:
    if step < self._next[name]:  # it is there, from before a kill
      return
    now = int(time.time() * 1000)
    metric = self._library.entities.Metric
    metrics = [metric(tag, value, now, step) for tag, value in values.items()]
    self._client.log_batch(self._runs[name], metrics=metrics)

  def close(self) -> None:
    for run in self._runs.values():
      self._client.set_terminated(run)


def run_id(folder: pathlib.Path, name: str, fingerprint: str) -> str:
  """The same for a training that is resumed in its folder, else another one.

  Args:
    folder: of the logs.
    name: of the training.
    fingerprint: of everything that decides its numbers.
  """
  return files.digest(str(pathlib.Path(folder).absolute()), name, fingerprint)


def _check_wandb(library: Any) -> None:
  settings = library.setup().settings
  if str(settings.mode) in _OFFLINE:
    return
  try:
    # Older versions always ask a terminal for the key.
    takes = inspect.signature(library.login).parameters
    quiet = {'prompt': False} if 'prompt' in takes else {}
    known = library.login(verify=True, timeout=30, **quiet)
  except Exception as error:  # of any kind: authentication, network, usage
    raise InputError(_cannot('wandb', error, _WANDB_FIX)) from error
  if not known:
    raise InputError(_cannot('wandb', 'there is no API key', _WANDB_FIX))


_WANDB_FIX = 'call `wandb login`, or set WANDB_MODE=offline'


def _check_mlflow(library: Any) -> None:
  try:
    with _environment(_ONE_TRY):
      library.MlflowClient().search_experiments(max_results=1)
  except Exception as error:  # of any kind: credentials, network, database
    where = library.get_tracking_uri()
    raise InputError(
      _cannot('mlflow', error, f'check MLFLOW_TRACKING_URI ({shown(where)})')
    ) from error


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
  """Variables that hold until the block ends, those that are not set yet."""
  added = [name for name in changes if name not in os.environ]
  os.environ.update({name: changes[name] for name in added})
  try:
    yield
  finally:
    for name in added:
      del os.environ[name]


def _cannot(name: str, why: object, fix: str) -> str:
  return (
    f'config.writers: {name} cannot be used ({shown(why)}); {fix}, or leave '
    'it out.'
  )
