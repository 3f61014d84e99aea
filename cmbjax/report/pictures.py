"""A scan to small pictures for a page: crops, projections, outlines.

Rule: every picture is in mm with the patient's right on the left (axial,
coronal) or the front on the left (sagittal), up is up, and a pixel is a
voxel unless the name says otherwise.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image


class Plane(NamedTuple):
  """A viewing plane; all array axes are shown reversed (RAS, radiological)."""

  name: str
  normal: int  # axis through the plane
  right: int  # axis along the rows of the picture
  up: int  # axis along its columns


AXIAL = Plane('axial', 2, 0, 1)
CORONAL = Plane('coronal', 1, 0, 2)
SAGITTAL = Plane('sagittal', 0, 1, 2)
PLANES = (AXIAL, CORONAL, SAGITTAL)
_ROWS = 32  # of a scan that are looked through at once
_MOST_SLABS = 20  # projections of a scan; their thickness follows


class Picture(NamedTuple):
  """Grey levels and where they are.

  Attributes:
    grey: [V, U] uint8, upper left pixel first.
    left, top: mm of the upper left corner; x grows to the viewer's right and
      y downwards, as in SVG.
    width, height: mm.
  """

  grey: np.ndarray
  left: float
  top: float
  width: float
  height: float

  @property
  def base64(self) -> str:
    """As a PNG file in letters."""
    return base64.b64encode(png(self.grey)).decode()


def png(grey: np.ndarray) -> bytes:
  """[V, U] uint8 to an 8-bit grey PNG file."""
  buffer = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(grey, np.uint8)).save(buffer, 'PNG')
  return buffer.getvalue()


def to_grey(image: np.ndarray, *, levels: int = 256) -> np.ndarray:
  """0..1 to uint8; fewer levels make smaller files. What is not finite is 0."""
  # Scans hold such numbers outside the head, and a page must not fail on them.
  image = np.clip(np.nan_to_num(image, nan=0, posinf=1, neginf=0), 0, 1)
  if levels == 256:
    return np.round(255 * image).astype(np.uint8)
  step = 255 / (levels - 1)
  return np.round(np.round(image * (levels - 1)) * step).astype(np.uint8)


def shown(plane_image: np.ndarray) -> np.ndarray:
  """[U, V] in array order to [V, U] as it is shown."""
  # RAS counts to the patient's right, front and top; a picture counts from the
  # upper left, which is the patient's right, as radiologists look at it.
  return plane_image[::-1, ::-1].T


def crop(
  image: np.ndarray,
  centre: Sequence[int],
  spacing_mm: Sequence[float],
  plane: Plane,
  *,
  field_mm: float,
  slab_mm: float = 0.0,
) -> Picture:
  """Native voxels round a lesion; the middle of its voxel is (0, 0).

  Args:
    image: [X, Y, Z] 0..1.
    centre: voxel.
    spacing_mm: voxel sizes.
    plane: what is seen.
    field_mm: at least so much is shown; the volume's edge may cut it.
    slab_mm: minimum over so thick a slab; 0 is one slice.
  """
  part, box = _window(
    image, centre, spacing_mm, plane, field_mm=field_mm, slab_mm=slab_mm
  )
  return _placed(to_grey(shown(part.min(plane.normal))), box, spacing_mm, plane)


def slab_reach(slab_mm: float, side_mm: float) -> int:
  """Slices on each side, so that their number is odd and nearest to a slab's.

  The true thickness is `(2 * slab_reach + 1) * side_mm`.
  """
  return max(0, round((slab_mm / side_mm - 1) / 2))


def outline(
  labels: np.ndarray,
  centre: Sequence[int],
  spacing_mm: Sequence[float],
  plane: Plane,
  *,
  field_mm: float,
  index: int,
) -> tuple[str, str]:
  """Border of lesion `index`, and of all others, as SVG path data.

  The path runs along voxel sides, in the frame of `crop`.

  Args:
    labels: [X, Y, Z] int, 0 outside all lesions.
    centre: voxel.
    spacing_mm: voxel sizes.
    plane: what is seen.
    field_mm: as of `crop`.
    index: label of the lesion; 0 for none.

  Returns:
    Path of the lesion and path of all others, '' for nothing.
  """
  part, box = _window(labels, centre, spacing_mm, plane, field_mm=field_mm)
  part = shown(part.min(plane.normal))
  if not part.any():
    return '', ''
  frame = _placed(part, box, spacing_mm, plane)
  own = border(part == index, frame) if index else ''
  return own, border((part != index) & (part != 0), frame)


def border(inside: np.ndarray, frame: Picture) -> str:
  """Sides between `inside` [V, U] and the rest as SVG path data in mm."""
  if not inside.any():
    return ''
  height = frame.height / inside.shape[0]
  width = frame.width / inside.shape[1]
  padded = np.pad(inside, 1)  # a lesion may reach the edge of the crop
  parts = []
  for row, start, end in _runs(padded[1:, 1:-1] != padded[:-1, 1:-1]):
    x, y = frame.left + start * width, frame.top + row * height
    parts.append(f'M{x:.2f} {y:.2f}h{(end - start) * width:.2f}')
  for row, start, end in _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T):
    x, y = frame.left + row * width, frame.top + start * height
    parts.append(f'M{x:.2f} {y:.2f}v{(end - start) * height:.2f}')
  return ''.join(parts)


def _runs(sides: np.ndarray) -> Iterator[tuple[int, int, int]]:
  """Row, start and end of every run of True along the last axis."""
  steps = np.diff(np.pad(sides, ((0, 0), (1, 1))).astype(np.int8), axis=1)
  starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
  for (row, start), (_, end) in zip(starts, ends):
    yield int(row), int(start), int(end)


def _window(
  array: np.ndarray,
  centre: Sequence[int],
  spacing_mm: Sequence[float],
  plane: Plane,
  *,
  field_mm: float,
  slab_mm: float = 0.0,
) -> tuple[np.ndarray, list[int]]:
  """The part of `array` that is shown; per axis first voxel - centre."""
  parts, firsts = [], []
  for axis in range(3):
    if axis == plane.normal:
      reach = slab_reach(slab_mm, spacing_mm[axis])
    else:
      # As many voxels on both sides, so that the lesion is in the middle.
      reach = int(np.ceil((field_mm / spacing_mm[axis] - 1) / 2))
    # A centre of mass may round to a voxel beyond the edge.
    middle = min(max(int(centre[axis]), 0), array.shape[axis] - 1)
    first = max(middle - reach, 0)
    parts.append(slice(first, min(middle + reach + 1, array.shape[axis])))
    firsts.append(first - middle)
  return array[tuple(parts)], firsts


def _placed(grey, firsts, spacing_mm, plane) -> Picture:
  """Reversed axes: the last voxel is the first column and row."""
  sizes = grey.shape[::-1]
  sides = [spacing_mm[plane.right], spacing_mm[plane.up]]
  first = [firsts[plane.right], firsts[plane.up]]
  corner = [-(first[i] + sizes[i] - 0.5) * sides[i] for i in (0, 1)]
  extent = [sizes[i] * sides[i] for i in (0, 1)]
  return Picture(grey, corner[0], corner[1], extent[0], extent[1])


class BrainBox(NamedTuple):
  """The box round the brain, in which projections and slices are shown.

  Attributes:
    box: three slices of the array.
    spacing_mm: voxel sizes.
  """

  box: tuple[slice, slice, slice]
  spacing_mm: tuple[float, float, float]

  def size(self, plane: Plane) -> tuple[float, float]:
    """Width and height in mm."""
    return tuple(
      (self.box[axis].stop - self.box[axis].start) * self.spacing_mm[axis]
      for axis in (plane.right, plane.up)
    )

  def place(self, voxel: Sequence[float], plane: Plane) -> tuple[float, float]:
    """Where a voxel's middle is in the picture, mm from its upper left."""
    return tuple(
      (self.box[axis].stop - 0.5 - voxel[axis]) * self.spacing_mm[axis]
      for axis in (plane.right, plane.up)
    )


