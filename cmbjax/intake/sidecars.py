"""The JSON fields that belong to an image."""

import os
import pathlib
from typing import Any

from cmbjax import files
from cmbjax.intake.filename import entities


def read(
  path: str | os.PathLike, *, root: str | os.PathLike | None = None
) -> dict[str, Any]:
  """The JSON fields of an image, nearer files going before farther ones.

  Args:
    path: the image.
    root: the top of the data set; None: the nearest folder above that holds
      dataset_description.json, else the image's own folder.

  Raises:
    InputError: a JSON file that cannot be read.
  """
  path = pathlib.Path(path)
  if root is None:
    path = path.absolute()  # 'scan.nii' too lies in folders
    root = _dataset_root(path)
  root = pathlib.Path(root)
  own, fields = entities(path), {}
  for folder in _folders_down(root, path.parent):
    fitting = []
    for file in sorted(folder.glob('*.json')):
      found = entities(file)
      if found.suffix == own.suffix and all(
        own.get(k) == v for k, v in found.values.items()
      ):
        fitting.append((len(found.values), file))
    for _, file in sorted(fitting):
      fields.update(files.read_object(file))
  return fields


def _dataset_root(path):
  for folder in path.parents:
    if (folder / 'dataset_description.json').is_file():
      return folder
  return path.parent


def _folders_down(root, folder):
  chain = [folder]
  while chain[-1] != root and root in chain[-1].parents:
    chain.append(chain[-1].parent)
  return reversed(chain)
