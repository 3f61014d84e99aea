"""NIfTI files to arrays in canonical RAS voxel order, and back.

Rule: files are read to RAS-ordered voxels with the affine kept (`slices` has
them with the slice axis last); what is written is on the source file's own
grid and orientation, with both of its affines.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import nibabel as nib
import numpy as np
from nibabel import orientations

from cmbjax.errors import InputError
from cmbjax.imaging import nifti

_FORMS = (  # whatever of a header says where voxels are
  'qform_code',
  'sform_code',
  *(f'quatern_{axis}' for axis in 'bcd'),
  *(f'qoffset_{axis}' for axis in 'xyz'),
  *(f'srow_{axis}' for axis in 'xyz'),
)


@dataclasses.dataclass(frozen=True)
class Grid:
  """The grid of a file: native voxel order, affine, and how to get there."""

  shape: tuple[int, int, int]
  affine: np.ndarray  # [4, 4] native voxel index to world mm
  forms: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  """Fields of a NIfTI header that hold qform and sform; {} of other files."""

  @property
  def spacing_mm(self) -> tuple[float, float, float]:
    """Voxel sizes along the native axes."""
    return _spacing(self.affine)


@dataclasses.dataclass(frozen=True)
class Volume:
  """One scan (or several echoes of it) in nearest canonical RAS voxel order.

  Attributes:
    array: [X, Y, Z] or [X, Y, Z, E]; the dtype of the file after scaling.
    affine: [4, 4], RAS-ordered voxel index to world mm.
    native: the grid of the file that it came from.
    path: the file, for messages; None when made in memory.
    placed: False where the file does not say how its voxels lie in the head.
    notes: what was repaired on reading, in words.
    unknown: bool, like `array`: NaN in the file, 0 here; None: nowhere.
  """

  array: np.ndarray
  affine: np.ndarray
  native: Grid
  path: pathlib.Path | None = None
  placed: bool = True
  notes: tuple[str, ...] = ()
  unknown: np.ndarray | None = None

  @property
  def spacing_mm(self) -> tuple[float, float, float]:
    """Voxel sizes along x, y, z (RAS-ordered axes)."""
    return _spacing(self.affine)

  def to_world(self, index: np.ndarray) -> np.ndarray:
    """RAS-ordered voxel index [..., 3] to world mm [..., 3]."""
    return np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]

  def to_index(self, world_mm: np.ndarray) -> np.ndarray:
    """World mm [..., 3] to RAS-ordered (fractional) voxel index [..., 3]."""
    inverse = np.linalg.inv(self.affine)
    return np.asarray(world_mm) @ inverse[:3, :3].T + inverse[:3, 3]

  def to_native_index(self, index: np.ndarray) -> np.ndarray:
    """RAS-ordered integer voxel index [..., 3] to the file's own index."""
    change = np.linalg.inv(self.native.affine) @ self.affine
    native = np.asarray(index) @ change[:3, :3].T + change[:3, 3]
    return np.rint(native).astype(int)


def from_array(array: np.ndarray, affine: np.ndarray) -> Volume:
  """A volume made in memory: reorders to RAS, keeps the given native grid."""
  affine = np.asarray(affine, float)
  native = Grid(tuple(int(n) for n in array.shape[:3]), affine)
  change = orientations.io_orientation(affine)
  reordered = orientations.apply_orientation(array, change)
  to_old = orientations.inv_ornt_aff(change, array.shape[:3])
  return Volume(reordered, affine @ to_old, native)


