"""Lesions of one scan to a map: the brain in three planes, and its slices.

Rule: a marker's shape says the status (filled definite, ring possible, cross
rejected), so that the map can be read without colours.
"""

from collections.abc import Sequence
from typing import Any

from cmbjax.report import lesion_cards, pictures
from cmbjax.report.pictures import AXIAL, CORONAL, PLANES, SAGITTAL, BrainBox

_BESIDE = 2.2  # smallest radius of a ring in a plane, mm
_IN_SLICE = 5.0  # and in a slice, which is shown smaller
_LARGEST = 7.0  # a ring round a large lesion would hide its neighbours
_EDGE = 3  # mm between a letter and the edge


def planes(lesions: Sequence, result, brain: BrainBox) -> dict[str, Any]:
  """The brain seen through, from three sides at one scale, with markers.

  Args:
    lesions: the most important first; they are drawn above the others.
    result: a `ScanResult`.
    brain: what is shown.

  Returns:
    Name of the plane -> what the template `plane` of svg.html shows.
  """
  beside = _beside(brain)
  shown = {}
  for plane in PLANES:
    wide, high = brain.size(plane)
    left, right = ('A', 'P') if plane is SAGITTAL else ('R', 'L')
    shown[plane.name] = {
      'name': plane.name,
      'picture': pictures.glass(result.swi, result.mask, brain, plane),
      'size': f'{wide:.1f} {high:.1f}',
      'width': f'{wide:.1f}',
      'height': f'{high:.1f}',
      'share': f'{100 * wide / beside:.1f}',
      'middle': f'{high / 2:.1f}',
      'letters': (
        (f'{_EDGE:.1f}', 'start', left),
        (f'{wide - _EDGE:.1f}', 'end', right),
      ),
      'markers': _markers(lesions, result, brain, plane, _BESIDE),
    }
  return shown


def columns(brain: BrainBox) -> str:
  """CSS: the axial plane large, the other two beside it."""
  return f'{brain.size(AXIAL)[0]:.1f}fr {_beside(brain):.1f}fr'


def _beside(brain: BrainBox) -> float:
  return max(brain.size(CORONAL)[0], brain.size(SAGITTAL)[0])


def _markers(lesions, result, brain, plane, least) -> list[dict[str, Any]]:
  """The first lesion last, so that it is above the others."""
  made = []
  for lesion in reversed(lesions):
    x, y = brain.place(lesion.centre_index, plane)
    # A ring round the lesion, not on it.
    radius = max(lesion_cards.size_mm(lesion) / 2 + 0.9, least)
    title = f'{lesion.id}, {lesion.status}'
    if lesion.likelihood is not None:
      title += f', likelihood {lesion_cards.likelihood(lesion, result)}'
    made.append(
      {
        'id': lesion.id,
        'status': lesion.status,
        'title': title,
        'x': x,
        'y': y,
        'radius': min(radius, _LARGEST),
      }
    )
  return made


def slices(lesions: Sequence, result, brain: BrainBox) -> list[dict[str, Any]]:
  """Thin minimum projections from above downwards, with the lesions.

  Args:
    lesions: as in `planes`.
    result: a `ScanResult`.
    brain: what is shown.

  Returns:
    One entry per projection.
  """
  tiles = []
  for first, stop, picture in pictures.slabs(result.swi, brain):
    inside = [x for x in lesions if first <= x.centre_index[2] < stop]
    span = f'slice {first + 1}'
    if stop - first > 1:
      span = f'slices {first + 1}–{stop}'
    tiles.append(
      {
        'picture': picture,
        'span': span,
        'found': sum(lesion.status != 'rejected' for lesion in inside),
        'markers': _markers(inside, result, brain, AXIAL, _IN_SLICE),
      }
    )
  return tiles
