"""Events of one reader on one image to the state of the review.

Rule: the state is a pure fold over the lines of the journal. `plan` checks an
action and says the line, `fold` takes a line in; nothing else changes state.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax.errors import InputError

SCHEMA = 'cmbjax-review-1'
VERDICTS = ('accept', 'reject', 'unsure')
CERTAINTIES = ('definite', 'probable', 'possible')
MIMICS = (
  'vessel',
  'calcification',
  'cavernoma',
  'partial_volume',
  'artefact',
  'iron',
  'haemorrhagic_lesion',
  'other',
)
REGIONS = ('lobar', 'deep', 'infratentorial', 'unknown')
STATUSES = ('not started', 'in progress', 'completed', 'flagged')
BLINDS = ('score', 'mask', 'model', 'id', 'rater')
ORDERS = ('likelihood', 'random', 'position')
MODES = ('second-reader', 'first-reader')
MODEL, READER, AFTER = 'model', 'reader', 'reader_after_model'


class Stale(InputError):
  """An action was based on an older state than the present one: HTTP 409."""

  def __init__(self, rev: int):
    super().__init__(
      'this case was changed elsewhere (perhaps in another tab); load it again.'
    )
    self.rev = rev


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A lesion as the source of the review has it, before any reader.

  Attributes:
    id: its name there, as 'lesion-001'.
    index: its label in the source's label image; 0 where it has none.
    ijk: its point, voxel as shown.
    voxels: [n] linear indices as shown, x fastest, any order.
    score: likelihood 0..1 or None.
    status: 'definite', 'possible' or None.
    region: one of REGIONS.
  """

  id: str
  index: int
  ijk: tuple[int, int, int]
  voxels: np.ndarray
  score: float | None = None
  status: str | None = None
  region: str = 'unknown'


@dataclasses.dataclass
class Item:
  """One item of the list that the reader goes through.

  Attributes:
    number: 1..n in the order shown; the label of its voxels in `labels()`.
    origin: MODEL, READER or AFTER.
    id, index, score, status: of the candidate; None, 0, None, None where the
      reader added it.
    repeat_of: number of the item that this one silently repeats, or None.
    present: False once removed (or its addition undone).
    voxels: sorted linear indices; of a repeat always empty, ask
      `ReviewRecord.voxels`.
    ms: time that the reader spent on it; undo never takes time back.
  """

  number: int
  origin: str
  ijk: tuple[int, int, int]
  id: str | None = None
  index: int = 0
  score: float | None = None
  status: str | None = None
  region: str = 'unknown'
  verdict: str | None = None
  certainty: str | None = None
  mimic: str | None = None
  rating: int | None = None
  comment: str = ''
  ms: int = 0
  repeat_of: int | None = None
  present: bool = True
  voxels: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0, np.int64)
  )


@dataclasses.dataclass(frozen=True)
class Change:
  """What one line of the journal changed.

  Attributes:
    line: the line.
    items: numbers of the items whose JSON may differ now.
    removed: numbers of the items that are gone.
    voxels: [n] linear indices whose label the page must take over: those
      that changed, and those that it asked for and did not get.
    labels: [n] uint16, their labels now (0: none).
    refused: how many voxels stayed with another item.
  """

  line: Mapping[str, Any]
  items: tuple[int, ...]
  removed: tuple[int, ...]
  voxels: np.ndarray
  labels: np.ndarray
  refused: int