def load(
  path: str | os.PathLike,
  *,
  num_dims: int = 3,
  scaled: bool = True,
) -> Volume:
  """Reads one NIfTI file.

  Args:
    path: `.nii` or `.nii.gz`.
    num_dims: 3, or 4 when echoes may follow; trailing axes of length 1 go.
    scaled: apply the header's scale factor (a slope of 0 means 1).

  Returns:
    The volume; floats as float32, integers as they are. What is not finite
    becomes 0; `notes` says of infinite voxels, of fields of the header that
    meant nothing, and of bytes behind the voxels.

  Raises:
    NoInputError: the file does not exist.
    InputError: not a readable NIfTI, cut short, packed bytes that differ from
      their checksum, wrong number of axes, an affine that is singular, or no
      finite voxel.
  """
  path = pathlib.Path(path)
  image = nifti.open_image(path)
  array, notes = nifti.voxels(path, image, scaled=scaled)
  notes = (*nifti.remarks(path, image), *notes)
  while array.ndim > num_dims and array.shape[-1] == 1:
    array = array[..., 0]
  if not 3 <= array.ndim <= num_dims or min(array.shape) < 1:
    allowed = '3' if num_dims == 3 else f'3 to {num_dims}'
    raise InputError(
      f'{path}: has shape {tuple(map(int, array.shape))}, expected {allowed} '
      'axes; give one volume per file.'
    )
  if array.dtype.kind not in 'iufb':
    raise InputError(
      f'{path}: holds {array.dtype} voxels, expected real numbers.'
    )
  unknown = None
  if array.dtype.kind == 'f':
    array, unknown, infinite = _finite(array, path)
    notes += infinite
  affine = nifti.affine_of(path, image)
  volume = _placed(from_array(array, affine), image)
  if unknown is not None:
    unknown = from_array(unknown, affine).array
  codes = [
    int(image.header[name])
    for name in ('qform_code', 'sform_code')
    if name in image.header
  ]
  placed = any(codes) if codes else True  # other formats always say it
  return dataclasses.replace(
    volume, path=path, placed=placed, notes=notes, unknown=unknown
  )


def grid_of(path: str | os.PathLike) -> Volume:
  """The grid of one image from its header; the voxels are all zero.

  Raises:
    NoInputError, InputError: as `load`.
  """
  path = pathlib.Path(path)
  image = nifti.open_image(path)
  shape = tuple(map(int, image.shape))
  while len(shape) > 3 and shape[-1] == 1:
    shape = shape[:-1]
  if len(shape) != 3 or min(shape) < 1:
    raise InputError(
      f'{path}: is no single volume, its shape is {shape}; give a 3-D image.'
    )
  volume = _placed(
    from_array(_nothing(shape), nifti.affine_of(path, image)), image
  )
  return dataclasses.replace(volume, path=path)


def without_voxels(image: Volume) -> Volume:
  """The same grid; its voxels are all zero and take no memory."""
  return dataclasses.replace(image, array=_nothing(image.array.shape))


def _nothing(shape):
  return np.broadcast_to(np.zeros((), np.uint8), shape)


def save(path: str | os.PathLike, array: np.ndarray, like: Volume) -> None:
  """Writes an RAS-ordered array on the native grid of `like`.

  Args:
    path: `.nii` or `.nii.gz`; the bytes depend on the content only.
    array: [X, Y, Z] (or more axes) in the RAS order of `like.array`.
    like: the volume whose native grid, orientation and affine are kept.

  Raises:
    InputError: the shape differs from `like`, or the file cannot be written.
  """
  array = np.asarray(array)
  if array.shape[:3] != like.array.shape[:3]:
    raise InputError(
      f'{path}: array {array.shape[:3]} is not on the grid '
      f'{like.array.shape[:3]} it should be written on.'
    )
  if array.dtype == bool:
    array = array.astype(np.uint8)
  if array.dtype.kind in 'iu' and array.dtype.itemsize == 8:
    array = array.astype(np.int32)
  if array.dtype == np.float64:
    array = array.astype(np.float32)
  image = nib.Nifti1Image(to_native(array, like), like.native.affine)
  image.set_qform(like.native.affine, code=1)
  image.set_sform(like.native.affine, code=1)
  forms = dict(like.native.forms)
  if forms:  # a viewer may use either of the two
    image.header['pixdim'][:4] = forms.pop('pixdim')[:4]
  for name, value in forms.items():
    image.header[name] = value
  image.header.set_xyzt_units('mm')
  nifti.write_image(path, image)


def to_native(array: np.ndarray, like: Volume) -> np.ndarray:
  """An RAS-ordered array [X, Y, Z, ...] in the voxel order of the file."""
  change = orientations.io_orientation(
    np.linalg.inv(like.native.affine) @ like.affine
  )
  return orientations.apply_orientation(array, change)