def frame(
  mask: np.ndarray, spacing_mm: Sequence[float], *, margin_mm: float = 4.0
) -> BrainBox:
  """Bounding box of the brain and a margin; the whole grid when empty.

  Args:
    mask: [X, Y, Z] bool.
    spacing_mm: voxel sizes.
    margin_mm: round the brain, as far as the grid goes.
  """
  box = []
  for axis in range(3):
    others = tuple(other for other in range(3) if other != axis)
    found = np.flatnonzero(mask.any(others))
    more = round(margin_mm / spacing_mm[axis])
    if not found.size:
      box.append(slice(0, mask.shape[axis]))
      continue
    stop = min(int(found[-1]) + more + 1, mask.shape[axis])
    box.append(slice(max(int(found[0]) - more, 0), stop))
  return BrainBox(tuple(box), tuple(float(side) for side in spacing_mm))


def glass(
  image: np.ndarray, mask: np.ndarray, around: BrainBox, plane: Plane
) -> Picture:
  """Mean through the brain, stretched to its range, on pixels of about 1 mm.

  Fades where little brain is behind a pixel.

  Args:
    image: [X, Y, Z] 0..1.
    mask: [X, Y, Z] bool.
    around: what is shown.
    plane: from where.
  """
  along = 1 if plane.normal == 0 else 0  # in parts: a scan may be large
  parts = []
  for rows in range(around.box[along].start, around.box[along].stop, _ROWS):
    box = list(around.box)
    box[along] = slice(rows, min(rows + _ROWS, around.box[along].stop))
    inside = mask[tuple(box)]
    brain = np.where(inside, image[tuple(box)], 0)
    parts.append([a.sum(plane.normal, dtype=float) for a in (brain, inside)])
  brain, depth = (
    _blocks(np.concatenate(part), around, plane) for part in zip(*parts)
  )
  mean = brain / np.maximum(depth, 1e-6)
  if depth.any():
    # Thin edges of the brain are left aside, as their means are noise, and
    # so are the ends of the rest; white is kept for the markers.
    low, high = np.percentile(mean[depth > 0.3 * depth.max()], (1, 99.5))
    mean = 0.12 + 0.78 * (mean - low) / max(high - low, 1e-6)
  fade = np.clip(depth / max(0.25 * depth.max(), 1e-6), 0, 1)
  # Fewer grey levels make a smaller file.
  return _whole(np.clip(mean, 0, 1) * fade, around, plane, levels=64)


