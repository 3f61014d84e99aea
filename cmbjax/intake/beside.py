"""What the names beside an image say of it.

Rule: a word that is of a person in one folder is of an image where the same
names lie beside it.
"""

import dataclasses
import pathlib
import re

from cmbjax.intake import filename, roles
from cmbjax.intake.listing import Listing
from cmbjax.intake.named_image import NamedImage

_SECOND = re.compile(r' ?\(\d{1,2}\)$')


_FOREIGN = re.compile(r'\.(img|mgz|mgh|nrrd|nhdr|mha|mhd|mnc)(\.gz)?$', re.I)


def foreign(names: Listing) -> list[tuple[pathlib.Path, str]]:
  """Images beside those of NIfTI that would be passed over."""
  return [
    (names.root.joinpath(*parts, name), 'not NIfTI; convert it')
    for parts, held in names.folders.items()
    for name in held
    if _FOREIGN.search(name)
  ]


def with_kinds(found) -> list[tuple[pathlib.Path, tuple]]:
  """A folder 'T1' or 'CMB' beside 'SWI' that has the same names in it is a
  kind of image; elsewhere it is a person, a session or a study."""
  names: dict[str, set[str]] = {}
  for path, parts in found:
    if parts:
      stem = roles.without(roles.words(filename.stem(path)))
      names.setdefault(parts[0], set()).add(stem)
  known = {top: _kind_of(top) for top in names}
  beside = [top for top, kind in known.items() if not kind]
  kinds = {
    top: kind
    for top, kind in known.items()
    if kind and any(names[top] & names[other] for other in beside)
  }
  return [
    (path, (kinds.get(parts[0], parts[0]), *parts[1:]) if parts else parts)
    for path, parts in found
  ]


def _kind_of(folder: str) -> str:
  """The kind of image that a folder may be of; '' when it names nothing."""
  text = roles.words(folder)
  if roles.is_of_marks(text):
    return 'lesion masks'
  return 't1w' if roles.is_a_kind(text) else ''


def with_copies(images) -> list[NamedImage]:
  """'anna_swi (1)' beside 'anna_swi' is what a browser or Windows made of a
  second download; without the plain one it is a person of its own."""
  known = {(i.path.parent, filename.stem(i.path)): i for i in images}
  result = []
  for image in images:
    stem = filename.stem(image.path)
    second = _SECOND.search(stem)
    plain = second and known.get((image.path.parent, stem[: second.start()]))
    if plain:
      version = plain.version | {second[0].strip()}
      image = dataclasses.replace(plain, path=image.path, version=version)
    result.append(image)
  return result
