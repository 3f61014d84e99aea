"""Verdicts to outlined, measured and named lesions.

Rule: the most likely lesion comes first; its index is its label, and what was
rejected is in no image.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.candidates import detector, segmentation
from cmbjax.detect.result import REJECTED, Lesion
from cmbjax.detect.verdicts import BELOW, Verdicts, order_of
from cmbjax.imaging import volume


class Outlined(NamedTuple):
  """Lesions without a place yet."""

  lesions: tuple[Lesion, ...]
  labels: np.ndarray  # [X, Y, Z] uint16
  owner: list[str]  # N ids, one per candidate; '' for what a gate dropped


def outline(
  proposed: detector.Candidates,
  verdicts: Verdicts,
  *,
  unit: np.ndarray,
  image: volume.Volume,
  mask: np.ndarray,
  gates: detector.Gates,
  threads: int | None = None,
) -> Outlined:
  """Outlines what was found, most likely first, and measures it.

  Those that the networks rejected keep the measures of the candidate stage
  and are in no image.

  Args:
    proposed: the candidates.
    verdicts: what was decided on them.
    unit: [X, Y, Z] SWI in 0..1.
    image: its volume, for places.
    mask: [X, Y, Z] bool, the brain.
    gates: of growing and merging.
    threads: None: one per core.
  """
  order = order_of(verdicts.likelihood, proposed.score)
  # Lesion 1 is the most likely one, in the image and in every table.
  kept = [int(n) for n in order if proposed.kept[n]]
  found = [n for n in kept if verdicts.status[n] != REJECTED]
  drawn = segmentation.segment(
    unit, image.spacing_mm, mask, proposed.centre[found], gates=gates,
    jobs=threads,
  )  # fmt: skip
  boxes = ndimage.find_objects(drawn.labels, max_label=len(found))
  lesions, owner = [], [''] * len(proposed)
  for row, n in enumerate(found):
    judged = _judged(n, proposed, verdicts)
    lesion = _drawn(row, drawn, boxes[row], image, judged)
    lesions.append(lesion)
    owner[n] = lesion.id
  for n in kept:
    if verdicts.reason[n] == BELOW:
      owner[n] = f'candidate-{n + 1:04d}'
      lesions.append(_rejected(n, image, proposed, verdicts, owner[n]))
  return Outlined(tuple(lesions), drawn.labels, owner)


def _drawn(row, drawn, box, image, judged) -> Lesion:
  """Lesion `row` of the outlines, and what is known of its candidate."""
  size = {name: float(column[row]) for name, column in drawn.measures.items()}
  middle = image.to_world([size[f'centre_{axis}'] for axis in 'xyz'])
  counted = drawn.kind[row] == segmentation.MICROBLEED
  return Lesion(
    index=row + 1,
    id=f'lesion-{row + 1:03d}',
    centre_mm=_point(middle),
    extent_mm=tuple(
      round((part.stop - part.start) * side, 4)
      for part, side in zip(box, image.spacing_mm)
    ),
    counted=counted,
    note='' if counted else _too_large(size),
    **_size(size),
    **judged,
  )


def _rejected(n, image, proposed, verdicts, name) -> Lesion:
  """Candidate `n`, which the networks rejected."""
  size = {key: float(column[n]) for key, column in proposed.features.items()}
  region = proposed.regions[n]
  extent = (np.ptp(region, axis=0) + 1) * image.spacing_mm
  return Lesion(
    index=0,
    id=name,
    centre_mm=_point(image.to_world(proposed.centre[n])),
    extent_mm=tuple(round(float(side), 4) for side in extent),
    **_size(size),
    **_judged(n, proposed, verdicts),
  )


def _size(size):
  names = ('volume_mm3', 'diameter_mm', 'feret_mm', 'contrast')
  return {name: round(size[name], 4) for name in names}


def _judged(n, proposed, verdicts):
  def number(values):
    return None if np.isnan(values[n]) else round(float(values[n]), 6)

  return {
    'candidate': n + 1,
    'centre_index': tuple(int(v) for v in proposed.centre[n]),
    'status': verdicts.status[n],
    'likelihood': number(verdicts.likelihood),
    'spread': number(verdicts.spread),
    'probability': number(verdicts.probability),
    'category': proposed.category[n],
  }


def _too_large(size):
  which = max(('diameter_mm', 'feret_mm'), key=size.get)
  name = {'diameter_mm': 'equivalent', 'feret_mm': 'Feret'}[which]
  return (
    f'{name} diameter {size[which]:.1f} mm is above '
    f'{segmentation.LARGEST_MM:g} mm: {segmentation.LARGE}, not counted'
  )


def _point(place):
  return tuple(round(float(v), 4) + 0.0 for v in place)  # + 0: no -0.0
