"""Lesions to named places in the brain.

Rule: a place that cannot be known is 'unknown', with the reason; a scan whose
registration fails still has its lesions.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.data import evidence
from cmbjax.detect.result import REJECTED, UNKNOWN, Lesion
from cmbjax.errors import InputError
from cmbjax.imaging import regions, volume


class Located(NamedTuple):
  """Lesions with their places."""

  lesions: tuple[Lesion, ...]
  unsure: tuple[str, ...]  # what is not sure, as sentences
  world_to_mni: np.ndarray | None = None  # [4, 4]; None: not to be trusted


def locate(
  lesions: Sequence[Lesion],
  *,
  labels: np.ndarray,
  scan: evidence.Evidence,
  image: volume.Volume,
  atlas: pathlib.Path | None = None,
) -> Located:
  """The lesions with region, side, location; and what is not sure.

  Args:
    lesions: those with an index lie in `labels`, the others at their centre.
    labels: [X, Y, Z].
    scan: its SWI and its brain; registered once.
    image: the grid.
    atlas: label image in MNI; None: the drawn map.

  Raises:
    InputError: an atlas that cannot be used.
  """
  if all(lesion.status == REJECTED for lesion in lesions):
    return Located(tuple(lesions), ())
  try:
    found = scan.registered
  except InputError as error:
    return Located(tuple(lesions), (f'regions are not known: {error}',))
  if not found.trusted:  # a wrong region is worse than none
    why = (
      'regions are not known: the brain mask and the template overlap by only '
      f'{found.overlap:.2f} after registration; look at the mask'
    )
    return Located(tuple(lesions), (why,))
  places = regions.region_of_lesions(
    _voxels(lesions, labels, image), found.world_to_mni, atlas=load(atlas)
  )
  placed = tuple(_placed(x, p) for x, p in zip(lesions, places))
  return Located(placed, (), found.world_to_mni)


@functools.lru_cache(maxsize=1)  # a run has one atlas
def load(path: pathlib.Path | None) -> regions.Atlas:
  """The map of a file, or the drawn one; read once in each process.

  Raises:
    NoInputError, InputError: it cannot be used.
  """
  return regions.drawn_atlas() if path is None else regions.load_atlas(path)


def _voxels(lesions, labels, image) -> list[np.ndarray]:
  """World mm [n, 3] of each lesion's voxels."""
  boxes = ndimage.find_objects(labels)
  out = []
  for lesion in lesions:
    if not lesion.index:
      out.append(np.array([lesion.centre_mm]))
      continue
    box = boxes[lesion.index - 1]
    inside = np.argwhere(labels[box] == lesion.index)
    out.append(image.to_world(inside + [part.start for part in box]))
  return out


def _placed(lesion: Lesion, place: regions.Place) -> Lesion:
  known = place.region != regions.REGIONS[0]
  return dataclasses.replace(
    lesion,
    region=place.region if known else UNKNOWN,
    side=place.side if known else UNKNOWN,
    location=place.location,
    margin_mm=round(place.location_margin_mm, 2),
    region_certain=place.certain,
  )
