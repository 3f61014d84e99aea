"""Voxels of a file to what a browser shows, and back, exactly.

Rule: the page counts voxels in nearest canonical RAS order, x fastest; only
this module knows how the file counts them.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from nibabel import orientations

from cmbjax.errors import InputError
from cmbjax.imaging.nifti import open_image
from cmbjax.imaging.volume import Volume

_LOW, _HIGH = -32768, 32767  # of int16: half the bytes of float32 to send


class Int16(NamedTuple):
  """An image for the page; stored * slope + intercept = intensity.

  Attributes:
    stored: [X, Y, Z] little-endian int16, Fortran order (x fastest).
    slope: above 0.
    intercept: in units of the image.
  """

  stored: np.ndarray
  slope: float
  intercept: float


@dataclasses.dataclass(frozen=True)
class View:
  """The grid of a case: as shown (RAS order) and as in the file.

  Attributes:
    shape: (X, Y, Z) of the RAS-ordered array.
    affine: [4, 4] RAS-ordered voxel index to world mm.
    native_shape: of the file.
    native_affine: [4, 4] index in the file to world mm.
    forms: 'qform' and 'sform' of the file, each with 'code' and 'affine'.
  """

  shape: tuple[int, int, int]
  affine: np.ndarray
  native_shape: tuple[int, int, int]
  native_affine: np.ndarray
  forms: Mapping[str, Any]

  @classmethod
  def of(cls, volume: Volume) -> 'View':
    """The view of a loaded image; its header forms come from its file."""
    native = np.asarray(volume.native.affine, float)
    forms = {name: {'code': 1, 'affine': native} for name in _FORMS}
    if volume.path is not None:
      header = open_image(volume.path).header
      forms = {name: _form(header, name, native) for name in _FORMS}
    shape = tuple(int(n) for n in volume.array.shape[:3])
    native_shape = tuple(int(n) for n in volume.native.shape)
    affine = np.asarray(volume.affine, float)
    return cls(shape, affine, native_shape, native, forms)

  @classmethod
  def from_json(cls, grid: Mapping[str, Any]) -> 'View':
    """The view from the `grid` of a journal's first line."""
    return cls(
      shape=tuple(int(n) for n in grid['shape']),
      affine=np.asarray(grid['affine'], float),
      native_shape=tuple(int(n) for n in grid['native_shape']),
      native_affine=np.asarray(grid['native_affine'], float),
      forms={
        name: {
          'code': int(grid['forms'][name]['code']),
          'affine': np.asarray(grid['forms'][name]['affine'], float),
        }
        for name in _FORMS
      },
    )

  def to_json(self) -> dict[str, Any]:
    """The same as JSON; `from_json` gives it back exactly."""
    forms = {
      name: {'code': form['code'], 'affine': form['affine'].tolist()}
      for name, form in self.forms.items()
    }
    return {
      'shape': list(self.shape),
      'affine': self.affine.tolist(),
      'native_shape': list(self.native_shape),
      'native_affine': self.native_affine.tolist(),
      'forms': forms,
    }

  @property
  def size(self) -> int:
    """Number of voxels; linear indices are below it."""
    return int(np.prod(self.shape, dtype=np.int64))

  @property
  def spacing_mm(self) -> tuple[float, float, float]:
    """Voxel sizes along x, y, z as shown."""
    sides = np.sqrt((self.affine[:3, :3] ** 2).sum(0))
    return tuple(float(round(side, 6)) for side in sides)

  @property
  def voxel_mm3(self) -> float:
    """Volume of one voxel."""
    return float(abs(np.linalg.det(self.affine[:3, :3])))

  @property
  def oblique_deg(self) -> float:
    """Largest angle between an axis as shown and its world axis."""
    return oblique_deg(self.affine)

  @property
  def slab_axis(self) -> int:
    """The slice axis: the one of the thickest voxels; z where all are alike."""
    sides = np.asarray(self.spacing_mm)
    # A header rounds its spacings: a thousandth is no other thickness.
    return 2 if sides.max() <= sides[2] * 1.001 else int(sides.argmax())

  def index_of(self, ijk: np.ndarray) -> np.ndarray:
    """Voxel [..., 3] as shown to linear index [...], x fastest."""
    ijk = np.asarray(ijk, np.int64)
    x, y, _ = self.shape
    return ijk[..., 0] + x * (ijk[..., 1] + y * ijk[..., 2])

  def ijk_of(self, index: np.ndarray) -> np.ndarray:
    """Linear index [...] to voxel [..., 3] as shown."""
    index = np.asarray(index, np.int64)
    x, y, _ = self.shape
    rest, i = np.divmod(index, x)
    k, j = np.divmod(rest, y)
    return np.stack([i, j, k], -1)

  def to_native(self, ijk: np.ndarray) -> np.ndarray:
    """Voxel [..., 3] as shown to voxel [..., 3] of the file; integers only."""
    ijk = np.asarray(ijk, np.int64)
    native = np.empty_like(ijk)
    for axis, (shown, sign) in enumerate(self._orientation()):
      value = ijk[..., shown]
      last = self.native_shape[axis] - 1
      native[..., axis] = value if sign > 0 else last - value
    return native

  def to_world(self, ijk: np.ndarray) -> np.ndarray:
    """Voxel [..., 3] as shown to RAS world mm [..., 3]."""
    return np.asarray(ijk) @ self.affine[:3, :3].T + self.affine[:3, 3]

  def to_ijk(self, world_mm: np.ndarray) -> np.ndarray:
    """RAS world mm [..., 3] to the nearest voxel [..., 3] as shown."""
    inverse = np.linalg.inv(self.affine)
    place = np.asarray(world_mm) @ inverse[:3, :3].T + inverse[:3, 3]
    return np.rint(place).astype(np.int64)

  def contains(self, ijk: np.ndarray) -> np.ndarray:
    """[...] bool: whether voxels [..., 3] are in the image."""
    ijk = np.asarray(ijk)
    return ((ijk >= 0) & (ijk < self.shape)).all(-1)

  def same(self, other: 'View', *, atol_mm: float = 1e-3) -> bool:
    """Whether both count the same voxels at the same places."""
    return (
      self.shape == other.shape
      and self.native_shape == other.native_shape
      and np.allclose(self.affine, other.affine, rtol=0, atol=atol_mm)
      and np.allclose(
        self.native_affine, other.native_affine, rtol=0, atol=atol_mm
      )
    )

  def _orientation(self) -> list[tuple[int, int]]:
    """Per axis of the file: the axis as shown, and +1 or -1."""
    # Not of the affine alone: near 45 degrees that has two answers.
    change = orientations.io_orientation(
      np.linalg.inv(self.affine) @ self.native_affine
    )
    return [(int(axis), int(sign)) for axis, sign in change]


