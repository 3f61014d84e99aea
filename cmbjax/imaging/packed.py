"""The bytes inside a gzip file, to its very end.

Rule: what was read is believed only after `rest` has met the checksum and the
length. They are the last bytes of the file, so who stops earlier misses them.
"""

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_STEP = 1 << 18  # packed bytes; fewer take longer, more are no quicker
_MOST = 1 << 20  # of one step, unpacked
_MAGIC = b'\x1f\x8b'


class Packed(io.RawIOBase):
  """Reads forward through all members of a gzip file.

  Attributes:
    name: for nibabel's sentence on a file that is too short.
    garbage: bytes behind the last member that are not gzip; zeros, with which
      tapes are filled, do not count.
  """

  def __init__(self, packed: BinaryIO):
    """Begins at the start of an open file, which the caller closes."""
    self.name, self.garbage = 'it', 0
    self._at, self._left = 0, memoryview(b'')
    self._chunks = self._unpack(packed)

  def readable(self) -> bool:
    return True

  def tell(self) -> int:
    return self._at

  def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
    """Goes forward; `place` counts from the start."""
    if whence != io.SEEK_SET or place < self._at:
      raise io.UnsupportedOperation('goes forward only')
    while self._at < place and self._next(place - self._at):
      pass
    return self._at

  def readinto(self, buffer) -> int:
    """Fills all of a buffer, where there is so much."""
    view, filled = memoryview(buffer).cast('B'), 0
    while filled < len(view) and (data := self._next(len(view) - filled)):
      view[filled : filled + len(data)] = data
      filled += len(data)
    return filled

  def rest(self, most: int) -> int:
    """Reads on to the end, and counts the bytes; gives up behind `most`.

    Raises:
      EOFError, OSError: cut short, or the checksum or length differs.
    """
    start = self._at
    while self._at - start <= most and self._next(_MOST):
      pass
    return self._at - start

  def _next(self, most: int) -> memoryview:
    """1 to `most` bytes; none at the end."""
    self._left = self._left or memoryview(next(self._chunks, b''))
    data, self._left = self._left[:most], self._left[most:]
    self._at += len(data)
    return data

  def _unpack(self, packed: BinaryIO) -> Iterator[bytes]:
    waiting = packed.read(_STEP)
    while True:
      member = zlib.decompressobj(wbits=31)  # checks its sum and length
      while not member.eof:
        try:
          data = member.decompress(waiting, _MOST)
        except zlib.error as error:
          raise OSError(_in_words(error)) from error
        if data:
          yield data
        waiting = member.unconsumed_tail
        if not (waiting or member.eof):
          waiting = packed.read(_STEP)
          if not (waiting or data):
            raise EOFError('it ends in the middle')
      waiting = member.unused_data
      while not waiting.lstrip(b'\0') and (more := packed.read(_STEP)):
        waiting = more
      waiting = waiting.lstrip(b'\0')
      waiting += packed.read(1) if len(waiting) == 1 else b''
      if not waiting.startswith(_MAGIC):
        break
    self.garbage = len(waiting)
    while data := packed.read(_STEP):
      self.garbage += len(data)


def _in_words(error: zlib.error) -> str:
  """'Error -3 while decompressing data: incorrect data check', plainer."""
  reason = str(error).rpartition(': ')[2]
  if reason in ('incorrect data check', 'incorrect length check'):
    return f'its bytes do not fit their checksum: {reason}'
  if reason == 'incorrect header check':
    return 'it is not packed by gzip; give it a name that ends with .nii'
  return f'its packed bytes are damaged: {reason}'
