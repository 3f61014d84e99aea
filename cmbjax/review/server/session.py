"""Options of a reader to a page that is served until Ctrl-C.

Rule: what does not fit is said in one line before anything is opened, and
when it ends everything is on the disk.
"""

import argparse
import pathlib
import re
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

from cmbjax.errors import InputError, NoInputError
from cmbjax.review.cases.case import Case
from cmbjax.review.log import folders
from cmbjax.review.log.items import BLINDS
from cmbjax.review.log.opening import Terms
from cmbjax.review.server import app, desk, guard
from cmbjax.review.server import serve as serving


class Session(NamedTuple):
  """What a reader asked for.

  Attributes:
    terms: how he reads.
    ratings: whether the page asks for a rating.
    hosts: names under which a proxy may show the page.
    port: 0: any that is free.
    browser: whether to open one.
  """

  terms: Terms
  ratings: bool
  hosts: tuple[str, ...]
  port: int
  browser: bool


def options(args: argparse.Namespace) -> Session:
  """The options of `cmbjax review open`, checked.

  Raises:
    InputError: one of them is not allowed, or two do not fit.
  """
  if not 0 <= args.port < 2**16:
    raise InputError(f'--port: found {args.port}; give 0 to 65535.')
  if not 0 <= args.seed < 2**63:
    raise InputError(f'--seed: found {args.seed}; give a number from 0.')
  if not 0 <= args.repeat <= 100:
    raise InputError(f'--repeat: found {args.repeat:g}; give 0 to 100 percent.')
  blind = _blind(args.blind)
  return Session(
    Terms(
      mode=args.mode,
      blind=blind,
      order=_order(args.order, args.repeat, blind),
      seed=args.seed,
      repeat=args.repeat,
      least=_least(args.least),
    ),
    ratings=args.ratings,
    hosts=tuple(_host(text) for text in args.allow_host),
    port=args.port,
    browser=not args.no_browser,
  )


def _blind(text: str) -> tuple[str, ...]:
  blind = tuple(part.strip() for part in text.split(','))
  blind = () if blind == ('none',) else blind
  wrong = [name for name in blind if name not in BLINDS]
  if wrong:
    raise InputError(
      f"--blind: found '{wrong[0]}'; give some of {','.join(BLINDS)}, or none."
    )
  return blind


def _order(order: str | None, repeat: float, blind) -> str:
  """What comes again must not stand out by its place, name or likelihood."""
  if not repeat:
    return order or 'likelihood'
  if order in ('likelihood', 'position'):
    raise InputError(
      f'--order: found {order} with --repeat; what is shown again would stand '
      'out, so leave --order away (it is random then).'
    )
  missing = [name for name in ('score', 'id') if name not in blind]
  if missing:
    raise InputError(
      f'--blind: --repeat needs {" and ".join(missing)} in it, else these tell '
      'what is shown again.'
    )
  return 'random'


def _least(text: str | None) -> float | str | None:
  if text in (None, 'definite'):
    return text
  try:
    least = float(text)
  except ValueError:
    least = -1.0
  if not 0 <= least <= 1:
    raise InputError(
      f"--least: found '{text}'; give a likelihood of 0 to 1, or definite."
    )
  return least


def _host(text: str) -> str:
  """A name as browsers write it in Host."""
  if not re.fullmatch(r'[A-Za-z0-9.-]+(:[0-9]{1,5})?', text):
    raise InputError(
      f"--allow-host: found '{text}'; give a name such as hub.example.org or "
      'hub.example.org:8000.'
    )
  return text.lower()


def serve(
  cases: Sequence[Case], root: pathlib.Path, rater: str, session: Session
) -> int:
  """Serves the page; the exit code.

  Args:
    cases: what is reviewed.
    root: folder of all readers.
    rater: label of this one.
    session: what was asked for.

  Raises:
    InputError: another process serves this reader, or the port is taken.
    NoInputError: an adjudicator has nothing to decide.
  """
  with folders.hold(root, rater) as folder:
    table = desk.Desk(
      cases,
      root,
      rater,
      session.terms,
      ratings=session.ratings,
    )
    if not table.cases:
      raise NoInputError(
        f'{rater}: has nothing to decide here; run cmbjax review merge again.'
      )
    with serving.listen(session.port) as sock:
      for host in session.hosts:
        _say(f'warning: pages of {host} may show this review')
      return _serve(table, sock, folder, session)


def _serve(
  table: desk.Desk, sock: socket.socket, folder: pathlib.Path, session: Session
) -> int:
  port = sock.getsockname()[1]
  gate = guard.Guard(port, hosts=session.hosts)
  address = f'http://{serving.ADDRESS}:{port}/?token={gate.token}'
  opened = []

  def ready():
    count = len(table.cases)
    _say(f'review: {count} case{"s" * (count != 1)}, saved in {folder}')
    print(f'open {address}', flush=True)
    _say('end with Ctrl-C')
    table.warm(table.start)
    if session.browser:
      opened.append(serving.open_browser(address, folder))

  try:
    number = serving.run(app.make(table, gate), sock, ready=ready)
  finally:
    for path in opened:
      if path is not None:
        path.unlink(missing_ok=True)
    for why in table.close():
      _say(why)
  _say('review: closed, everything is saved')
  return 130 if number == signal.SIGINT else 0


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
