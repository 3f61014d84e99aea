"""Scalars to TensorBoard, Weights & Biases or MLflow, whichever is asked for.

Rule: none of them is needed; a library is imported only when it is asked for,
and one that is missing is named with the way to install it.
"""

import importlib
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cmbjax.errors import InputError

WRITERS = ('tensorboard', 'wandb', 'mlflow')
_MODULES = {'tensorboard': 'tensorboardX'}


def check(names: Sequence[str]) -> None:
  """Refuses what cannot be opened later, before any work.

  Raises:
    InputError: an unknown name, or a library that is not installed.
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


def open_writers(
  names: Sequence[str], folder: pathlib.Path, *, title: str, config: Mapping
) -> list:
  """The writers of those names.

  Args:
    names: some of `WRITERS`.
    folder: of the run; local files go into its `logs`.
    title: of the run.
    config: flat settings to show beside it.

  Raises:
    InputError: an unknown name, or a library that is not installed.
  """
  check(names)
  makers = {'tensorboard': TensorBoard, 'wandb': Wandb, 'mlflow': Mlflow}
  out = []
  for name in names:
    library = importlib.import_module(_MODULES.get(name, name))
    out.append(makers[name](library, folder / 'logs', title, dict(config)))
  return out


class TensorBoard:
  """Event files, without TensorFlow."""

  def __init__(self, library: Any, folder: pathlib.Path, title: str, config):
    self._writer = library.SummaryWriter(str(folder / 'tensorboard'))
    text = '\n'.join(f'    {key}: {value}' for key, value in config.items())
    self._writer.add_text('config', f'{title}\n\n{text}', 0)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


class Wandb:
  """A run of Weights & Biases; offline when its own settings say so."""

  def __init__(self, library: Any, folder: pathlib.Path, title: str, config):
    folder.mkdir(parents=True, exist_ok=True)
    self._run = library.init(
      project='cmbjax', name=title, dir=str(folder), config=config
    )

  def scalars(self, step: int, values: dict[str, float]) -> None:
    # The step is a value: strategies are trained one after the other.
    self._run.log({'epoch': step, **values})

  def close(self) -> None:
    self._run.finish()


class Mlflow:
  """A run of MLflow, in local files unless its environment says where."""

  def __init__(self, library: Any, folder: pathlib.Path, title: str, config):
    self._library = library
    library.set_experiment('cmbjax')
    library.start_run(run_name=title)
    library.log_params(config)

  def scalars(self, step: int, values: dict[str, float]) -> None:
    # Slashes make folders there; '=' and '@' of a sweep are not allowed.
    clean = {
      name.replace('@', ' ').replace('=', ' '): value
      for name, value in values.items()
    }
    self._library.log_metrics(clean, step=step)

  def close(self) -> None:
    self._library.end_run()
