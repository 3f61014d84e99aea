"""Events to lines on disk, and lines on disk to the state.

Rule: a line is on the disk before anybody hears that it was taken. All other
files of a review can be made again from `events.jsonl`.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from cmbjax.errors import InputError
from cmbjax.review.record import Change, ReviewRecord

EVENTS, STATE, LOCK = 'events.jsonl', 'state.json', '.lock'


class DiskFull(InputError):
  """The line could not be written; nothing was changed. HTTP 507."""


def rater_label(name: str) -> str:
  """A name as a BIDS label: letters and digits of it.

  Raises:
    InputError: none is left.
  """
  raise NotImplementedError


def folder_of(root: pathlib.Path, rater: str, case: str) -> pathlib.Path:
  """root/rater/case; InputError where a name would lead elsewhere."""
  raise NotImplementedError


def raters(root: pathlib.Path) -> list[str]:
  """Labels of the raters with at least one journal below `root`, sorted."""
  raise NotImplementedError


def cases(root: pathlib.Path, rater: str) -> list[str]:
  """Names of the cases that a rater has begun, sorted."""
  raise NotImplementedError


@contextlib.contextmanager
def hold(root: pathlib.Path, rater: str) -> Iterator[pathlib.Path]:
  """Keeps root/rater for this process; yields that folder.

  Raises:
    InputError: another process holds it (its number and computer are named),
      or it cannot be written.
  """
  raise NotImplementedError
  yield


def read(folder: pathlib.Path, *, until: int | None = None) -> ReviewRecord:
  """The state that a journal folder tells, without a lock; writes nothing.

  Args:
    folder: root/rater/case.
    until: the state at this revision instead of the last one; with
      `record.done_rev` what a first reader saw unaided.

  Raises:
    NoInputError: no journal there.
    InputError: a line is damaged (it is named).
  """
  raise NotImplementedError


def summary(folder: pathlib.Path) -> dict[str, Any] | None:
  """`ReviewRecord.case_json` of a journal, quickly; None without one."""
  raise NotImplementedError


def write_mask(
  record: ReviewRecord, folder: pathlib.Path
) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes the reader's mask on the grid of the file, and its table.

  <case>_rater-<rater>_dseg.nii.gz has the accepted lesions only; candidates
  keep the index of the source, additions follow. <case>_rater-<rater>_dseg.tsv
  has every item but the repeats, with its verdict.

  Returns:
    Both paths.
  """
  raise NotImplementedError


def mask_labels(record: ReviewRecord) -> dict[int, int]:
  """Item number to its index in mask and table, for all but the repeats."""
  raise NotImplementedError


class Journal:
  """A case that is open for writing.

  Attributes:
    folder: root/rater/case.
    record: the state.
    notices: sentences for the reader about what was found on opening.
  """

  @classmethod
  def open(cls, folder: pathlib.Path, header: Mapping[str, Any]) -> 'Journal':
    """Begins a journal with this header, or goes on with the one there.

    What an existing journal was begun with (order, seed, repeats, mode,
    hidden masks) stays; a difference becomes a notice.

    Args:
      folder: root/rater/case; hold the rater's folder before.
      header: `record.new_header(...)` of the present files.

    Raises:
      DiskFull: it could not be begun.
      InputError: it belongs to another image, grid or label image, or a line
        is damaged.
    """
    raise NotImplementedError

  def apply(self, action: Mapping[str, Any]) -> Change:
    """Checks, writes to the disk, then changes the state. Thread safe.

    Raises:
      Stale: `action['rev']` is given and not the present revision.
      DiskFull: nothing was changed.
      InputError: as `ReviewRecord.plan`.
    """
    raise NotImplementedError

  def save(self) -> list[pathlib.Path]:
    """Writes mask, table and snapshot; their paths."""
    raise NotImplementedError

  def close(self) -> None:
    """Says so in the log; writes the snapshot, and the mask if completed."""
    raise NotImplementedError