def to_int16(array: np.ndarray) -> Int16:
  """An image as int16, exact where the values allow it.

  Whole numbers that span at most 65,535 keep their value (slope 1); all else
  is rounded to 65,534 steps from the lowest to the highest finite value.
  What is not finite becomes the lowest.

  Args:
    array: [X, Y, Z], any real type and byte order.
  """
  array = np.asarray(array)
  low, high = _range(array)
  if _whole(array) and high - low <= _HIGH - _LOW:
    fits = low >= _LOW and high <= _HIGH
    if fits:
      return Int16(_fortran(array), 1.0, 0.0)
    above = array - np.asarray(low, array.dtype)  # exact, 0 to 65535
    return Int16(
      _fortran(above.astype(np.int32) + _LOW), 1.0, float(low - _LOW)
    )
  if high == low:
    return Int16(_fortran(np.zeros(array.shape, np.int16)), 1.0, float(low))
  slope = float(high / 2 - low / 2) / _HIGH
  middle = float(low / 2 + high / 2)
  stored = np.empty(array.shape, '<i2', order='F')
  for z in range(array.shape[2]):  # by slices: no copy of all as float64
    part = array[..., z].astype(np.float64)
    part = np.where(np.isfinite(part), part, low)
    steps = np.rint((part - middle) / slope)
    stored[..., z] = np.clip(steps, -_HIGH, _HIGH)
  return Int16(stored, slope, middle)


def window(array: np.ndarray) -> tuple[float, float]:
  """Where to begin to show grey values: the limits of 99 % of the head.

  Zero (or the 0.5th percentile where there are negative values, as in a
  phase image) to the 99.5th percentile of what is not zero.
  """
  array = np.asarray(array)
  # Percentiles of two million voxels are as good, and take milliseconds.
  step = max(1, round((array.size / 2e6) ** (1 / 3)))
  part = array[::step, ::step, ::step].astype(np.float64)
  part = part[np.isfinite(part) & (part != 0)]
  if not part.size:
    return 0.0, 1.0
  low, high = np.percentile(part, [0.5, 99.5])
  low = 0.0 if part.min() >= 0 else float(low)
  return (low, float(high)) if high > low else (low, low + 1.0)


