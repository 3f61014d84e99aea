"""Folds to the order in which examples are seen.

Rule: the order is a pure function of (seed, fold, epoch). There is no iterator
to save, and all strategies of a fold see the same batches.
"""

import zlib

import numpy as np

from cmbjax.errors import InputError


def order(
  fold_of: np.ndarray, fold: int, *, epoch: int, seed: int, batch: int
) -> np.ndarray:
  """One epoch of training examples for one fold.

  Every example outside `fold` comes at least once. Folds of different size
  get the same number of steps: the smaller ones start over,
  nothing is padded and nothing is dropped.

  Args:
    fold_of: [N] fold of each example; -1 marks one that is never trained on.
    fold: the fold that is held out.
    epoch: 0, 1, 2...
    seed: of the run, not of the strategy.
    batch: B.

  Returns:
    index int32 [steps, B] into the N examples.
  """
  members = training(fold_of, fold)
  # A word in the seed keeps it apart from the streams of other draws.
  stream = np.random.default_rng(
    [seed, zlib.crc32(b'order'), int(fold), int(epoch)]
  )
  shuffled = stream.permutation(members)
  steps = num_steps(fold_of, batch)
  # np.resize starts over at the first one.
  return np.resize(shuffled, (steps, batch)).astype(np.int32)


def training(fold_of: np.ndarray, fold: int) -> np.ndarray:
  """Index of the examples that train when `fold` is held out.

  Raises:
    InputError: there are none.
  """
  fold_of = np.asarray(fold_of)
  members = np.flatnonzero((fold_of >= 0) & (fold_of != fold))
  if not members.size:
    raise InputError(
      f'fold {fold}: no candidate is left to train on; the other folds hold '
      'none, so give more scans or fewer folds.'
    )
  return members


def num_steps(fold_of: np.ndarray, batch: int) -> int:
  """Steps per epoch, equal for all folds: ceil(largest training set / B)."""
  sizes = [training(fold_of, fold).size for fold in _folds(fold_of)]
  return -(-max(sizes) // batch)


def _folds(fold_of: np.ndarray) -> range:
  return range(int(np.max(fold_of, initial=-1)) + 1)
