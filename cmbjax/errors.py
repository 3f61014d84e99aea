"""A user's mistake as one line and one exit code.

Rule: the message names the file or key, what was found, what is allowed and
the fix. Everything else that is raised is a bug and keeps its traceback.
"""

import errno
import sys
from collections.abc import Callable

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


def of_name(error: OSError) -> InputError:
  """A name that no file can have, as a user's mistake.

  Raises:
    OSError: it is about something else.
  """
  if error.errno != errno.ENAMETOOLONG:
    raise error
  return InputError(
    f'{shown(error.filename)}: is too long for the name of a file '
    f'({len(str(error.filename))} characters); check what was given.'
  )


def told(error: BaseException) -> tuple[str, int] | None:
  """The sentence and exit code of an error; None: it is a bug."""
  if isinstance(error, InputError):
    return str(error), error.exit_code
  if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
    return str(of_name(error)), InputError.exit_code
  if isinstance(error, KeyboardInterrupt):
    return 'interrupted; run it again to go on.', 130
  return None


def exit_code(work: Callable[[], int]) -> int:
  """Runs a program; a mistake or Ctrl-C is one line on standard error.

  Returns:
    What `work` returns, or the code of the mistake; 130 after Ctrl-C.
  """
  try:
    return work()
  except (InputError, OSError, KeyboardInterrupt) as error:
    found = told(error)
    if found is None:
      raise
  text, code = found
  print(f'cmbjax: {text}', file=sys.stderr)
  return code
