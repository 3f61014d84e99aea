"""The voxels of a mask to the lesions that it holds.

Rule: what touches is one lesion, by 26 neighbours, and lesions are numbered as
`scipy.ndimage.label` does; but only voxels of the mask are visited, which are
few, not the millions of the image.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from cmbjax.data import truth

_MOST = 0.01  # of the image; a denser mask is quicker visited as a whole
# 13 neighbours before a voxel; the other 13 come to it themselves.
_BEFORE = [o for o in itertools.product((-1, 0, 1), repeat=3) if o < (0, 0, 0)]


def inside(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The voxels [X, Y, Z] that have a label.

  Returns:
    their labels [N], and their linear indices [N], sorted; x runs fastest.
  """
  flat = labels.ravel(order='F')  # as files lie in memory: no copy
  where = np.flatnonzero(flat)
  return flat[where], where


def apart(
  number: np.ndarray, where: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
  """Connected components of what `inside` gave, where values that touch stay
  apart: int [N], from 1."""
  index = np.stack(np.unravel_index(where, shape, order='F'), 1)
  both = np.stack([connected(index, shape), number], 1)
  _, found = np.unique(both, axis=0, return_inverse=True)
  return found.reshape(-1) + 1


def connected(index: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Which connected component each voxel of a mask is in.

  Args:
    index: [N, 3] voxels, each once, in any order.
    shape: of the image.

  Returns:
    int32 [N], from 1: `truth.components` of the mask, at these voxels.
  """
  if len(index) > _MOST * np.prod(shape):
    mask = np.zeros(shape, bool)
    mask[tuple(index.T)] = True
    return truth.components(mask)[tuple(index.T)]
  return _sparse(index, shape)


def _sparse(index, shape):
  from scipy.sparse import coo_array, csgraph

  around = np.add(shape, 2)  # a border of nothing: no neighbour wraps round
  flat = np.ravel_multi_index(tuple(index.T + 1), around)
  order = np.argsort(flat)
  flat = flat[order]
  steps = np.array([around[1] * around[2], around[2], 1])
  one, two = [], []
  for step in _BEFORE @ steps:
    at = np.minimum(np.searchsorted(flat, flat + step), len(flat) - 1)
    there = np.flatnonzero(flat[at] == flat + step)
    one.append(there)
    two.append(at[there])
  one, two = np.concatenate(one), np.concatenate(two)
  graph = coo_array((np.ones(len(one), bool), (one, two)), 2 * (len(flat),))
  _, group = csgraph.connected_components(graph, directed=False)
  _, first = np.unique(group, return_index=True)
  number = np.empty(len(first), np.int32)
  number[np.argsort(first)] = np.arange(1, len(first) + 1)
  found = np.empty(len(flat), np.int32)
  found[order] = number[group]
  return found