def new_header(
  candidates: Iterable[Candidate],
  *,
  grid: Mapping[str, Any],
  rater: str,
  case: str,
  source: str,
  image_sha256: str,
  labels_sha256: str | None = None,
  model: str | None = None,
  simulated: bool = False,
  mode: str = 'second-reader',
  blind: Sequence[str] = ('score', 'id'),
  order: str = 'likelihood',
  seed: int = 0,
  repeat: float = 0,
) -> dict[str, Any]:
  """The first line of a journal: what the reader is going to see.

  Args:
    candidates: of the source; none is fine.
    grid: `geometry.View.to_json()`.
    rater: BIDS label.
    case: name of the case.
    source: name of the image file, without folders.
    image_sha256: of the image.
    labels_sha256: of the label image, None without one.
    model: fingerprint of the model, None without one.
    simulated: whether the image is.
    mode: one of MODES.
    blind: some of BLINDS. With 'mask' the items begin without outline.
    order: one of ORDERS; 'random' depends on seed, rater and case.
    seed: of the order and the repeats.
    repeat: percent of the candidates that are shown twice.

  Raises:
    InputError: an option is none of the allowed, a candidate lies outside
      the image, or two candidates share an index or a voxel.
  """
  raise NotImplementedError


class ReviewRecord:
  """State of a review; pure Python and numpy, no files.

  Attributes:
    header: first line of the journal.
    view: geometry.View of the case.
    items: number to Item, also those that are hidden or removed.
    rev: number of the last line taken in.
    status: one of STATUSES.
    note: the reader's words on the case.
    ms: time spent on the case.
    views: what was looked at, to {'slices': n, 'ms': n}.
    done_rev: revision at which a first reader said done, or None.
    hidden: whether the candidates are still hidden from a first reader.
  """

  def __init__(self, header: Mapping[str, Any]):
    """The state before any event.

    Raises:
      InputError: the header is not of this schema, or damaged.
    """
    raise NotImplementedError

  def plan(self, action: Mapping[str, Any]) -> dict[str, Any]:
    """Checks an action; the line that says it, with `rev`. Changes nothing.

    Args:
      action: JSON of the page, see HTTP contract: {'event': ..., 'item': ...,
        'value': ..., 'ms': ...}. 'edit', 'grow' and 'add' take `set` and
        `clear` (indices) and `tool`. 'rev' is not looked at here.

    Raises:
      InputError: unknown event or item, a value that is not allowed, voxels
        out of range, a locked item, nothing to undo.
    """
    raise NotImplementedError

  def fold(self, line: Mapping[str, Any]) -> Change:
    """Takes one line in, as `plan` gave it or as the journal holds it."""
    raise NotImplementedError

  def apply(self, action: Mapping[str, Any]) -> Change:
    """`plan` and `fold`; for work without files."""
    return self.fold(self.plan(action))

  def undo(self) -> Change:
    """Takes the last undoable change back."""
    return self.apply({'event': 'undo'})

  def redo(self) -> Change:
    """Makes the last undone change again."""
    return self.apply({'event': 'redo'})

  def voxels(self, number: int) -> np.ndarray:
    """Sorted int64 linear indices of an item; a repeat has its original's."""
    raise NotImplementedError

  def labels(self) -> np.ndarray:
    """[X, Y, Z] uint16, Fortran order, read only: item numbers as shown."""
    raise NotImplementedError

  def shown(self) -> list[Item]:
    """Items that the reader sees now, by number."""
    raise NotImplementedError

  def view_items(self, blind: Sequence[str] = ()) -> list[dict[str, Any]]:
    """JSON of the items shown; blinded fields are null."""
    raise NotImplementedError

  def item_json(self, number: int, blind: Sequence[str] = ()) -> dict[str, Any]:
    """JSON of one item as the page gets it; 'outline' is the label of its
    voxels in `labels()`: its own number, or that of what it repeats."""
    raise NotImplementedError

  def case_json(self) -> dict[str, Any]:
    """rev, status, note, read, items (count), hidden, ms, can_undo, can_redo
    and first_unread (number or None)."""
    raise NotImplementedError

  def answer(self, change: Change, blind: Sequence[str] = ()) -> dict[str, Any]:
    """What POST events answers."""
    raise NotImplementedError

  def snapshot(self) -> dict[str, Any]:
    """The whole state as JSON, voxels as runs."""
    raise NotImplementedError
