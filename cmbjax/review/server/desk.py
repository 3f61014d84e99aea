"""The cases on one reader's desk: opened when asked for, a few at a time.

Rule: one case is used by one request at a time; what is put away has its
journal closed first, so that no two ever write one file.
"""

import collections
import contextlib
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import cmbjax
from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases.case import Case
from cmbjax.review.log import events, folders, geometry, journal, record
from cmbjax.review.log.items import MIMICS, STATUSES
from cmbjax.review.log.opening import Terms, new_header
from cmbjax.review.readers import reviewed
from cmbjax.review.server import opened as opened_lib
from cmbjax.review.server.opened import NotThere, Opened

MOST_OPEN = 3  # cases whose voxels are kept; each has some 300 MB
PLACE, SETTINGS = 'place.json', 'settings.json'
ADJUDICATION = 'adjudication.json'
# What a page remembers for itself is a few numbers, not a store.
MOST_PLACE_BYTES = 4096
MOST_SETTINGS_BYTES = 16_384


class Closed(InputError):
  """The server is shutting down. HTTP 503."""


class Desk:
  """All cases of one reader.

  Attributes:
    cases: in the order of the page; a case's number is its place here.
    root: folder of all readers.
    rater: the label of this one, whose folder the caller holds.
    terms: how this one reads.
    ratings: whether the page asks for a rating.
    closing: no write is taken any more.
  """

  def __init__(
    self,
    cases: Sequence[Case],
    root: pathlib.Path,
    rater: str,
    terms: Terms | None = None,
    *,
    ratings: bool = False,
  ):
    self.root, self.rater = root, rater
    self.terms, self.ratings = terms or Terms(), ratings
    self.adjudicates = doors.is_there(root / rater / ADJUDICATION)
    if self.adjudicates:  # only what the others disagree on
      cases = [
        c for c in cases if doors.is_there(self._folder(c) / journal.EVENTS)
      ]
    self.cases = tuple(cases)
    self.closing = False
    self._locks = [threading.RLock() for _ in self.cases]
    self._order = threading.Lock()
    self._open: collections.OrderedDict[int, Opened] = collections.OrderedDict()
    self._ready: dict[int, cases_lib.Loaded] = {}

  @contextlib.contextmanager
  def use(self, number: int) -> Iterator[Opened]:
    """A case, alone, opened when it is not.

    Raises:
      NotThere: there is no such case.
      InputError: its files cannot be used.
    """
    if not 0 <= number < len(self.cases):
      raise NotThere('there is no such case.')
    with self._locks[number]:
      with self._order:
        found = self._open.get(number)
      if found is None:
        found = self._opened(number)
      with self._order:
        self._open[number] = found
        self._open.move_to_end(number)
      yield found
    self._put_away(MOST_OPEN)

  def warm(self, number: int, *, after_s: float = 0.0) -> None:
    """Reads the files of a case that will be asked for, in the background.

    Nothing is written: its journal begins when it is really opened.
    """
    if not 0 <= number < len(self.cases) or self.closing:
      return
    waiting = threading.Timer(after_s, self._warm, (number,))
    waiting.daemon = True
    waiting.start()

  def _warm(self, number) -> None:
    with self._locks[number]:
      with self._order:
        known = number in self._open or number in self._ready
      if known or self.closing:
        return
      with contextlib.suppress(InputError):  # who opens it sees why
        loaded = cases_lib.load(self.cases[number])
        with self._order:
          self._ready = {number: loaded}  # one, so that memory stays small

  @property
  def start(self) -> int:
    """The first case that is not completed; else the first."""
    rows = (self._row(number) for number in range(len(self.cases)))
    open_ones = (row['case'] for row in rows if row['status'] != 'completed')
    return next(open_ones, 0)

  def close(self) -> list[str]:
    """Puts every case away; sentences about what could not be written."""
    self.closing = True
    return self._put_away(0, wait=True)

  def session(self) -> dict[str, Any]:
    """What `api/session` answers."""
    rows = [self._row(number) for number in range(len(self.cases))]
    unread = [row['case'] for row in rows if row['status'] != 'completed']
    return {
      'cases': rows,
      'rater': self.rater,
      'mode': self.terms.mode,
      'blind': list(self.terms.blind),
      'order': self.terms.order,
      'ratings': self.ratings,
      'repeat': False,  # hidden ones are no secret if this tells
      'adjudicates': self.adjudicates,
      'version': cmbjax.__version__,
      'start': unread[0] if unread else 0,
      'mimics': list(MIMICS),
      'settings': _kept(self.root / self.rater / SETTINGS),
      'calibrate': reviewed.command(self.cases, self.root, self.rater),
    }

  def case_json(self, number: int, opened: Opened) -> dict[str, Any]:
    """What `api/cases/<n>` answers."""
    case, state = opened.case, opened.book.record
    view = state.view
    return {
      'case': number,
      'name': case.name,
      'simulated': case.simulated,
      'dim': list(view.shape),
      'spacing': list(view.spacing_mm),
      'affine': np.asarray(view.affine).tolist(),
      'oblique_deg': view.oblique_deg,
      'slab_axis': view.slab_axis,
      'sequences': [
        opened_lib.sequence_json(opened, s) for s in case.sequences
      ],
      'protocol': dict(case.protocol),
      **state.case_json(),
      'items': state.view_items(self._blind(state)),
      'quiet': bool(state.repeats),
      'notices': list(opened.notices),
      'place': _kept(opened.book.folder / PLACE),
    }

  def act(self, opened: Opened, action: Mapping[str, Any]) -> dict[str, Any]:
    """Takes an action in; what `POST events` answers.

    Raises:
      Closed, record.Stale, journal.DiskFull, InputError.
    """
    book = opened.book
    self._check_open()
    try:
      action = events.checked(action, book.record)
    except InputError:
      # What a page asks for may be gone because somebody was quicker, or
      # because the same request came before and its answer was lost.
      rev = action.get('rev') if isinstance(action, Mapping) else None
      if type(rev) is int and rev >= 0 and not opened.is_present(rev):
        raise record.Stale(book.record.rev) from None
      raise
    if 'rev' not in action:
      raise InputError(f'rev: is missing in {action["event"]}.')
    if not opened.is_present(action['rev']):  # before anything is grown
      raise record.Stale(book.record.rev)
    if action['event'] == 'grow' or action.pop('grow', False):
      action = opened_lib.grown(opened, action)
    change = opened.apply(action)
    answer = book.record.answer(change, self._blind(book.record))
    is_end = action['event'] == 'status' and action['value'] == 'completed'
    if is_end:  # the log has it already; these are made from that
      with contextlib.suppress(InputError):
        book.save()
    return answer

  def save(self, opened: Opened) -> list[str]:
    """Writes mask and table; names of the files."""
    self._check_open()
    return [path.name for path in opened.book.save()]

  def keep_place(self, opened: Opened, place: Mapping[str, Any]) -> None:
    """Remembers how the page looked; no part of the review."""
    self._check_open()
    files.write_json(opened.book.folder / PLACE, dict(place))

  def keep_settings(self, settings: Mapping[str, Any]) -> None:
    """Remembers how this reader likes the page: display and keys."""
    self._check_open()
    files.write_json(self.root / self.rater / SETTINGS, dict(settings))

  def _blind(self, state: record.ReviewRecord) -> tuple[str, ...]:
    """What is hidden; these would tell what comes again."""
    always = ('score', 'id', 'evidence') if state.repeats else ()
    return tuple(dict.fromkeys((*self.terms.blind, *always)))

  def _check_open(self):
    if self.closing:
      raise Closed('the server is closing; nothing was changed.')

  def _folder(self, case) -> pathlib.Path:
    return folders.folder_of(self.root, self.rater, case.name)

  def _opened(self, number) -> Opened:
    self._check_open()
    case = self.cases[number]
    with self._order:
      loaded = self._ready.pop(number, None)
    loaded = loaded or cases_lib.load(case)
    self._check_open()
    folder = self._folder(case)
    book = journal.Journal.open(folder, self._header(case, loaded, folder))
    return Opened(case, loaded, book)

  def _header(self, case, loaded, folder) -> dict[str, Any]:
    """What the journal begins with, of the files as they are now."""
    if self.adjudicates:  # its items are not those of the files
      found = dict(journal.read(folder).header)
      return found | {'image_sha256': loaded.image_sha256}
    header = new_header(
      loaded.candidates,
      grid=geometry.View.of(loaded.image).to_json(),
      rater=self.rater,
      case=case.name,
      source=case.source,
      image_sha256=loaded.image_sha256,
      labels_sha256=loaded.labels_sha256,
      model=case.fingerprint or None,
      simulated=case.simulated,
      terms=self.terms,
    )
    return header | {'subject': case.subject, 'session': case.session}

  def _put_away(self, most: int, *, wait: bool = False) -> list[str]:
    """Closes the cases that were not used longest, down to `most`."""
    problems = []
    with self._order:
      old = list(self._open)[: max(0, len(self._open) - most)]
    for number in old:
      if not self._locks[number].acquire(blocking=wait):
        continue  # in use: another time
      try:
        with self._order:
          found = self._open.pop(number, None)
        if found is not None:
          found.book.close()
      except InputError as error:
        problems.append(str(error))
      finally:
        self._locks[number].release()
    return problems

  def _row(self, number) -> dict[str, Any]:
    case = self.cases[number]
    with self._order:
      found = self._open.get(number)
    problem = None
    if found is not None:
      state = found.book.record.case_json()
    else:
      try:
        state = journal.summary(self._folder(case)) or self._unopened(case)
      except InputError as error:  # one damaged journal is no end of all
        state = {'status': 'flagged', 'items': None, 'read': 0}
        problem = str(error)
    return {
      'case': number,
      'name': case.name,
      'status': state['status'],
      'items': state['items'],
      'read': state['read'],
      'simulated': case.simulated,
      'problem': problem,
    }

  def _unopened(self, case) -> dict[str, Any]:
    """What is known of a case that nobody has begun."""
    is_first = self.terms.mode == 'first-reader'  # who must not know
    more = self.terms.least is not None or self.terms.repeat > 0
    unknown = is_first or more or not case.rows
    count = None if unknown else len(case.rows)
    return {'status': STATUSES[0], 'items': count, 'read': 0}


def _kept(path):
  """An object that a page had kept, or None."""
  try:
    found = files.read_json(path) if doors.is_there(path) else None
  except InputError:  # only a memory of how the page looked
    return None
  return found if isinstance(found, dict) else None
