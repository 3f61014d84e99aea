"""A line between the processes of one run: all continue, or all end.

Rule: process 0 holds one TCP connection to each of the others. Whoever fails
says why before it ends; a connection that breaks without a word means that a
process was killed. Either way the others end within seconds.

The service of JAX would notice as well, but after minutes, and it ends a
process from C++: no sentence, no exit code, nothing is tidied up.
"""

import atexit
import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from cmbjax import errors
from cmbjax.errors import InputError
from cmbjax.training import preemption
from cmbjax.training.peer import HELLO_S, Peer, listening

MEET_S = 300.0  # queues start the tasks of a job up to minutes apart
_GRACE_S = 5.0  # for the main thread to tidy up, before it is cut off
_SETTLE_S = 2.0  # an error of JAX may come before the word of who caused it
_RETRY_S = 0.1  # process 0 may start later than the others
_WAIT_SAID_S = 10.0
_END = 'all is done'
_STOPPED = 'stopped and saved; run it again to go on.'


class Ended(InputError):
  """Another process has failed, and this one ends with it."""

  def __init__(self, text: str, code: int):
    super().__init__(text)
    self.exit_code = code


class Failure(NamedTuple):
  """Why all end; code 0: they were asked to."""

  text: str
  code: int


class Line:
  """The connections of this process.

  Args:
    address: HOST:PORT of process 0. The port is free again when all have met,
      and JAX takes it.
    processes: how many there are.
    index: number of this one.
  """

  def __init__(self, address: str, processes: int, index: int):
    host, _, port = address.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
      raise InputError(
        f'--coordinator: is {address!r}; give HOST:PORT of process 0, for '
        'example node1:29500.'
      )
    self.index, self._processes = index, processes
    self._address = (host.strip('[]'), int(port))
    self._changed = threading.Condition()
    self._peers: dict[int, Peer] = {}
    self._left: set[int] = set()
    self._numbers = itertools.count()
    self._rounds: dict[int, dict[int, Any]] = {}
    self._full: dict[int, list] = {}
    self._failure: Failure | None = None
    self._timer: threading.Timer | None = None
    self._waits = self._leaves = self._over = False

  def meet(self) -> None:
    """Waits until all processes are here.

    Raises:
      InputError: one does not come, or was started otherwise.
    """
    if self.index == 0:
      self._accept()
    else:
      self._connect()
    self.gather('meet')

  def gather(self, name: str, value: Any = None) -> list:
    """The values of all processes, by their number, when all have one.

    Args:
      name: of the place in the program; the same in all.
      value: whatever JSON can hold.

    Raises:
      Ended: another process has failed.
      Stopped: another process was asked to end.
    """
    number = next(self._numbers)
    if self.index == 0:
      self._arrived(0, number, [name, value])
    else:
      self._send({'round': number, 'value': [name, value]})
    with self._changed:
      self._waits = True
      try:
        while number not in self._full:
          if self._failure:
            raise _as_error(self._failure)
          self._changed.wait()
      finally:
        self._waits = False
      found = self._full.pop(number)
    names = [one for one, _ in found]
    if len(set(names)) > 1:
      self.end_all(f'the processes came to different places: {names}', 1)
    return [one for _, one in found]

  def end_all(self, text: str, code: int) -> None:
    """Ends with a sentence that every process has found by itself.

    Raises:
      Ended: always.
    """
    with self._changed:
      self._failure = self._failure or Failure(text, code)
    raise _as_error(self._failure)

  def end(self) -> None:
    """Waits until all have done everything; from here on nobody is missed."""
    self.gather(_END)

  def close(self) -> None:
    """Hangs up."""
    for peer in self._peers.values():
      peer.hang_up()

  def leave(self, error: BaseException) -> BaseException:
    """Tells the others of an error, or learns that they caused it.

    Returns:
      What to raise: `error`, or the reason of another process.
    """
    known = _told(error)
    if known is None:  # perhaps JAX misses somebody
      with self._changed:
        self._changed.wait_for(lambda: self._failure, _SETTLE_S)
    with self._changed:
      self._leaves = True
      failure = self._failure
      if self._timer:
        self._timer.cancel()
    if failure is None:
      text, code = known or (f'{type(error).__name__}: {error}', 1)
      if code:
        failure = Failure(f'{self._name(self.index)}: {text}', code)
      else:
        failure = Failure(text, code)
    else:
      error, code = _as_error(failure), failure.code
    self._send(failure._asdict())
    if self.index == 0:  # it has the service of JAX, which the others miss
      for peer in self._peers.values():
        peer.finish()
      # A connection of theirs is closed by the system when they are gone.
      with self._changed:
        all_left = lambda: self._left.issuperset(self._peers)  # noqa: E731
        self._changed.wait_for(all_left, _GRACE_S + _SETTLE_S)
    # JAX would wait at the exit for those who have ended; and Python before it,
    # for a thread of JAX that an interruption left behind.
    atexit.register(preemption.leave, code)
    late = threading.Timer(_GRACE_S, preemption.leave, (code,))
    late.daemon = True
    late.start()
    return error

  def _accept(self) -> None:
    with listening(self._address) as listener:
      listener.settimeout(_RETRY_S)
      for _ in self._patience(self._missing):
        if len(self._peers) == self._processes - 1:
          return
        with contextlib.suppress(OSError):
          self._admit(Peer(listener.accept()[0]))
    raise InputError(
      f'{self._missing()} did not come within {MEET_S:.0f} s; start it with '
      'the same command and its own --process.'
    )

  def _missing(self) -> str:
    """The first process that is not here yet."""
    known = {0, *self._peers}
    rest = [i for i in range(self._processes) if i not in known]
    return self._name(rest[0]) if rest else ''

  def _admit(self, peer: 'Peer') -> None:
    peer.socket.settimeout(HELLO_S)
    hello = peer.read() or {}
    index, processes = hello.get('process'), hello.get('processes')
    if type(index) is not int or type(processes) is not int:
      peer.hang_up()  # something that is not cmbjax
      return
    if processes != self._processes or index in (0, *self._peers):
      text = (
        f'--process {index} of --processes {processes}: does not fit '
        f'process 0, which has --processes {self._processes}'
        + (' and this number already.' if processes == self._processes else '.')
      )
      peer.send(Failure(text, InputError.exit_code)._asdict())
      peer.finish()
      raise InputError(text)
    peer.host = errors.shown(hello.get('host'))
    peer.send({'welcome': index})
    self._add(index, peer)

  def _connect(self) -> None:
    reason = ['']
    waits = lambda: f'{self._name(0)} at {self._where()}{reason[0]}'  # noqa: E731
    for _ in self._patience(waits):
      try:
        peer = Peer(socket.create_connection(self._address, HELLO_S))
        peer.host = self._address[0]
        peer.send(
          {
            'process': self.index,
            'processes': self._processes,
            'host': socket.gethostname(),
          }
        )
        answer = peer.read() or {}
      except OSError as error:
        reason[0] = f' ({error.strerror or error})'
        continue
      if 'code' in answer:
        self.end_all(**answer)
      if answer.get('welcome') == self.index:
        self._add(0, peer)
        return
      peer.hang_up()
    raise InputError(
      f'--coordinator: {waits()} did not answer within {MEET_S:.0f} s; start '
      'process 0 there, or give its address.'
    )

  def _patience(self, whom) -> Iterator[None]:
    """Attempts until the time is over, or somebody fails."""
    begin, said = time.monotonic(), False
    while (passed := time.monotonic() - begin) < MEET_S:
      with self._changed:
        if self._failure:
          raise _as_error(self._failure)
      if passed > _WAIT_SAID_S and not said:
        print(f'waiting for {whom()}', file=sys.stderr, flush=True)
        said = True
      yield
      if self.index:
        time.sleep(_RETRY_S)

  def _add(self, index: int, peer: 'Peer') -> None:
    peer.keep_alive()
    self._peers[index] = peer
    threading.Thread(
      target=self._listen, args=(index, peer), daemon=True
    ).start()

  def _listen(self, index: int, peer: 'Peer') -> None:
    with contextlib.suppress(OSError):
      while (message := peer.read()) is not None:
        self._take(index, message)
    with self._changed:
      self._left.add(index)
      self._changed.notify_all()
    self._learn(
      Failure(
        f'{self._name(index)} on {peer.host}: ended without a word; most '
        'likely it was killed, for its memory or by hand, or its machine is '
        'lost. Run all again to go on.',
        1,
      )
    )

  def _take(self, index: int, message: dict) -> None:
    if 'code' in message:
      self._learn(Failure(**message))
    elif 'values' in message:
      self._fill(message['round'], message['values'])
    elif 'round' in message:
      self._arrived(index, message['round'], message['value'])

  def _arrived(self, index: int, number: int, value: Any) -> None:
    """In process 0: one more is there."""
    with self._changed:
      values = self._rounds.setdefault(number, {})
      values[index] = value
      if len(values) < self._processes:
        return
      del self._rounds[number]
      self._over = value[0] == _END  # before anyone can be gone
    full = [values[i] for i in range(self._processes)]
    self._send({'round': number, 'values': full})
    self._fill(
      number, full
    )  # now the main thread continues, perhaps to the end

  def _fill(self, number: int, values: list) -> None:
    with self._changed:
      self._full[number] = values
      self._over = values[0][0] == _END
      self._changed.notify_all()

  def _learn(self, failure: Failure) -> None:
    """Of a failure elsewhere; the first one counts."""
    with self._changed:
      if self._failure or self._over or self._leaves:
        return
      self._failure = failure
      if self.index:  # it writes nothing, and JAX may be about to abort it
        self._cut_off()
      self._timer = threading.Timer(_GRACE_S, self._cut_off)
      self._timer.daemon = True
      self._timer.start()
      interrupts = not self._waits
      self._changed.notify_all()
    self._send(failure._asdict())
    if interrupts:
      preemption.ask()

  def _cut_off(self) -> None:
    """Ends here, because the main thread may be in C++ and hear nothing."""
    print(f'cmbjax: {self._failure.text}', file=sys.stderr)
    preemption.leave(self._failure.code)

  def _send(self, message: dict) -> None:
    for peer in list(self._peers.values()):
      peer.send(message)

  def _name(self, index: int) -> str:
    return f'process {index} of {self._processes}'

  def _where(self) -> str:
    return f'{self._address[0]}:{self._address[1]}'


def _told(error: BaseException) -> Failure | None:
  """An error that is not a bug."""
  if isinstance(error, preemption.Stopped):
    return Failure(_STOPPED, 0)
  told = errors.told(error)
  return told and Failure(*told)


def _as_error(failure: Failure) -> BaseException:
  if failure.code == 0:
    return preemption.Stopped()
  return Ended(*failure)
