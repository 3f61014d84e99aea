"""Dark places with their truth to the gate that tells lesions from the rest.

Rule: the same material and seed give the same gate, and the threshold is set
on scans that the networks which judge them did not see. Every lesion weighs
the same, however many dark places it has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.candidates import detector, gate_network
from cmbjax.candidates.gate_network import GateNetwork, forward
from cmbjax.candidates.gates import Gates
from cmbjax.errors import InputError

FOLDS = 4
NETWORKS = 2
HIDDEN = 16
EPOCHS = 15
BATCH = 1024
RATE = 3e-3  # of Adam, at the start; falls as a cosine
OTHERS = (0.85, 0.9, 0.95, 0.97, 0.98)  # recalls that are told too
DECAY = 5e-3  # times the sum of squared weights
RIDGE = 1.0  # of the linear step, per weight
_NEWTON = 8  # steps of it; it settles in six


class Rows(NamedTuple):
  """N places of one scan, and what they are."""

  subject: str  # folds are of subjects
  features: dict[str, np.ndarray]  # [N] each
  lesion: np.ndarray  # [N] int, 0 where it is none
  apart: np.ndarray  # [N] bool, far from every lesion
  place_mm: np.ndarray  # [N, 3] of the scan
  lesions: int  # of the scan, those without a place too
  litres: float  # of brain


class Learned(NamedTuple):
  """A gate and what is known of it."""

  network: GateNetwork
  recall: float  # of all lesions, on scans that were left out
  false_per_litre: float  # there, neighbours merged
  lesions: int
  never: int  # of them without a place at all
  others: tuple[tuple[float, float], ...]  # the same two at other thresholds


def fit_loose(rows: Sequence[Rows]) -> GateNetwork:
  """The linear step, by ridge regression of the logistic loss; no networks.

  Args:
    rows: of each scan; what is neither a lesion nor apart is not used.

  Raises:
    InputError: lesions or other places are missing.
  """
  names = tuple(rows[0].features) if rows else ()
  values = np.concatenate([gate_network.stack(one.features) for one in rows])
  truth, weight = _weights(rows)
  mean, deviation = _spread(values)
  used = weight > 0
  scaled = gate_network.scale(values[used], mean, deviation)
  ones = np.ones((len(scaled), 1), np.float32)
  design = np.hstack([scaled, ones]).astype(np.float64)
  share = weight[used] / weight.sum() * 2 * _count(rows)
  found = np.zeros(design.shape[1])
  penalty = np.full(len(found), RIDGE)
  penalty[-1] = 1e-6
  for _ in range(_NEWTON):
    chance = 1 / (1 + np.exp(-(design @ found)))
    slope = design.T @ (share * (truth[used] - chance)) - penalty * found
    curve = share * np.maximum(chance * (1 - chance), 1e-4)
    matrix = (design * curve[:, None]).T @ design + np.diag(penalty)
    found += np.linalg.solve(matrix, slope)
  none = np.zeros(0, np.float32)
  return GateNetwork(
    names, mean, deviation, found.astype(np.float32),
    none, none, np.zeros((0, 0, 0)), np.zeros((0, 0)), np.float32(0),
  )  # fmt: skip


def fit(
  rows: Sequence[Rows], loose: GateNetwork, *, seed: int, recall: float
) -> Learned:
  """The networks, and the threshold that keeps a share of all lesions.

  Args:
    rows: of each scan, the places that the linear step chose, with all
      numbers of grown ones.
    loose: with the linear step.
    seed: of first weights and batches.
    recall: share of all lesions that the threshold keeps, as far as they have
      a place at all.

  Raises:
    InputError: fewer than `FOLDS` subjects have lesions.
  """
  subjects = sorted({one.subject for one in rows if one.lesions})
  if len(subjects) < FOLDS:
    raise InputError(
      f'weights gate: {len(subjects)} subjects have lesions, needed are '
      f'{FOLDS}; add scans.'
    )
  network = loose._replace(names=tuple(rows[0].features))
  fold = {subject: n % FOLDS for n, subject in enumerate(subjects)}
  held = [fold.get(one.subject, n % FOLDS) for n, one in enumerate(rows)]
  score: list = [None] * len(rows)
  for n in range(FOLDS):
    others = [one for one, of in zip(rows, held) if of != n]
    judge = _networks(network, others, seed=seed)
    for i, one in enumerate(rows):
      if held[i] == n:
        score[i] = judge.score(one.features)
  threshold = _threshold(rows, score, recall)
  network = _networks(network, rows, seed=seed)
  return Learned(
    network._replace(threshold=np.float32(threshold)),
    *_known(rows, score, threshold),
    sum(one.lesions for one in rows),
    sum(one.lesions for one in rows) - len(_best(rows, score)),
    tuple(
      _known(rows, score, _threshold(rows, score, other)) for other in OTHERS
    ),
  )


def _networks(network, rows, *, seed):
  """`network` with networks that learned from rows."""
  values = np.concatenate([gate_network.stack(one.features) for one in rows])
  truth, weight = _weights(rows)
  mean, deviation = _spread(values)
  used = weight > 0
  scaled = gate_network.scale(values, mean, deviation)[used]
  made = [
    _train(scaled, truth[used], weight[used], np.random.default_rng([seed, n]))
    for n in range(NETWORKS)
  ]
  hidden, out = (np.stack(parts).astype(np.float32) for parts in zip(*made))
  return network._replace(mean=mean, scale=deviation, hidden=hidden, out=out)


def _train(scaled, truth, weight, rng):
  """One network by Adam: hidden [G + 1, H] and out [H + 1]."""
  count, width = scaled.shape
  hidden = rng.normal(0, np.sqrt(2 / width), (width + 1, HIDDEN))
  out = rng.normal(0, np.sqrt(2 / HIDDEN), HIDDEN + 1)
  hidden[-1], out[-1] = 0, 0
  parts = [hidden.astype(np.float32), out.astype(np.float32)]
  first, second = [[np.zeros_like(part) for part in parts] for _ in range(2)]
  weight = weight / weight.mean()
  batches = max(1, count // BATCH)
  steps = EPOCHS * batches
  for step in range(steps):
    if step % batches == 0:
      order = np.array_split(rng.permutation(count), batches)
    at = order[step % batches]
    slopes = _slopes(scaled[at], truth[at], weight[at], *parts)
    rate = RATE * (1 + np.cos(np.pi * step / steps)) / 2
    for i, slope in enumerate(slopes):
      first[i] += 0.1 * (slope - first[i])
      second[i] += 0.001 * (slope**2 - second[i])
      size = np.sqrt(second[i] / (1 - 0.999 ** (step + 1))) + 1e-8
      parts[i] -= rate * first[i] / (1 - 0.9 ** (step + 1)) / size
  return parts


def _slopes(scaled, truth, weight, hidden, out):
  """Gradients of the weighted logistic loss and the decay."""
  active, value = forward(scaled, hidden, out)
  error = weight * (1 / (1 + np.exp(-value)) - truth) / weight.sum()
  back = np.outer(error, out[:-1]) * (active > 0)
  of_hidden = np.vstack([scaled.T @ back, back.sum(0)])
  of_out = np.append(active.T @ error, error.sum())
  of_hidden[:-1] += 2 * DECAY * hidden[:-1]
  of_out[:-1] += 2 * DECAY * out[:-1]
  return of_hidden.astype(np.float32), of_out.astype(np.float32)


def _weights(rows):
  """Truth [N] and weight [N]: lesions have half of it, all the same."""
  parts = []
  for one in rows:
    _, of, count = np.unique(
      one.lesion, return_inverse=True, return_counts=True
    )
    parts.append((one.lesion > 0) / count[of])
  lesion = np.concatenate(parts)
  other = np.concatenate([one.apart & (one.lesion == 0) for one in rows])
  if not lesion.any() or not other.any():
    raise InputError(
      'weights gate: needs lesions and other dark places; give other cohorts.'
    )
  weight = lesion / lesion.sum() + other / other.sum()
  return (lesion > 0).astype(np.float32), weight.astype(np.float32)


def _spread(values):
  """Mean and standard deviation [G]; a constant has 1."""
  deviation = values.std(0, dtype=np.float64)
  deviation[deviation < 1e-6] = 1
  mean = values.mean(0, dtype=np.float64)
  return mean.astype(np.float32), deviation.astype(np.float32)


def _count(rows):
  return sum(len(np.unique(one.lesion[one.lesion > 0])) for one in rows)


def _best(rows, score):
  """Best score of each lesion that has a place."""
  return np.array(
    [
      values[one.lesion == n].max()
      for one, values in zip(rows, score)
      for n in np.unique(one.lesion[one.lesion > 0])
    ]
  )


def _threshold(rows, score, recall):
  """The highest one that keeps the share of all lesions."""
  best = np.sort(_best(rows, score))
  total = sum(one.lesions for one in rows)
  lost = int((1 - recall) * total + 1e-9) - (total - len(best))
  # Just below the last one that has to pass, as passing is above.
  return np.nextafter(np.float32(best[max(lost, 0)]), np.float32(0))


def _known(rows, score, threshold):
  """Recall of all lesions, and others that pass per litre of brain."""
  best = _best(rows, score)
  total = sum(one.lesions for one in rows)
  false = sum(_false(one, v, threshold) for one, v in zip(rows, score))
  litres = sum(one.litres for one in rows)
  return float((best > threshold).sum() / total), false / litres


def _false(one, values, threshold) -> int:
  """Places far from every lesion that pass, those beside better ones once."""
  order = np.argsort(-values, kind='stable')
  order = order[values[order] > threshold]
  order = order[detector.alone(one.place_mm[order], Gates().merge_mm)]
  return int((one.apart & (one.lesion == 0))[order].sum())