def in_order(array: np.ndarray, image: Volume, like: Volume) -> np.ndarray:
  """An array in the voxel order of another volume on the same grid.

  Args:
    array: [X, Y, Z, ...] in the order of `image`.
    image: whose array is not looked at.
    like: the same grid in the order that is wanted.
  """
  return orientations.apply_orientation(array, _change(image, like))


def with_order_of(changed: Volume, like: Volume) -> Volume:
  """A volume of another RAS grid that is written in the voxel order of `like`.

  Args:
    changed: its array and affine are right, its native grid is not.
    like: the volume whose native axes (which, and which way) are kept.
  """
  change = orientations.io_orientation(
    np.linalg.inv(like.native.affine) @ like.affine
  )
  native = orientations.apply_orientation(changed.array, change)
  to_ras = orientations.inv_ornt_aff(change, changed.array.shape[:3])
  grid = Grid(tuple(map(int, native.shape[:3])), changed.affine @ to_ras)
  return dataclasses.replace(changed, native=grid)


def same_grid(first: Volume, second: Volume, *, atol_mm: float = 1e-2) -> bool:
  """Whether both have one shape and (nearly) one affine.

  Args:
    first: a volume.
    second: another one.
    atol_mm: largest difference of an entry of the affines.
  """
  return first.array.shape[:3] == second.array.shape[:3] and np.allclose(
    first.affine, second.affine, rtol=0, atol=atol_mm
  )


def check_grid(image: Volume, scan: Volume) -> None:
  """Refuses an image that is not on the scan's grid, in whatever order.

  Raises:
    InputError: says whether the shape or the affine differs, and how much.
  """
  image = _ordered(image, scan)
  if same_grid(image, scan):
    return
  ours, theirs = image.array.shape[:3], scan.array.shape[:3]
  if sorted(ours) != sorted(theirs):  # a turned grid has another order only
    found = f'has shape {_by(ours)}, but its scan {scan.path} has {_by(theirs)}'
  else:
    off = np.abs(image.affine - scan.affine).max()
    found = f'has another affine than its scan {scan.path} (by {off:.3g})'
  raise InputError(f'{image.path}: {found}; resample it to the scan.')


def _change(image, like):
  """The change of order [3, 2] from the voxels of one image to another's."""
  return orientations.io_orientation(np.linalg.inv(like.affine) @ image.affine)


def _ordered(image, like):
  """The image in the voxel order of `like`, as far as it has one there."""
  change = _change(image, like)
  if np.isnan(change).any():
    return image
  affine = image.affine @ orientations.inv_ornt_aff(
    change, image.array.shape[:3]
  )
  array = orientations.apply_orientation(image.array, change)
  return dataclasses.replace(image, array=array, affine=affine)


def _placed(volume: Volume, image) -> Volume:
  """The same with the fields of its header that say where voxels are."""
  header = image.header
  if not isinstance(header, nib.Nifti1Header):
    return volume
  forms = {name: np.array(header[name]) for name in ('pixdim', *_FORMS)}
  grid = dataclasses.replace(volume.native, forms=forms)
  return dataclasses.replace(volume, native=grid)


def _finite(
  array: np.ndarray, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
  """(single precision without NaN, where NaN was, what has to be said)."""
  with np.errstate(over='ignore'):
    array = array.astype(np.float32, copy=False)
  finite = np.isfinite(array)
  if finite.all():
    return array, None, ()
  if not finite.any():
    raise InputError(f'{path}: has no finite voxel; export it again.')
  infinite = int(np.isinf(array).sum())
  # NaN is how many programs mark what is outside of the brain.
  notes = () if not infinite else (
    f'{path.name}: {infinite:,} voxels are infinite and were taken for 0',
  )  # fmt: skip
  unknown = np.isnan(array)
  return (
    np.where(finite, array, np.float32(0)),
    unknown if unknown.any() else None,
    notes,
  )


def _spacing(affine: np.ndarray) -> tuple[float, float, float]:
  sizes = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(0))
  return tuple(float(round(s, 6)) for s in sizes)


def _by(shape):
  return 'x'.join(str(int(size)) for size in shape)
