"""The MNI152 brain as small tissue maps, and where they come from.

Rule: nothing is read but one file of the package, so that no scan waits for a
large library. That file is remade by

  python -m cmbjax.imaging.template cmbjax/imaging/mni152.npz

from the ICBM 2009a symmetric templates in nilearn's wheel: blurred, thinned to
2 mm, 32 levels, right half only (the templates are symmetric).
"""

import functools
import importlib.resources
import io
import sys
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax import files

STEP_MM = 2.0
_FIRST_MM = (-98.0, -134.0, -72.0)  # MNI mm of node 0
_LEVELS = 31
NOTICE = (
  'Derived from the ICBM 2009a nonlinear symmetric templates, Copyright (C) '
  '1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal '
  'Neurological Institute, McGill University. Permission to use, copy, modify, '
  'and distribute this software and its documentation for any purpose and '
  'without fee is hereby granted, provided that the above copyright notice '
  'appear in all copies. The authors and McGill University make no '
  'representations about the suitability of this software for any purpose. It '
  'is provided "as is" without express or implied warranty. The authors are '
  'not responsible for any data loss, equipment damage, property loss, or '
  'injury to subjects or patients resulting from the use or misuse of this '
  'software package.'
)


class Template(NamedTuple):
  """Tissue of the MNI152 brain on a 2 mm grid, RAS.

  Attributes:
    origin_mm: [3] MNI mm of node 0.
    grey, white: [X, Y, Z] float32 shares, 0..1.
    brain: [X, Y, Z] float32 share of the node that is brain.
  """

  origin_mm: np.ndarray
  grey: np.ndarray
  white: np.ndarray
  brain: np.ndarray


@functools.lru_cache(maxsize=1)
def load() -> Template:
  """The template of the package."""
  path = importlib.resources.files('cmbjax.imaging') / 'mni152.npz'
  with np.load(io.BytesIO(path.read_bytes())) as stored:
    right = stored['maps']  # [3, X/2, Y, Z] uint8
  whole = np.concatenate([right[:, :0:-1], right], axis=1)
  maps = whole.astype(np.float32) / np.float32(_LEVELS)
  return Template(np.array(_FIRST_MM), *maps)


def thin(grey, white, brain) -> np.ndarray:
  """Full 1 mm maps [X, Y, Z] of 0..1 to the stored [3, X/2, Y, Z] uint8.

  Args:
    grey: share of grey matter.
    white: share of white matter.
    brain: share of brain.
  """
  step = round(STEP_MM)
  stored = []
  for image in (grey * brain, white * brain, brain):
    soft = ndimage.gaussian_filter(image.astype(np.float32), 0.35 * step)
    soft = soft[::step, ::step, ::step]
    stored.append(np.rint(soft[len(soft) // 2 :] * _LEVELS))
  return np.stack(stored).astype(np.uint8)


def make(path) -> None:
  """Writes the file of the package from nilearn's templates."""
  from nilearn import datasets  # slow to import

  grey, white, t1 = (
    np.asarray(image.dataobj)
    for image in (
      datasets.load_mni152_gm_template(resolution=1),
      datasets.load_mni152_wm_template(resolution=1),
      datasets.load_mni152_template(resolution=1),
    )
  )
  stream = io.BytesIO()
  np.savez_compressed(stream, maps=thin(grey, white, t1 > 0), notice=NOTICE)
  files.write_bytes(path, stream.getvalue())


if __name__ == '__main__':
  make(sys.argv[1])
