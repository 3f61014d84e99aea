"""One case that is open: its voxels, its journal, and what the page asks.

Rule: a sequence is read when it is first asked for; a page that does not know
all that was done changes nothing.
"""

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases import grow
from cmbjax.review.cases.case import Case
from cmbjax.review.log import events, geometry, journal, record


class Shown(NamedTuple):
  """One sequence as the page gets it."""

  voxels: geometry.Int16
  window: tuple[float, float]


class NotThere(InputError):
  """No case or sequence of this name. HTTP 404."""


class Opened:
  """One case with its voxels and its journal."""

  def __init__(self, case: Case, loaded: cases_lib.Loaded, book):
    self.case, self.image, self.book = case, loaded.image, book
    self.notices = (*loaded.notices, *book.notices)
    self.shown: dict[str, Shown] = {}
    self._reading = threading.Lock()
    lines = reversed(journal.lines(book.folder)[1:])
    worked = (line['rev'] for line in lines if events.of(line).is_work)
    self._worked = next(worked, 0)

  def sequence(self, name: str) -> Shown:
    """Voxels of a sequence, read when first asked for.

    Needs no hold of the case: verdicts are taken while a phase is filtered.

    Raises:
      NotThere: there is none of this name.
      InputError: it cannot be read.
    """
    if name not in [sequence.name for sequence in self.case.sequences]:
      raise NotThere('this case has no such sequence.')
    with self._reading:
      if name not in self.shown:
        array = self.image.array
        if name != self.case.sequences[0].name:
          array = cases_lib.read_sequence(self.case, name, self.image)
        shown = Shown(geometry.to_int16(array), geometry.window(array))
        self.shown[name] = shown
      return self.shown[name]

  def brain(self) -> np.ndarray:
    """The brain, uint8 [X, Y, Z]; found each time, in some seconds.

    Raises:
      InputError: there is none, or its mask does not fit.
    """
    found = cases_lib.brain_of(self.image, self.case.mask)
    return np.asfortranarray(found, np.uint8)

  def is_present(self, rev: int) -> bool:
    """Whether a page with this revision knows all that was done.

    Putting a case away and opening it again is in the journal as well, but
    does not part a page from its review.
    """
    return self._worked <= rev <= self.book.record.rev

  def apply(self, action: Mapping[str, Any]) -> record.Change:
    """One line more; see `journal.Journal.apply`."""
    if not self.is_present(action['rev']):
      raise record.Stale(self.book.record.rev)
    rev = self.book.record.rev
    change = self.book.apply({**action, 'rev': rev})
    if events.of(action).is_work:
      self._worked = self.book.record.rev
    return change


def grown(opened: Opened, action: Mapping[str, Any]) -> dict[str, Any]:
  """A `grow` or `add` with the voxels that come and go.

  Raises:
    InputError: nothing is dark there, or the voxel is not free.
  """
  state, image = opened.book.record, opened.image
  labels, item = state.labels(), action.get('item', 0)
  under = state.repeats.get(item, item)
  found = grow.grow(
    image.array,
    image.spacing_mm,
    action['ijk'],
    radius_mm=action.get('radius_mm', grow.RADIUS_MM),
    free=lambda box: np.isin(labels[box], (0, item, under)),
  )
  if action['event'] == 'add':  # without outline where nothing is dark
    return {**action, 'set': found.voxels, 'tool': found.tool}
  if not found.voxels.size:
    raise InputError(
      'ijk: nothing there is darker than what is around it; click the darkest '
      'place, or paint the lesion.'
    )
  old = state.voxels(item)
  return {
    **action,
    'set': np.setdiff1d(found.voxels, old),
    'clear': np.setdiff1d(old, found.voxels),
    'tool': found.tool,
  }


def sequence_json(
  opened: Opened, sequence: cases_lib.Sequence
) -> dict[str, Any]:
  """What the page gets of a sequence; its window once it was read."""
  first = sequence is opened.case.sequences[0]
  found = {'name': sequence.name, 'label': sequence.label}
  if not first and sequence.name not in opened.shown:
    return found | dict.fromkeys(('slope', 'intercept', 'window'))
  shown = opened.shown.get(sequence.name) or opened.sequence(sequence.name)
  return found | {
    'slope': shown.voxels.slope,
    'intercept': shown.voxels.intercept,
    'window': list(shown.window),
  }
