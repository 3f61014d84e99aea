"""Lesions that a reader added to where they are, for the tables of an export.

Rule: what the reader or the detection said of a place is never changed, and a
place that cannot be known stays unknown.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import regions, registration, volume
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.log.items import MODEL, Item

UNKNOWN = 'unknown'


def locate(
  added: Sequence[tuple[Item, np.ndarray]],
  image: volume.Volume,
  mask: pathlib.Path | None,
) -> dict[int, str]:
  """Where items are of which nobody said it.

  Args:
    added: items and their voxels, as linear indices; x runs fastest.
    image: what was judged.
    mask: of the brain, on its grid; None: it is found.

  Returns:
    number of each item that a reader added without a region, to 'lobar',
    'deep', 'infratentorial'; without those that cannot be known.

  Raises:
    InputError: the mask is damaged or on another grid.
  """
  asked = [
    (item.number, voxels)
    for item, voxels in added
    if item.origin != MODEL and item.region == UNKNOWN
  ]
  if not asked:
    return {}
  to_mni = _registered(image, mask)
  if to_mni is None:
    return {}
  shape = image.array.shape
  places = regions.region_of_lesions(
    [_world(image, np.unravel_index(v, shape, order='F')) for _, v in asked],
    to_mni,
  )
  named = zip((number for number, _ in asked), places)
  return {n: p.location for n, p in named if p.location != UNKNOWN}


def named(item: Item, found: dict[int, str]) -> Item:
  """The item with the region that `locate` found, if any."""
  region = found.get(item.number, item.region)
  return dataclasses.replace(item, region=region)


def _world(image, place):
  return image.to_world(np.stack(place, 1))


def _registered(image, path) -> np.ndarray | None:
  """World mm to MNI mm; None where that is not to be trusted."""
  # A mask that was given and is damaged is said, not replaced.
  mask = None if path is None else cases_lib.brain_of(image, path)
  try:
    mask = cases_lib.brain_of(image, None) if mask is None else mask
    found = registration.register(image.array, mask, image.affine)
  except InputError:
    return None
  return found.world_to_mni if found.trusted else None
