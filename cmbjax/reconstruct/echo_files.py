"""Files of echoes to one echo at a time.

Rule: of several files one is in memory; who asks for another one reads it.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.imaging.phase import wrap

Fields = Mapping[str, Any]


class Files(Sequence):
  """Volumes of files, each read when it is asked for; the last one is kept."""

  def __init__(self, paths: Sequence[pathlib.Path], fields: Sequence[Fields]):
    """Reads all files once, so that a damaged one is found at once.

    Args:
      paths: of the images.
      fields: the JSON fields of each.
    """
    self.paths, self.fields = list(paths), list(fields)
    self._last: tuple[int, volume.Volume] | None = None
    self._change: Callable | None = None
    # By number: a name for one volume would keep it while the next is read.
    self.grids = [volume.without_voxels(self[n]) for n in range(len(paths))]

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, number: int) -> volume.Volume:
    if number not in range(len(self)):
      raise IndexError(number)
    if self._last is None or self._last[0] != number:
      self._last = None  # first, or two are in memory
      one = load(self.paths[number])
      if self._change:
        one = self._change(one, self.fields[number])
      self._last = number, one
    return self._last[1]

  def change(
    self, how: Callable[[volume.Volume, Fields], volume.Volume]
  ) -> None:
    """Applies a function to each volume, whenever it is read from now on."""
    self._change = how
    if self._last is not None:
      number, one = self._last
      self._last = None
      self._last = number, how(one, self.fields[number])


class EchoesOfFiles:
  """Echoes of magnitude and phase, or of real and imaginary parts."""

  def __init__(
    self, firsts: Files, seconds: Files, *, coils: bool, cartesian: bool
  ):
    """Checks that the files make echoes.

    Args:
      firsts: magnitudes, or real parts.
      seconds: phases in rad, or imaginary parts, on the same grid.
      coils: the fourth axis is coils, see `signal.read`.
      cartesian: real and imaginary parts.

    Raises:
      InputError: shapes that make no echoes.
    """
    self._parts, self._cartesian = (firsts, seconds), cartesian
    shape = _one_shape(firsts)
    self._in_one = len(firsts) == 1 and len(shape) > (4 if coils else 3)
    self._stacked = coils and len(firsts) > 1 and len(shape) == 3
    if coils and len(shape) == 5 and len(firsts) == 1:
      raise InputError(
        f'{firsts.paths[0]}: has 5 axes, so echoes and coils are known; leave '
        '--coils out.'
      )
    if len(firsts) > 1 and len(shape) > (4 if coils else 3):
      raise InputError(
        f'{firsts.paths[0]}: has shape {shape}; with several files each is one '
        'echo of 3 axes, or of 4 (coils last) with cmbjax swi --coils.'
      )
    count = shape[3] if self._in_one else 1 if self._stacked else len(firsts)
    self._order = list(range(count))
    self._is_straight = True
    self._grid = self._like = firsts.grids[0]
    self._coils = (len(firsts),) if self._stacked else shape[3 + self._in_one :]

  @property
  def shape(self) -> tuple[int, ...]:
    """X, Y, Z, E, C; see `weighting.Echoes`."""
    sides = self._like.array.shape[:3]
    return (*sides, len(self._order), *(self._coils or (1,)))

  @property
  def has_coils(self) -> bool:
    return bool(self._coils)

  def magnitude(self, number: int) -> np.ndarray:
    """[X, Y, Z, C] of one echo, whole numbers where the file has them."""
    if self._cartesian:
      return self._laid(np.hypot(*self._both(number)))
    return self._laid(self._of(0, number))

  def phase(self, number: int) -> np.ndarray:
    """[X, Y, Z, C] of one echo, float32 rad."""
    if self._cartesian:
      first, second = self._both(number)
      phase = np.arctan2(second, first)
    else:
      phase = np.asarray(self._of(1, number), np.float32)
    return self._laid(phase if self._is_straight else straighten(phase))

  def put(self, order: Sequence[int]) -> None:
    """From now on echoes are in this order."""
    self._order = [self._order[n] for n in order]

  def straightened(self) -> None:
    """From now on every second slice is turned, see `straighten`."""
    self._is_straight = False

  def lay(self, like: volume.Volume) -> None:
    """From now on voxels are in the order of another volume on the grid."""
    self._like = like

  def _both(self, number):
    return [np.asarray(self._of(n, number), np.float32) for n in (0, 1)]

  def _of(self, part, number):
    """[X, Y, Z] or [X, Y, Z, C], as the files have it."""
    images, number = self._parts[part], self._order[number]
    if self._stacked:
      return np.stack([one.array for one in images], 3)
    if self._in_one:
      return images[0].array[:, :, :, number]
    return images[number].array

  def _laid(self, array):
    if array.dtype.kind not in 'iuf':
      array = array.astype(np.float32)
    if self._like is not self._grid:
      array = volume.in_order(array, self._grid, self._like)
    return array if self._coils else array[..., None]


def straighten(phase: np.ndarray) -> np.ndarray:
  """Turns every second slice by pi and inverts the sign (GE; `fix_ge_phase`
  of MriResearchTools.jl)."""
  turned = np.array(phase, np.float32)
  turned[:, :, 1::2] += np.float32(np.pi)
  return -wrap(turned)


def _one_shape(images):
  shapes = {grid.array.shape for grid in images.grids}
  if len(shapes) > 1:
    raise InputError(
      f'{images.paths[0]} and others: have shapes '
      f'{", ".join(map(str, sorted(shapes)))}; give one shape for all echoes.'
    )
  return shapes.pop()


def load(path: pathlib.Path, *, scaled: bool = True) -> volume.Volume:
  """A file of up to 5 axes, without axes of length 1 at the end: one echo is
  one volume."""
  scan = volume.load(path, num_dims=5, scaled=scaled)
  array = scan.array
  while array.ndim > 3 and array.shape[-1] == 1:
    array = array[..., 0]
  return dataclasses.replace(scan, array=array)
