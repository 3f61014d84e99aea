"""A folder that one process at a time works in.

Rule: whoever holds it lets go when the process ends, however it ends.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from cmbjax.errors import InputError
from cmbjax.files import make_folder

# What a network disk without a lock service says.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def alone_in(
  folder: str | os.PathLike, *, wait: bool = False
) -> Iterator[None]:
  """Holds a folder; the system lets go when the process ends, however.

  Args:
    folder: made when missing.
    wait: until whoever holds it is done. Such work may go on without a lock
      where the disk has none.

  Raises:
    InputError: another process holds it, or it cannot be written.
  """
  import filelock  # late: `--help` does without

  path = make_folder(folder) / '.lock'
  lock = filelock.FileLock(path, timeout=-1 if wait else 0)
  try:
    lock.acquire()
  except filelock.Timeout as error:
    raise InputError(
      f'{folder}: another run is using it; wait for it, or give another '
      '--workdir.'
    ) from error
  except (OSError, NotImplementedError) as error:
    code = getattr(error, 'errno', errno.ENOSYS)  # filelock 3 hides it
    if not (wait and code in _NO_LOCKS):
      raise InputError(
        f'{folder}: cannot be written ({os.strerror(code)}); choose another '
        'one.'
      ) from error
  try:
    yield
  finally:
    lock.release()