def oblique_deg(affine: np.ndarray) -> float:
  """Largest angle in degrees between a voxel axis and its world axis."""
  matrix = np.asarray(affine, float)[:3, :3]
  cosines = np.abs(matrix) / np.sqrt((matrix**2).sum(0))
  best = np.clip(cosines.max(0), 0, 1)
  angle = float(np.degrees(np.arccos(best.min())))
  return round(angle, 2) + 0.0


def distinct(indices: np.ndarray) -> np.ndarray:
  """Sorted int64 without repetition; quicker than np.unique, which hashes."""
  ordered = np.sort(np.asarray(indices, np.int64))
  return ordered[np.diff(ordered, prepend=-1) != 0]


def joined(voxels: np.ndarray, more: np.ndarray) -> np.ndarray:
  """Two sorted lists without a common voxel, as one."""
  return np.insert(voxels, np.searchsorted(voxels, more), more)


def without(voxels: np.ndarray, less: np.ndarray) -> np.ndarray:
  """A sorted list without some of its own voxels."""
  return np.delete(voxels, np.searchsorted(voxels, less))


def digest(voxels: np.ndarray) -> str:
  """16 hex digits of SHA-256 over sorted little-endian int64 indices."""
  return hashlib.sha256(voxels.astype('<i8').tobytes()).hexdigest()[:16]


def encode_runs(indices: np.ndarray) -> list[list[int]]:
  """Sorted, distinct indices as [start, length] runs."""
  indices = np.asarray(indices, np.int64)
  if not indices.size:
    return []
  breaks = np.flatnonzero(np.diff(indices) != 1) + 1
  starts = np.concatenate([[0], breaks])
  lengths = np.diff(np.concatenate([starts, [indices.size]]))
  return np.stack([indices[starts], lengths], 1).tolist()


def decode_runs(runs: Iterable[Sequence[int]], size: int) -> np.ndarray:
  """[start, length] runs to sorted, distinct int64 indices below `size`.

  Raises:
    InputError: not runs, not in order, or out of range.
  """
  runs = list(runs)
  if not runs:
    return np.zeros(0, np.int64)
  try:
    table = np.asarray(runs)
  except ValueError as error:
    raise InputError('runs of voxels: not pairs of whole numbers.') from error
  if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind != 'i':
    raise InputError('runs of voxels: not pairs of whole numbers.')
  starts, lengths = table.astype(np.int64).T
  # Each alone first, as a sum of huge numbers might wrap around.
  good = (starts >= 0) & (starts < size) & (lengths >= 1) & (lengths <= size)
  ends = starts + lengths
  if not good.all() or (starts[1:] < ends[:-1]).any() or ends[-1] > size:
    raise InputError(f'runs of voxels: not in order within 0..{size - 1}.')
  offset = np.repeat(
    starts - np.concatenate([[0], lengths.cumsum()[:-1]]), lengths
  )
  return offset + np.arange(lengths.sum())


_FORMS = ('qform', 'sform')


def _form(header, name: str, native: np.ndarray) -> dict[str, Any]:
  """One form of a NIfTI header, with its code, also where that is 0."""
  getter = getattr(header, f'get_{name}', None)
  if getter is None:
    return {'code': 1, 'affine': native}
  matrix, code = getter(coded=True)
  return {
    'code': int(code),
    'affine': native if matrix is None else np.asarray(matrix, float),
  }


def _range(array: np.ndarray) -> tuple[Any, Any]:
  """Lowest and highest finite value as Python numbers; 0, 0 without any."""
  if not array.size:
    return 0, 0
  low, high = array.min(), array.max()
  if not (np.isfinite(low) and np.isfinite(high)):
    finite = array[np.isfinite(array)]
    if not finite.size:
      return 0, 0
    low, high = finite.min(), finite.max()
  return low.item(), high.item()


def _whole(array: np.ndarray) -> bool:
  """Whether all values are whole numbers; a look at some says mostly no."""
  if array.dtype.kind in 'iub':
    return True
  some = array[::7, ::7, ::7]
  return all(
    bool(np.isfinite(part).all() and (np.rint(part) == part).all())
    for part in (some, array)
  )


def _fortran(array: np.ndarray) -> np.ndarray:
  return np.asarray(array, '<i2', order='F')
