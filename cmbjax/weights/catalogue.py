"""Which weights are bundled with cmbjax, where they are, and the default.

Rule: a name of `NAMES` always means the shipped weights, anything else is a
folder; nothing is ever downloaded.
"""

import os
import pathlib

from cmbjax import doors
from cmbjax.errors import NoInputError

HOME = pathlib.Path(__file__).parent
NAMES = ('7t', 'finetuned', 'combined', 'robust')
# Of `detect`, whatever the scanner: chosen by benchmarks/ablation.py, in which
# patches in mm carried over to protocols that no network had seen.
DEFAULT = 'robust'
# Instead of `DEFAULT`, for scans without the phase or magnitude that it needs;
# these networks see the SWI only.
SWI_ONLY = 'robust'


def folder(name: str) -> pathlib.Path:
  """The folder of the shipped weights `name`.

  Raises:
    NoInputError: this installation does not have them.
  """
  found = HOME / name
  if name not in NAMES or not doors.is_there(found / 'weights.json'):
    raise NoInputError(
      f'weights: {name!r} did not come with this cmbjax; install it again, '
      'give --weights DIR (models/NAME of a finished study), or --weights none '
      'for candidates and outlines only.'
    )
  return found


def resolve(given: str | os.PathLike | None) -> pathlib.Path:
  """What `--weights` means: a shipped name, a folder, or None for `DEFAULT`.

  Raises:
    NoInputError: a name whose weights are not there, or no such folder.
  """
  if given is None:
    return folder(DEFAULT)
  # A folder of that name is meant by './7t'.
  if isinstance(given, str) and given in NAMES:
    return folder(given)
  if not pathlib.Path(given).exists():
    raise NoInputError(
      f'weights: {str(given)!r} is no folder, and none of the names of those '
      f'that came with cmbjax ({", ".join(NAMES)}); check it.'
    )
  return pathlib.Path(given)


def shipped() -> dict[str, pathlib.Path]:
  """The folders that are there, by name, in the order of `NAMES`."""
  return {
    name: HOME / name
    for name in NAMES
    if doors.is_there(HOME / name / 'weights.json')
  }
