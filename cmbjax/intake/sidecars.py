"""The JSON fields that belong to an image.

Rule: an image has the JSON of its own stem. Only in a BIDS data set it also
inherits, and only from files all of whose parts it has itself: no scan ever
gets the facts of another person.
"""

import functools
import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.intake import filename
from cmbjax.intake.listing import Listing


def read(
  path: str | os.PathLike, *, root: str | os.PathLike | None = None
) -> dict[str, Any]:
  """The JSON fields of one image, nearer files going before farther ones.

  Args:
    path: the image.
    root: the top of its data set; None: the nearest folder above that holds
      dataset_description.json, if any.

  Raises:
    InputError: a JSON file that cannot be read.
  """
  path = pathlib.Path(path)
  if root is None:
    path = path.absolute()  # 'scan.nii' too is in folders
    root = _dataset_root(path)
  return Sidecars(None if root is None else pathlib.Path(root)).of(path)


class Sidecars:
  """The JSON files of one input; each folder is listed once."""

  def __init__(self, root: pathlib.Path | None, listing: Listing | None = None):
    """
    Args:
      root: the top of a BIDS data set; None: nothing is inherited.
      listing: names that are known already.
    """
    self._root = root
    self._folders: dict[pathlib.Path, _Folder] = {}
    # One scan asks for the same few again and again.
    self._fields = functools.lru_cache(maxsize=64)(files.read_object)
    for parts, names in listing.folders.items() if listing else ():
      self._folders[listing.root.joinpath(*parts)] = _Folder.of(names)

  def paths(self, image: pathlib.Path) -> list[pathlib.Path]:
    """The JSON files of an image, from the farthest to its own."""
    own = f'{filename.stem(image)}.json'
    found, parts = [], filename.entities(image)
    for folder in _folders_down(self._root, image.parent):
      fitting = [
        (len(its.values), name)
        for name, its in self._in(folder).by_suffix.get(parts.suffix, ())
        if _is_of(its, name, parts) and (name, folder) != (own, image.parent)
      ]
      found += [folder / name for _, name in sorted(fitting)]
    is_there = own in self._in(image.parent).names
    return [*found, *([image.parent / own] if is_there else [])]

  def of(self, image: pathlib.Path) -> dict[str, Any]:
    """The fields of an image.

    Raises:
      InputError: a JSON file that cannot be read.
    """
    fields: dict[str, Any] = {}
    for path in self.paths(image):
      fields |= self._fields(path)
    return fields

  def _in(self, folder):
    if folder not in self._folders:
      try:
        names = os.listdir(folder)
      except FileNotFoundError:
        names = []
      except OSError as error:
        raise InputError(
          f'{folder}: cannot be read ({error.strerror or error}), so the JSON '
          'files of its images are not known; check its permissions.'
        ) from error
      self._folders[folder] = _Folder.of(names)
    return self._folders[folder]


class _Folder(NamedTuple):
  """The JSON files of one folder."""

  names: frozenset[str]
  by_suffix: dict[str, list[tuple[str, filename.Entities]]]  # with their parts

  @classmethod
  def of(cls, names: Iterable[str]) -> '_Folder':
    own = [n for n in names if n.endswith('.json') and not n.startswith('.')]
    by_suffix: dict[str, list] = {}
    for name in own:
      parts = filename.entities(name)
      by_suffix.setdefault(parts.suffix, []).append((name, parts))
    return cls(frozenset(own), by_suffix)


def _is_of(its, name, parts) -> bool:
  """Whether every part of a JSON's name is one of the image's."""
  count = filename.stem(name.removesuffix('.json')).count('_')
  return len(its.values) == count and all(
    parts.get(key) == value for key, value in its.values.items()
  )


def _dataset_root(path):
  for folder in path.parents:
    if doors.is_there(folder / 'dataset_description.json'):
      return folder
  return None


def _folders_down(root, folder):
  """From the top of the data set; nothing outside one."""
  if root is None:
    return []
  chain = [folder]
  while chain[-1] != root and root in chain[-1].parents:
    chain.append(chain[-1].parent)
  return reversed(chain)
