"""Logits and labels of one held-out fold to its loss, AUC and sensitivity.

Rule: they steer and watch a training; results come from `evaluation`.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from cmbjax.training import replicas


def losses(loss: Callable, logits: np.ndarray, label: np.ndarray) -> np.ndarray:
  """The loss of each example in double precision, [n].

  Args:
    loss: what is trained with. The cross-entropy is computed in double
      precision too, so that its mean depends on no order of summation.
    logits: [n].
    label: [n], 0 or 1.
  """
  if loss is replicas.cross_entropy:
    with np.errstate(invalid='ignore'):  # NaN is a bad epoch
      return np.logaddexp(0, logits) - label * logits
  one = loss(jnp.asarray(logits, jnp.float32), jnp.asarray(label, jnp.float32))
  return np.asarray(one, np.float64)


def auc(logits: np.ndarray, label: np.ndarray) -> float:
  """Area under the ROC curve; ties count half. NaN where it is undefined.

  Args:
    logits: [n].
    label: [n], 0 or 1.
  """
  positives = int(np.sum(label == 1))
  pairs = positives * (len(label) - positives)
  if not pairs or not np.isfinite(logits).all():
    return float('nan')
  _, place, count = np.unique(logits, return_inverse=True, return_counts=True)
  rank = (np.cumsum(count) - (count - 1) / 2)[place]  # from 1, mean over ties
  above = rank[label == 1].sum() - positives * (positives + 1) / 2
  return float(above / pairs)


def sensitivity(
  logits: np.ndarray, label: np.ndarray, threshold: float
) -> float:
  """Share of the microbleeds among the candidates that are called one.

  Microbleeds without a candidate are not counted here. NaN without any.

  Args:
    logits: [n].
    label: [n], 0 or 1.
    threshold: a likelihood above it is a call.
  """
  mine = logits[label == 1]
  if not len(mine) or not np.isfinite(mine).all():
    return float('nan')
  return float(np.mean(1 / (1 + np.exp(-mine)) > threshold))
