"""A user's mistake as one line and one exit code.

Rule: the message names the file or key, what was found, what is allowed and
the fix. Everything else that is raised is a bug and keeps its traceback.
"""

import errno
import sys
from collections.abc import Callable

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What the system says of a place, whatever the program does. A file that is
# not there is not among them: it may as well be a bug.
_OF_DISKS = (
  errno.EACCES,
  errno.EPERM,
  errno.EROFS,
  errno.EIO,
  errno.ESTALE,
  errno.ELOOP,
  errno.ENOTDIR,
)
_MOST = 200  # characters of a file's content in a sentence


class InputError(ValueError):
  """Something given to us cannot be used. Exit code 2."""

  exit_code = 2


class NoInputError(InputError):
  """Nothing to work on was found. Exit code 3."""

  exit_code = 3


def shown(found: object) -> str:
  """What a file holds, fit for a sentence: one line, not long."""
  text = ' '.join(str(found).split())
  return text if len(text) <= _MOST else text[:_MOST] + ' ...'


def of_system(error: OSError) -> InputError | None:
  """A name, a right or a disk that fails, as a sentence; None: a bug."""
  named = error.filename
  if error.errno == errno.ENAMETOOLONG:
    return InputError(
      f'{shown(named)}: is too long for the name of a file '
      f'({len(str(named))} characters); check what was given.'
    )
  if error.errno in _FULL:
    what = 'free some space'
  elif error.errno in _OF_DISKS and named is not None:
    what = 'check its rights and its disk, or give another place'
  else:
    return None
  start = '' if named is None else f'{shown(named)}: '
  return InputError(f'{start}cannot be used ({error.strerror}); {what}.')


def told(error: BaseException) -> tuple[str, int] | None:
  """The sentence and exit code of an error; None: it is a bug."""
  if isinstance(error, OSError) and not isinstance(error, InputError):
    error = of_system(error) or error
  if isinstance(error, InputError):
    return str(error), error.exit_code
  if isinstance(error, KeyboardInterrupt):
    return 'interrupted; run it again to go on.', 130
  return None


def exit_code(work: Callable[[], int]) -> int:
  """Runs a program; a mistake or Ctrl-C is one line on standard error.

  Returns:
    What `work` returns, or the code of the mistake; 130 after Ctrl-C.
  """
  if hasattr(sys.stdout, 'reconfigure'):
    # A name of an old disk may hold bytes that are not text here.
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    return work()
  except (InputError, OSError, KeyboardInterrupt) as error:
    found = told(error)
    if found is None:
      raise
  text, code = found
  print(f'cmbjax: {text}', file=sys.stderr)
  return code
