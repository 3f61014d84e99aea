"""Whose images are looked at, and how a question about them is put.

Rule: advice names only options that the calling command has.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Sequence

from cmbjax.errors import InputError

PATTERN = '--swi-pattern'


@dataclasses.dataclass(frozen=True)
class Owner:
  """A person and session; options that the calling command has."""

  subject: str  # 'sub-01'
  session: str | None  # 'ses-1'
  options: Collection[str] = ()

  @property
  def name(self) -> str:
    return f'{self.subject}_{self.session}' if self.session else self.subject

  def which(self, what: str, found: Sequence[pathlib.Path]) -> InputError:
    """The error that says that of several files none is chosen."""
    fix = 'move the others away'
    if PATTERN in self.options and what != 'brain mask':
      fix = f'name one with {PATTERN}, or {fix}'
    listed = ', '.join(str(p) for p in found)
    return InputError(
      f'{self.name}: {len(found)} files could be the {what} ({listed}); {fix}.'
    )
