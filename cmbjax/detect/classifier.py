"""Patches to likelihoods: the fold ensemble of one trained strategy.

Rule: a patch is cut, rounded and cropped as it was for training, and every
threshold comes from the folder of the weights, chosen out of fold. In Python:
`cmbjax.load('robust')`, see docs/howto/python.md.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cmbjax import files, plugins
from cmbjax.candidates import stages
from cmbjax.detect import points
from cmbjax.errors import InputError
from cmbjax.reconstruct.channels import CHANNELS, ONLY_SWI, depth, in_order
from cmbjax.weights import catalogue

if TYPE_CHECKING:  # JAX is needed for the arrays alone
  from cmbjax.training.replicas import Replica

BATCH = 64  # one shape for every scan, so one compiled program
_ROUNDING = 1e-3  # of half precision, beyond 0..1


@dataclasses.dataclass(frozen=True)
class Classifier:
  """R networks and what is known about them.

  Attributes:
    name: of the strategy, for example 'robust'.
    model: name of the network.
    patches: 'native' or 'resampled', how patches are cut.
    variables: {'params': ..., 'batch_stats': ...}, trees of numpy arrays; the
      first axis of each is R, so `row(r)` has the weights of one network.
    table: [R] which fold each network held out, its seed and its settings.
    points: threshold of each operating point; strictly above is positive.
    rules: how each point was chosen, in words.
    calibration: {'kind': ..., its parameters}, see
      `operating_points.calibrated`.
    domain: ranges of the training scans; empty when not known.
    simulated: some of them were simulated.
    fingerprint: same value, same numbers.
    precision: of each operating point, out of fold, where it was measured.
    persons: simulated people in the training, see `data.persons`.
    channels: what the networks see, see `reconstruct.channels`.
    mirrored: a likelihood is the mean over the eight mirror images.
    candidates: the stage that found what they learned from, see
      `candidates.stages`.
    candidates_code: `stages.code` of it then; None: not known.
    site: on which reviewed scans `cmbjax calibrate` chose the points; {} for
      the points of the training.
    established: kinds of scans with the precision of "definite" there, see
      `points.read`; () for weights of before.
  """

  name: str
  model: str
  patches: str
  variables: Mapping[str, Any]
  table: 'tuple[Replica, ...]'
  points: Mapping[str, float]
  rules: Mapping[str, str]
  calibration: Mapping[str, Any]
  domain: Mapping[str, Any]
  simulated: bool
  fingerprint: str
  precision: Mapping[str, float] = dataclasses.field(default_factory=dict)
  persons: frozenset[str] = frozenset()
  channels: tuple[str, ...] = ONLY_SWI
  mirrored: bool = False
  candidates: str = stages.DEFAULT
  candidates_code: str | None = None
  site: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  established: tuple[Mapping[str, Any], ...] = ()

  @property
  def params(self) -> Any:
    """The trained parameters of all networks; axis R comes first."""
    return self.variables['params']

  @property
  def network(self) -> Any:
    """The Flax module; `network.apply(row(r), x, train=False)` gives logits.

    It takes x [B, 16, 16, 8, C] and gives [B].
    """
    return _network(self.model, depth(self.channels))

  def row(self, r: int) -> dict[str, Any]:
    """The variables of network `r` alone, without axis R."""
    return _row(dict(self.variables), r)

  def apply(self, patches: np.ndarray) -> np.ndarray:
    """Patches to logits [R, N] float32, in single precision as they are.

    Args:
      patches: [N, 16, 16, 8, C] in 0..1.

    Raises:
      InputError: another shape, or values beyond 0..1.
    """
    from cmbjax.models import contract

    patches = np.asarray(patches, np.float32)
    contract.check_patches(patches.shape)
    return self._run(self._checked(patches), likelihood=False)

  def likelihood(self, patches: np.ndarray) -> np.ndarray:
    """Patches to likelihoods [R, N] float64, as `cmbjax detect` has them.

    They are rounded to half precision, as those of training are, and their
    middle 16 x 16 x 8 is cut out where they are larger.

    Args:
      patches: values 0..1: [N, 24, 24, 12], as `data.examples.load` gives
        them, or [N, 16, 16, 8]; with several channels [..., C].

    Raises:
      InputError: another shape, or values beyond 0..1.
    """
    from cmbjax.data import augment

    patches, shape = np.asarray(patches), np.shape(patches)
    if shape[1:4] not in (augment.PATCH, augment.SEEN) or patches.ndim > 5:
      raise InputError(
        f'patches: have shape {shape}; give (N, 24, 24, 12) or (N, 16, 16, 8), '
        'and (..., C) behind it for several channels.'
      )
    patches = self._checked(augment.with_channels(patches))
    patches = patches.astype(np.float16)  # data sets are stored in it
    if shape[1:4] == augment.PATCH:
      patches = augment.centre_crop(patches)
    # One after the other, as all eight at once take eight times the memory.
    images = augment.mirrored(patches) if self.mirrored else [patches]
    rows = [self._run(image, likelihood=True) for image in images]
    return np.mean(rows, axis=0, dtype=np.float64)

  def _checked(self, patches: np.ndarray) -> np.ndarray:
    """Patches [N, X, Y, Z, C] whose channels and values a network knows."""
    if patches.shape[-1] != depth(self.channels):
      raise InputError(
        f'patches: have {patches.shape[-1]} channels, these networks see '
        f'{depth(self.channels)} ({" + ".join(self.channels)}).'
      )
    low, high = patches.min(initial=0), patches.max(initial=0)
    # Not `low < ...`: NaN has to be refused too.
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
      raise InputError(
        f'patches: hold {low:g} to {high:g}, networks take 0 to 1; '
        'cmbjax.data.patches cuts and scales them as for training.'
      )
    return patches

  def _run(self, patches: np.ndarray, *, likelihood: bool) -> np.ndarray:
    """Logits or likelihoods [R, N] of patches [N, 16, 16, 8, C]."""
    run = _program(self.model, depth(self.channels), likelihood)
    beside = [(0, 0)] * (patches.ndim - 1)
    out = np.zeros((len(self.table), len(patches)), np.float32)
    if not len(patches):
      return out
    # Rows are independent, so what the last batch is filled with is cut off.
    padded = np.pad(patches, ((0, -len(patches) % BATCH), *beside), mode='edge')
    for r in range(len(self.table)):
      mine, parts = self.row(r), np.split(padded, len(padded) // BATCH)
      rows = [np.asarray(run(mine, part)) for part in parts]
      out[r] = np.concatenate(rows)[: len(patches)]
    return out

  def probability(self, mean: np.ndarray) -> np.ndarray:
    """Calibrated probabilities [N] of mean likelihoods [N]."""
    from cmbjax.evaluation import operating_points

    return operating_points.calibrated(mean, self.calibration)

  def threshold(self, point: str) -> float:
    """The threshold of an operating point.

    Raises:
      InputError: the weights do not have it.
    """
    if point not in self.points:
      raise InputError(
        f'--operating-point: found {point!r}, these weights have '
        f'{", ".join(self.points)}; choose one of them or give --threshold.'
      )
    return self.points[point]


def load(folder: str | os.PathLike | None) -> Classifier:
  """Reads the weights of one strategy.

  Args:
    folder: the name of weights of the package, such as 'robust';
      the folder `models/NAME` of a finished run; None: the package's default.

  Raises:
    NoInputError: there are none.
    InputError: they are damaged.
  """
  from cmbjax.training import checkpoint

  known = described(folder)  # first: it says what is missing
  weights = checkpoint.load_weights(catalogue.resolve(folder))
  return dataclasses.replace(known, variables=weights._asdict())


def described(folder: str | os.PathLike | None) -> Classifier:
  """As `load`, without reading the arrays: `variables` is empty.

  Raises:
    NoInputError, InputError: as `load`.
  """
  from cmbjax.training import checkpoint, replicas

  folder = catalogue.resolve(folder)
  record = checkpoint.read_record(folder)
  known = points.read(folder, record)
  return Classifier(
    name=str(record.get('strategy', folder.name)),
    model=record['model'],
    patches=record.get('patches', 'native'),
    variables={},
    table=replicas.from_record(record['replicas']),
    points={name: float(p['threshold']) for name, p in known['points'].items()},
    rules={name: str(p['rule']) for name, p in known['points'].items()},
    calibration=known['calibration'],
    domain=known['domain'],
    simulated=bool(record.get('simulated', False)),
    fingerprint=files.digest(record['fingerprint'], known),
    precision={
      name: float(p['precision'])
      for name, p in known['points'].items()
      if isinstance(p.get('precision'), int | float)
    },
    persons=frozenset(p for p in record.get('persons', ()) if '@' in p),
    channels=_channels(folder, record),
    mirrored=known['mirrored'],
    candidates=record.get('candidates', stages.DEFAULT),
    candidates_code=record.get('candidates_code'),
    site=known.get('site', {}),
    established=tuple(known.get('established', ())),
  )


def check(
  folder: str | os.PathLike | None, point: str, threshold: float | None
) -> None:
  """Ends early where the weights or the operating point are not there.

  Args:
    folder: as for `load`.
    point: an operating point.
    threshold: given instead of it, or None.

  Raises:
    NoInputError, InputError: as `load` and `Classifier.threshold`.
  """
  from cmbjax.models import MODELS, get_model
  from cmbjax.training import checkpoint

  folder = catalogue.resolve(folder)
  known = described(folder)
  if plugins.is_plugin(known.model):
    get_model(known.model)
  elif known.model not in MODELS:
    raise InputError(
      f'{folder}/weights.json: model is {known.model!r}, this cmbjax knows '
      f'{", ".join(MODELS)}; take weights of its own.'
    )
  checkpoint.check_weights(folder)
  if threshold is None:
    known.threshold(point)


def _channels(folder: pathlib.Path, record: dict) -> tuple[str, ...]:
  """Weights that do not say it see the SWI."""
  found = record.get('channels', ONLY_SWI)
  if not isinstance(found, list | tuple) or not in_order(found):
    raise InputError(
      f'{folder}/weights.json: channels are {found!r}, this cmbjax knows '
      f'{", ".join(CHANNELS)}, in this order; take weights of its own.'
    )
  return tuple(found)


def _row(tree: Any, r: int) -> Any:
  if isinstance(tree, Mapping):
    return {key: _row(value, r) for key, value in tree.items()}
  return tree[r]


@functools.cache
def _network(model: str, channels: int):
  from cmbjax.models import get_model

  return get_model(model, channels=channels)


@functools.cache
def _program(model: str, channels: int, likelihood: bool):
  """(variables, patches [BATCH, 16, 16, 8, C]) -> [BATCH]."""
  import jax
  import jax.numpy as jnp

  network = _network(model, channels)

  @jax.jit
  def run(variables, patches):
    seen = patches.astype(jnp.float32)
    logits = network.apply(variables, seen, train=False)
    return jax.nn.sigmoid(logits) if likelihood else logits

  return run