def slabs(
  image: np.ndarray, around: BrainBox
) -> list[tuple[int, int, Picture]]:
  """Axial minimum projections that together show every slice once.

  Args:
    image: [X, Y, Z] 0..1.
    around: what is shown.

  Returns:
    First slice, last slice + 1 and picture (about 1 mm pixels), from above
    downwards as the patient would be scrolled.
  """
  low, high = around.box[2].start, around.box[2].stop
  thick = -(-(high - low) // _MOST_SLABS)  # rounded up
  made = []
  for first in range(low, high, thick):
    stop = min(first + thick, high)
    part = image[(*around.box[:2], slice(first, stop))].min(2)
    part = _blocks(part, around, AXIAL)
    picture = _whole(part, around, AXIAL, levels=48)
    made.append((first, stop, picture))
  return made[::-1]  # from the vertex down, as scans are read


def _block(around: BrainBox, plane: Plane) -> list[int]:
  """Voxels of a pixel of about 1 mm, along both axes of the plane."""
  sides = (around.spacing_mm[axis] for axis in (plane.right, plane.up))
  return [max(1, round(1.0 / side)) for side in sides]


def _blocks(image: np.ndarray, around: BrainBox, plane: Plane) -> np.ndarray:
  """Means over pixels of about 1 mm; the last one may hold fewer voxels."""
  for axis, size in enumerate(_block(around, plane)):
    starts = np.arange(0, image.shape[axis], size)
    counts = np.diff(np.append(starts, image.shape[axis]))
    counts = counts[:, None] if axis == 0 else counts[None]
    image = np.add.reduceat(image.astype(float), starts, axis) / counts
  return image


def _whole(image, around: BrainBox, plane: Plane, *, levels: int) -> Picture:
  """Blocks as a picture; what the last one lacks is beyond left and top."""
  sides = [around.spacing_mm[axis] for axis in (plane.right, plane.up)]
  extent = [
    count * size * side
    for count, size, side in zip(image.shape, _block(around, plane), sides)
  ]
  corner = [a - b for a, b in zip(around.size(plane), extent)]
  grey = to_grey(shown(image), levels=levels)
  return Picture(grey, corner[0], corner[1], extent[0], extent[1])
