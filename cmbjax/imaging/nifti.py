"""A NIfTI file to an image that can be believed, and back to a file."""

import contextlib
import contextvars
import gzip
import math
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import packed

_SILENT = contextvars.ContextVar('silent', default=False)
nib.imageglobals.logger.addFilter(lambda record: not _SILENT.get())
# Fields that nibabel puts right where they mean nothing.
_REPAIRED = ('sizeof_hdr', 'bitpix', 'qform_code', 'sform_code', 'pixdim')
_MOST_PACKED = 1100  # bytes that one byte of a compressed file may become
_PACKED = ('.gz', '.mgz')
_MOST_MORE = 1 << 26  # bytes; behind that a bomb would be read for ever
_APART_MM = 5.0  # of qform and sform; less is how they are rounded or tilted
_LEAST_SIDE = 1e-6  # of a voxel; what `spacing_mm` can still tell from 0
# Whatever nibabel makes of a damaged header or file.
UNREADABLE = (
  ImageFileError,
  HeaderDataError,
  OSError,
  EOFError,
  ValueError,
  TypeError,
  KeyError,
  AttributeError,
  OverflowError,
  MemoryError,
  struct.error,
  zlib.error,
)


def open_image(path: str | os.PathLike) -> nib.spatialimages.SpatialImage:
  """One image whose header was read and believed, its voxels not yet.

  Raises:
    NoInputError: the file does not exist.
    InputError: not an ordinary file, no readable NIfTI, or a header that
      promises more voxels than the file holds or the memory of this machine.
  """
  path = pathlib.Path(path)
  if not os.path.lexists(path):
    raise NoInputError(f'{path}: no such file; check the name.')
  for one in _files_of(path):  # nibabel would wait for a pipe
    doors.open_file(one).close()
  try:
    with _silent():
      image = nib.load(path)
    promised = _promised_bytes(image)
  except UNREADABLE as error:
    raise unreadable(path, error) from error
  held = _held(image)
  # Deflate makes at most 1032 bytes of one.
  most = held.stat().st_size * (
    1 if held.suffix in ('.nii', '.img') else _MOST_PACKED
  )
  if promised > most:
    raise InputError(
      f'{path}: its header promises {promised:,} bytes of voxels '
      f'({"x".join(map(str, image.shape))}), more than the file can hold; it '
      'is cut short or damaged, so copy or convert it again.'
    )
  if promised > _memory_bytes():
    raise InputError(
      f'{path}: holds {promised / 1e9:,.0f} GB of voxels '
      f'({"x".join(map(str, image.shape))}), more than the memory of this '
      'machine; give one volume per file.'
    )
  return image


