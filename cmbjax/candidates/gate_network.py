"""The learned gate: numbers of dark places to how likely each is a microbleed.

Two steps, as growing a region at every dark place would take too long: a
linear one sorts all places by their surroundings, and small networks judge the
best ones by their grown regions too. Rule: the same file gives the same scores
on any machine, and a file that was made for other numbers is refused.
"""

import functools
import importlib.resources
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cmbjax import files, sealed
from cmbjax.errors import InputError

FILE = 'gate.npz'  # of the package
_LIMIT = 5.0  # standard deviations; beyond them nothing was learned


class GateNetwork(NamedTuple):
  """What was learned: F numbers of a place, G of a grown one, K networks."""

  names: tuple[str, ...]  # G of them; the first F are those of a place
  loose_mean: np.ndarray  # [F] float32
  loose_scale: np.ndarray  # [F] standard deviation
  loose_weight: np.ndarray  # [F + 1], the last one is the bias
  mean: np.ndarray  # [G]
  scale: np.ndarray  # [G]
  hidden: np.ndarray  # [K, G + 1, H]; the last row is the bias
  out: np.ndarray  # [K, H + 1]; the last one is the bias
  threshold: np.ndarray  # [] of the score; what is above passes

  def loose_score(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """How much N places look like one: larger is better.

    Args:
      features: name to [N] of the F numbers of a place.

    Raises:
      InputError: what was learned is of other numbers.
    """
    values = self._stacked(features, self.names[: len(self.loose_mean)])
    scaled = scale(values, self.loose_mean, self.loose_scale)
    return scaled @ self.loose_weight[:-1] + self.loose_weight[-1]

  def score(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean of the networks [N] float32, 0 to 1.

    Args:
      features: name to [N] of the G numbers of a grown place.

    Raises:
      InputError: what was learned is of other numbers.
    """
    scaled = scale(self._stacked(features, self.names), self.mean, self.scale)
    value = sum(
      forward(scaled, hidden, out)[1]
      for hidden, out in zip(self.hidden, self.out)
    ) / len(self.hidden)
    return (1 / (1 + np.exp(-value))).astype(np.float32)

  def _stacked(self, features, names):
    if tuple(features) != tuple(names):
      differ = sorted(set(features) ^ set(names)) or ['their order']
      raise InputError(
        f'gate: was learned from other numbers ({differ[0]} differs); make it '
        'again with cmbjax weights gate.'
      )
    return stack(features)

  def save(self, path: str | os.PathLike) -> None:
    """Writes the file that `load` reads."""
    sealed.write_arrays(path, self._asdict() | {'names': list(self.names)})


def load(path: str | os.PathLike | None = None) -> GateNetwork:
  """Reads a gate; None: that of the package.

  Raises:
    InputError: damaged, or something else.
  """
  path = pathlib.Path(path) if path else _packaged()
  found = sealed.read_arrays(path)
  if set(found) != set(GateNetwork._fields):
    differ = sorted(set(found) ^ set(GateNetwork._fields))
    raise InputError(
      f'{path}: is not a gate ({differ[0]!r} is missing or too much); make one '
      'with cmbjax weights gate.'
    )
  network = GateNetwork(**found)
  return network._replace(names=tuple(map(str, network.names)))


@functools.cache
def digest() -> str:
  """16 hex digits of the gate in the package."""
  return files.digest(_packaged())


def stack(features: Mapping[str, np.ndarray]) -> np.ndarray:
  """Named [N] columns to one [N, G] float32 array, in their order."""
  return np.stack(list(features.values()), 1).astype(np.float32)


def scale(
  features: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
  """Standard deviations from the mean [N, G], cut at a limit.

  Args:
    features: [N, G].
    mean: [G].
    deviation: [G], above 0.
  """
  return np.clip((features - mean) / deviation, -_LIMIT, _LIMIT)


def forward(
  scaled: np.ndarray, hidden: np.ndarray, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Activations [N, H] and logits [N] of one network.

  Args:
    scaled: [N, G], as `scale` gives it.
    hidden: [G + 1, H]; the last row is the bias.
    out: [H + 1]; the last one is the bias.
  """
  active = np.maximum(scaled @ hidden[:-1] + hidden[-1], 0)
  return active, active @ out[:-1] + out[-1]


def _packaged() -> pathlib.Path:
  return pathlib.Path(str(importlib.resources.files(__package__) / FILE))
