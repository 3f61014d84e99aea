"""Tables of points beside images, outside BIDS.

Rule: only a name that says microbleeds or points is one, and of whom it is, its
name and folders say as those of a label image do.
"""

import dataclasses
import re
from collections.abc import Iterator

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


def find(names: Listing, skipped: int) -> Iterator[NamedImage]:
  """The tables, each as a label image of its name would be.

  Args:
    names: of the input.
    skipped: folders around all persons, of which none is one.
  """
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
      one = named_image.describe(like, parts[skipped:])
      yield dataclasses.replace(one, path=path, role=roles.LESIONS)