def voxels(
  path: pathlib.Path, image: nib.spatialimages.SpatialImage, *, scaled: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
  """The voxels of an image of `open_image`, and what has to be said of them.

  Args:
    path: of the image, for messages.
    image: its header.
    scaled: apply the header's scale factor.

  Returns:
    The array in the file's own order, and a note where bytes follow it.

  Raises:
    InputError: cut short, or what was packed differs from its checksum.
  """
  held, proxy = _held(image), image.dataobj
  size = _promised_bytes(image)
  try:
    if held.suffix.lower() not in _PACKED or not _is_plain(proxy):
      array = _read(proxy, scaled)
      more, garbage = held.stat().st_size - proxy.offset - size, 0
      more *= held.suffix in ('.nii', '.img')
    else:
      with doors.open_file(held) as handle:
        stream = packed.Packed(handle)
        array = _read(_proxy_of(stream, proxy), scaled)
        more, garbage = stream.rest(size + _MOST_MORE), stream.garbage
  except UNREADABLE as error:
    raise unreadable(path, error) from error
  if more > size + _MOST_MORE:
    raise InputError(
      f'{path}: holds more than twice the voxels that its header promises '
      f'({"x".join(map(str, image.shape))}); convert it again.'
    )
  return array, tuple(_following(path.name, image, more, garbage))


def write_image(path: str | os.PathLike, image: nib.Nifti1Image) -> None:
  """Writes a nibabel image, whole or not at all, without a time stamp."""
  with files.whole(path) as temporary, temporary.open('wb') as handle:
    if not str(path).endswith('.gz'):
      image.to_stream(handle)
      return
    # Slice by slice: all of the bytes would take the memory of the voxels.
    with gzip.GzipFile('', 'wb', 1, handle, mtime=0) as stream:
      image.to_stream(stream)


def repairs(path: pathlib.Path, image) -> tuple[str, ...]:
  """What nibabel took some fields of the header for, in one sentence."""
  if not isinstance(image.header, nib.AnalyzeHeader):
    return ()  # other formats have no such repairs
  used = image.header
  holder = image.file_map.get('header', image.file_map['image'])
  with holder.get_prepare_fileobj('rb') as stream:
    block = stream.read(used.sizeof_hdr)
  found = type(used)(block, used.endianness, check=False)
  changes = []
  for name in (name for name in _REPAIRED if name in used):
    pairs = zip(np.atleast_1d(found[name]), np.atleast_1d(used[name]))
    for n, (before, now) in enumerate(pairs):
      if not np.array_equal(before, now, equal_nan=True):
        place = f'{name}[{n}]' if np.ndim(used[name]) else name
        changes.append(f'{place} {before:g} was taken for {now:g}')
  if not changes:
    return ()
  return (f'{path.name}: its header was repaired: {", ".join(changes)}',)


def remarks(path: pathlib.Path, image) -> tuple[str, ...]:
  """What has to be said of the header of an image of `open_image`."""
  return (*repairs(path, image), *two_places(path, image))


def two_places(path: pathlib.Path, image) -> tuple[str, ...]:
  """What is said where qform and sform do not agree on where voxels are."""
  header = image.header
  if not isinstance(header, nib.Nifti1Header):
    return ()
  try:
    one, other = (
      header.get_qform(coded=True)[0],
      header.get_sform(coded=True)[0],
    )
  except UNREADABLE:
    return ()  # which of them is used is judged by `affine_of`
  if one is None or other is None:
    return ()
  corners = np.indices((2, 2, 2)).reshape(3, -1).T * (
    np.array(image.shape[:3]) - 1
  )
  apart = corners @ (one - other)[:3, :3].T + (one - other)[:3, 3]
  apart_mm = float(np.sqrt((apart**2).sum(1)).max())
  if not apart_mm > _APART_MM:  # also where one is not finite
    return ()
  mirrored = np.linalg.det(one[:3, :3]) * np.linalg.det(other[:3, :3]) < 0
  return (
    f'{path.name}: its qform and sform put voxels up to {apart_mm:.0f} mm apart'
    + (', and one is the mirror image of the other' if mirrored else '')
    + '; the sform was taken, so check '
    + ('left and right and ' if mirrored else '')
    + 'places, and correct the wrong one',
  )


def affine_of(path: pathlib.Path, image) -> np.ndarray:
  """Voxel index to world mm, checked."""
  affine = np.asarray(image.affine, float)
  with np.errstate(all='ignore'):
    sides = np.sqrt((affine[:3, :3] ** 2).sum(0))
    usable = np.isfinite(affine).all() and sides.min() > _LEAST_SIDE
    unit = affine[:3, :3] / sides  # small voxels alone are not flat
    usable = usable and abs(np.linalg.det(unit)) >= 1e-9
    usable = usable and np.isfinite(np.linalg.inv(affine)).all()
    # An axis of next to no length is dropped by nibabel.
    usable = usable and np.isfinite(orientations.io_orientation(affine)).all()
  if not usable:
    raise InputError(
      f'{path}: its affine is singular or not finite, so voxels have no place '
      'in mm; repair qform or sform.'
    )
  return affine


def _files_of(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """The file and what nibabel would read beside it, as .img beside .hdr."""
  yield path
  for kind in nib.imageclasses.all_image_classes:
    with contextlib.suppress(ImageFileError):  # not of this kind
      for holder in kind.filespec_to_file_map(path).values():
        if os.path.lexists(holder.filename):
          yield pathlib.Path(holder.filename)


def _held(image) -> pathlib.Path:
  """The file that holds the voxels."""
  return pathlib.Path(image.file_map['image'].filename)


def _is_plain(proxy) -> bool:
  """Whether voxels stand one behind the other, as in all but rare formats."""
  return type(proxy) is nib.arrayproxy.ArrayProxy


def _proxy_of(stream, like: nib.arrayproxy.ArrayProxy):
  """The same voxels, of an open file."""
  spec = like.shape, like.dtype, like.offset, like.slope, like.inter
  return nib.arrayproxy.ArrayProxy(stream, spec, mmap=False)


def _read(proxy, scaled: bool) -> np.ndarray:
  if not hasattr(proxy, 'get_unscaled'):
    return np.asanyarray(proxy)
  array = np.asanyarray(proxy.get_unscaled())
  if not scaled or (proxy.slope, proxy.inter) == (1, 0):
    return array
  # Single precision slice by slice: all in double would be four times more.
  result = np.empty(array.shape, np.float32, order='F')
  with np.errstate(over='ignore'):
    for n in range(array.shape[-1]):
      result[..., n] = apply_read_scaling(
        array[..., n], proxy.slope, proxy.inter
      )
  return result


def _following(name, image, more: int, garbage: int) -> Iterator[str]:
  """What follows the voxels; only MGH has a use for it."""
  if more > 0 and isinstance(image.header, nib.AnalyzeHeader):
    yield f'{name}: {more:,} bytes follow its voxels and were not read'
  if garbage:
    yield (
      f'{name}: {garbage:,} bytes that are not gzip follow its end and were '
      'not read'
    )


def _promised_bytes(image) -> int:
  """Bytes of voxels by the header."""
  if not isinstance(image, nib.spatialimages.SpatialImage):
    raise ValueError(f'it holds {type(image).__name__}, no voxels')
  return math.prod(map(int, image.shape)) * image.get_data_dtype().itemsize


def _memory_bytes() -> int:
  return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


@contextlib.contextmanager
def _silent():
  """What nibabel logs of a header here is for the notes, not for stderr."""
  token = _SILENT.set(True)
  try:
    yield
  finally:
    _SILENT.reset(token)


def unreadable(path: pathlib.Path, error: Exception) -> InputError:
  packed_already = _starts_packed(path)
  named_packed = path.suffix.lower() == '.gz'
  is_nifti = path.name.lower().endswith(('.nii', '.nii.gz'))
  if is_nifti and packed_already is not None and packed_already != named_packed:
    return InputError(
      f'{path}: is {"" if packed_already else "not "}compressed, against its '
      f'name; rename it to end in {".nii.gz" if packed_already else ".nii"}, '
      'or copy or convert it again.'
    )
  first = (str(error).splitlines() or [''])[0] or type(error).__name__
  return InputError(
    f'{path}: is not a readable NIfTI ({first[:200]}); it may be cut short, so '
    'copy or convert it again.'
  )


def _starts_packed(path: pathlib.Path) -> bool | None:
  """Whether a file begins as gzip (True) or as NIfTI (False)."""
  try:
    with doors.open_file(path) as handle:
      start = handle.read(4)
  except (OSError, InputError, NoInputError):
    return None
  if start[:2] == b'\x1f\x8b':
    return True
  sizes = {order: struct.unpack(f'{order}i', start)[0] for order in '<>'} if (
    len(start) == 4
  ) else {}  # fmt: skip
  return False if {348, 540} & {*sizes.values()} else None
