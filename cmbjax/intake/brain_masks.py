"""Which brain mask is that of a scan.

Rule: a mask of another space, grid, run or image is not this scan's.
"""

import pathlib

import numpy as np
from nibabel import orientations

from cmbjax.errors import InputError
from cmbjax.imaging import nifti
from cmbjax.intake import filename, roles


def choose(who, main, images, others, left) -> pathlib.Path | None:
  """The brain mask of this image; of another space or grid it is not one."""
  own = [i for i in images if i.role == roles.BRAIN_MASK]
  space = filename.entities(main).get('space')
  found = []
  for path in (*(i.path for i in own), *others):
    parts = filename.entities(path)
    if parts.get('space') not in (None, space):
      left[path] = f'in another space ({parts.get("space")})'
    elif _disagree(parts, filename.entities(main)):
      left[path] = 'of another image'
    elif _is_of_other(path) and not _on_grid(path, main):
      left[path] = 'of another kind of MRI, and on another grid'
    else:
      found.append(path)
  if len(found) > 1 or any(p in others for p in found):
    on_grid = {p: _on_grid(p, main) for p in found}
    left |= {p: 'on another grid' for p in found if not on_grid[p]}
    found = [p for p in found if on_grid[p]]
  if len(found) > 1:
    found = [p for p in found if not _is_of_other(p)] or found
  if len(found) > 1:
    raise who.which('brain mask', found)
  return found[0] if found else None


def _is_of_other(path) -> bool:
  """Whether a mask is called after a T1, FLAIR, ... as 'T1_brain_mask'."""
  text = roles.words(filename.stem(path))
  return not roles.is_swi(text) and any(
    roles.of_words(f'x {word}') == roles.OTHER for word in text.split()[:-1]
  )


def _disagree(mask, scan) -> bool:
  """Whether the mask names another acquisition, run or image."""
  return any(
    mask.get(key) not in (None, scan.get(key))
    for key in ('acq', 'run', 'rec', 'ce', 'task', 'dir')
  )


def _on_grid(path, main) -> bool:
  """Whether the headers agree; what cannot be read is judged later."""
  try:
    (one, first), (other, second) = map(_grid, (path, main))
  except InputError:
    return True
  return one == other and np.allclose(first, second, rtol=0, atol=1e-2)


def _grid(path) -> tuple[tuple[int, ...], np.ndarray]:
  """Shape and affine in RAS order, as `volume.load` would have them."""
  image = nifti.open_image(path)
  axes = orientations.io_orientation(nifti.affine_of(path, image))
  shape = image.shape[:3]
  turned = tuple(int(shape[int(n)]) for n in np.argsort(axes[:, 0]))
  return turned, image.affine @ orientations.inv_ornt_aff(axes, shape)
