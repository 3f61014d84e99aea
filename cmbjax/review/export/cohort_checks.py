"""Label images as they were written, against what the reader said.

Rule: nothing is trusted that was not read back from the disk; the first thing
that is wrong ends the export with one sentence.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from cmbjax.data import truth
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.review.log.geometry import View

NEAR_MM = 5.0  # from an item's point to its outline


def check(
  name: str,
  stems: Sequence[pathlib.Path],
  image: volume.Volume,
  labels,
  view: View,
) -> None:
  """The checks of one scan.

  Args:
    name: of the case, for the sentence.
    stems: of the label images: accepted, rejected.
    image: what was reviewed.
    labels: `export.Labels` that should be in them.
    view: grid of the review.

  Raises:
    InputError: another grid, a scaling slope, a lesion without its label or
      with other voxels, a rejected one among the accepted, or an outline far
      from where the reader put the lesion.
  """
  read = [_read(name, stem, image) for stem in stems]
  for array, parts, what in zip(
    read, (labels.accepted, labels.rejected), ('accepted', 'rejected')
  ):
    found = _voxels(array)
    if found.keys() != set(range(1, len(parts) + 1)):
      raise InputError(
        f'{name}: {len(parts)} items are {what}, but their label image has '
        f'{len(found)} labels.'
      )
    for number, part in enumerate(parts, 1):
      if not np.array_equal(found[number], part.voxels):
        raise InputError(
          f'{name}: label {number} ({what}) has other voxels than item '
          f'{part.item.number}.'
        )
      _check_near(name, part, view)
  if ((read[0] > 0) & (read[1] > 0)).any():
    raise InputError(f'{name}: a rejected item has voxels of a lesion.')


def _read(name, stem, image) -> np.ndarray:
  path = pathlib.Path(f'{stem}.nii.gz')
  stored = volume.open_image(
    path
  ).dataobj  # its header forgets the slope on loading
  if (stored.slope, stored.inter) != (1, 0):
    raise InputError(f'{name}: {path.name} has a scaling slope.')
  labels = volume.load(path)
  truth.check_grid(labels, image)
  same = labels.native.shape == image.native.shape and np.allclose(
    labels.native.affine, image.native.affine, rtol=0, atol=1e-3
  )
  if not same:
    raise InputError(
      f'{name}: {path.name} is not on the grid of its image file.'
    )
  return labels.array


def _voxels(array) -> dict[int, np.ndarray]:
  """Label to its sorted linear indices, x fastest."""
  flat = array.ravel(order='F')
  at = np.flatnonzero(flat)
  order = np.argsort(flat[at], kind='stable')
  labels, first = np.unique(flat[at][order], return_index=True)
  places = np.split(at[order], first[1:]) if len(labels) else []
  return dict(zip(labels.tolist(), places))


def _check_near(name, part, view) -> None:
  ijk = view.ijk_of(part.voxels)
  gaps = view.to_world(ijk) - view.to_world(np.asarray(part.item.ijk))
  away = float(np.sqrt((gaps**2).sum(1)).min())
  if away > NEAR_MM:
    raise InputError(
      f'{name}: the outline of item {part.item.number} is {away:.1f} mm from '
      'its point; move the point, or the outline.'
    )
