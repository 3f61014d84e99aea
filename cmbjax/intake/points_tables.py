"""Tables of points beside images, outside BIDS.

Rule: only a name that says microbleeds or points is one, and of whom it is, its
name and folders say as those of a label image do.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from cmbjax.intake import named_image, roles
from cmbjax.intake.listing import Listing
from cmbjax.intake.named_image import NamedImage

_TABLE = re.compile(
  r'(?:(.+)[_.-])?(cmbs?|microbleeds?|points?)\.(tsv|csv)', re.IGNORECASE
)
WHY = 'a table of points'


def is_one(name: str) -> bool:
  """Whether a file is called like a table of points."""
  return bool(_TABLE.fullmatch(name))


def add(groups: Sequence[list[NamedImage]], names: Listing) -> None:
  """Brings each table to the images beside it that are of the same person.

  Args:
    groups: the images of each person and session.
    names: of the input.
  """
  tables = list(_tables(names))
  folders = {table.path.parent for table in tables}
  exact, inside = {}, {folder: {} for folder in folders}
  for group in groups:
    for folder in {image.path.parent for image in group} & folders:
      exact[folder, group[0].person, group[0].session] = group
      inside[folder][id(group)] = group
  for table in tables:
    folder = table.path.parent
    own = exact.get((folder, table.person, table.session))
    if own is None and len(inside[folder]) == 1:
      (one,) = inside[folder].values()
      own = one if _fits(table, one[0]) else None
    if own is not None:
      own.append(table)


def _fits(table, image) -> bool:
  """Whether nothing in the table's name is of another person or session."""
  known = {*image.person.lower().split(), *roles.words(image.person).split()}
  same = table.session in (None, image.session)
  return same and set(table.person.split()) <= known


def _tables(names: Listing) -> Iterator[NamedImage]:
  """The tables, each as a label image of its name would be."""
  for parts, held in names.folders.items():
    here = set(held)
    for name in held:
      match = _TABLE.fullmatch(name)
      start = name.rpartition('.')[0]
      # Beside an image of its own name it is the table of those labels.
      if not match or {f'{start}.nii', f'{start}.nii.gz'} & here:
        continue
      path = names.root.joinpath(*parts, name)
      like = path.with_name(f'{match[1]}_cmb.nii' if match[1] else 'swi.nii')
      one = named_image.describe(like)
      yield dataclasses.replace(one, path=path, role=roles.LESIONS)
