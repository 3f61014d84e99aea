"""A NIfTI file to an image that can be believed, and back to a file."""

import contextlib
import contextvars
import gzip
import math
import os
import pathlib
import struct
import zlib

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from cmbjax import files
from cmbjax.errors import InputError, NoInputError

_SILENT = contextvars.ContextVar('silent', default=False)
nib.imageglobals.logger.addFilter(lambda record: not _SILENT.get())
# Fields that nibabel puts right where they mean nothing.
_REPAIRED = ('sizeof_hdr', 'bitpix', 'qform_code', 'sform_code', 'pixdim')
_MOST_PACKED = 1100  # bytes that one byte of a compressed file may become
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
    InputError: no readable NIfTI, or a header that promises more voxels than
      the file holds or the memory of this machine.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise NoInputError(f'{path}: no such file; check the name.')
  try:
    with _silent():
      image = nib.load(path)
    promised = _promised_bytes(image)
  except UNREADABLE as error:
    raise unreadable(path, error) from error
  # Deflate makes at most 1032 bytes of one.
  most = path.stat().st_size * (1 if image.get_filename().endswith('.nii')
                                else _MOST_PACKED)  # fmt: skip
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


def write_image(path: str | os.PathLike, image: nib.Nifti1Image) -> None:
  """Writes a nibabel image, whole or not at all, without a time stamp."""
  data = image.to_bytes()
  if str(path).endswith('.gz'):
    data = gzip.compress(data, compresslevel=1, mtime=0)
  files.write_bytes(path, data)


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
  first = (str(error).splitlines() or [''])[0] or type(error).__name__
  return InputError(
    f'{path}: is not a readable NIfTI ({first[:200]}); it may be cut short, so '
    'copy or convert it again.'
  )
