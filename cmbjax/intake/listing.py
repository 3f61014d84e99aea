"""A folder to the names in it, read once.

Rule: everything later asks these names, so that 100,000 files are one walk. A
folder in the place of an image is one of them, so that somebody says it.
"""

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from cmbjax.errors import InputError
from cmbjax.intake import filename

_DEEPEST = 12  # a link may lead back up


class Listing(NamedTuple):
  """The names below a folder."""

  root: pathlib.Path
  folders: dict[tuple[str, ...], tuple[str, ...]]  # parts of the path: files
  closed: Mapping[tuple[str, ...], str]  # what cannot be listed, and why

  def images(self, *below: str) -> Iterator[tuple[pathlib.Path, tuple]]:
    """NIfTI files and their folders, in and below a folder, sorted."""
    for parts in self.folders:
      if parts[: len(below)] == below:
        yield from self.images_in(*parts)

  def images_in(self, *parts: str) -> Iterator[tuple[pathlib.Path, tuple]]:
    """Those of one folder."""
    folder = self.root.joinpath(*parts)
    for name in self.folders.get(parts, ()):
      if filename.IMAGE.search(name):
        yield folder / name, parts


def read(
  root: pathlib.Path,
  *,
  enters: Callable[[tuple[str, ...]], bool] = lambda parts: True,
) -> Listing:
  """All names below a folder, hidden ones left out.

  Args:
    root: the folder.
    enters: whether a folder, as parts below `root`, is looked into.

  Raises:
    InputError: the folder itself cannot be read.
  """
  folders: dict[tuple[str, ...], tuple[str, ...]] = {}
  closed: dict[tuple[str, ...], str] = {}
  waiting: list[tuple[str, ...]] = [()]
  posing: list[tuple[str, ...]] = []  # called like an image
  while waiting:
    parts = waiting.pop()
    try:
      with os.scandir(root.joinpath(*parts)) as entries:
        found = sorted((e.name, _is_folder(e)) for e in entries)
    except OSError as error:
      why = (
        f'{root.joinpath(*parts)}: cannot be read ({error.strerror or error}); '
        'check its permissions.'
      )
      if not parts:
        raise InputError(why) from error
      closed[parts] = why
      continue
    found = [(n, d) for n, d in found if not n.startswith('.')]
    folders[parts] = tuple(n for n, is_folder in found if not is_folder)
    below = [(*parts, n) for n, is_folder in found if is_folder]
    if len(parts) < _DEEPEST:
      waiting += reversed([b for b in below if enters(b)])
    posing += [b for b in below if filename.IMAGE.search(b[-1])]
  for parts in _without_images(posing, folders):
    names = (*folders[parts[:-1]], parts[-1])
    folders[parts[:-1]] = tuple(sorted(names))
  return Listing(root, folders, closed)


def _without_images(posing, folders) -> list[tuple[str, ...]]:
  """Of folders those that hold no image, or are not looked into."""
  if not posing:
    return []
  filled = {
    parts[:depth]
    for parts, names in folders.items()
    if any(map(filename.IMAGE.search, names))
    for depth in range(1, len(parts) + 1)
  }
  return [parts for parts in posing if parts not in filled]


def _is_folder(entry: os.DirEntry) -> bool:
  """A link that leads in a circle is said by whoever reads it as a file."""
  try:
    return entry.is_dir()
  except OSError:
    return False
