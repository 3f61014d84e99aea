"""What a person says about a scan, from its files to its lesions.

Rule: a truth is on the very grid of its scan, or it is refused. A scan without
a truth file is not a scan without lesions.
"""

from typing import NamedTuple

import numpy as np

from cmbjax import delimited, files
from cmbjax.data import lesion_labels, point_rows, point_table
from cmbjax.errors import InputError, shown
from cmbjax.imaging import volume
from cmbjax.intake.truth_files import TruthFiles, json_beside, table_beside


class Truth(NamedTuple):
  """The lesions of one scan, in the voxel order of its loaded scan."""

  kind: str  # as TruthFiles.kind; 'mask' has become 'labels'
  lesions: np.ndarray  # [L] int32, ascending, from 1: what `labels` holds
  diameter_mm: np.ndarray  # [L] float32 of the equivalent sphere; NaN unknown
  labels: np.ndarray | None  # int32 [X, Y, Z], 0 = none; None for points
  points_mm: np.ndarray | None  # [L, 3] world mm, for points only
  rejected: np.ndarray | None  # int32 [X, Y, Z] components, 'candidates' only
  region: tuple[str, ...] = ()  # L names, '' unknown; () when none is known
  counted_by: str = 'point'  # or lesion_labels.VALUE or COMPONENT
  said: tuple[str, ...] = ()  # how they are counted, for people

  def region_of(self, lesion: int) -> str:
    """Where a lesion is, as its table says; '' where not known."""
    at = int(np.searchsorted(self.lesions, lesion))
    return self.region[at] if self.region else ''

  def centres_mm(self, affine: np.ndarray) -> np.ndarray:
    """Centre of each lesion, [L, 3] world mm."""
    if self.points_mm is not None:
      return np.asarray(self.points_mm, float).reshape(-1, 3)
    index = centres(self.labels)[self.lesions]
    return index @ affine[:3, :3].T + affine[:3, 3]


def load_truth(truth: TruthFiles, scan: volume.Volume) -> Truth:
  """Reads the truth of a scan and checks it against the scan's grid.

  Raises:
    InputError: another shape or affine, values without a meaning (see
      `lesion_labels.read`), columns that are missing, points that lie outside.
  """
  if truth.kind == 'points':
    return _load_points(truth.path, scan)
  found = lesion_labels.read(truth.path, scan)
  kind, rejected = 'labels', None
  if truth.kind == 'candidates':
    other = lesion_labels.read(truth.rejected, scan)
    _check_apart(truth, found.labels, other.labels)
    kind, rejected = truth.kind, numbered(other)
  lesions, labels = found.numbers, found.labels
  diameter_mm, region = _diameters(labels, lesions, scan.spacing_mm), ()
  if found.listed:
    diameter_mm, region = _noted(truth.path, lesions, diameter_mm)
  if kind == 'candidates':
    labels = numbered(found)
    lesions = np.arange(1, len(lesions) + 1, dtype=np.int32)
  return Truth(
    kind, lesions, diameter_mm, labels, None, rejected, region,
    found.counted_by, found.said,
  )  # fmt: skip


def centres(labels: np.ndarray) -> np.ndarray:
  """Mean voxel index of each label 0, 1, ..., [largest + 1, 3]."""
  number, place = labels[labels > 0], np.argwhere(labels > 0)
  size = np.maximum(np.bincount(number, minlength=1), 1)  # gaps: not 0 / 0
  total = [np.bincount(number, along, len(size)) for along in place.T]
  return np.stack(total, 1) / size[:, None]


def numbered(found: lesion_labels.CountedLesions) -> np.ndarray:
  """Labels 1..n, whatever numbers their table uses."""
  place = np.searchsorted(found.numbers, found.labels) + 1
  return np.where(found.labels > 0, place, 0).astype(np.int32)


def _load_points(path, scan):
  table = delimited.read(path)
  axes = next((a for a in ('xyz', 'ijk') if {*a} <= {*table.header}), None)
  if axes is None:
    raise InputError(
      f'{path}: has the columns {shown(", ".join(table.header)) or "(none)"}; '
      'give x y z (mm, RAS world) or i j k (voxels of the file), separated by '
      'tabs.'
    )
  columns = [table.column(name) for name in axes]
  points = [point_table.numbers(table, row, columns) for row in table.rows]
  point_rows.check(table, list(zip(table.rows, points)))
  points = np.array(points, float).reshape(-1, 3)
  if axes == 'ijk':
    points = points - _index_base(path)
    affine = scan.native.affine
    points = points @ affine[:3, :3].T + affine[:3, 3]
  index = np.rint(scan.to_index(points))
  outside = ((index < 0) | (index >= scan.array.shape[:3])).any(1)
  if outside.any():
    first = int(np.flatnonzero(outside)[0])
    where = ' '.join(f'{value:g}' for value in points[first])
    raise InputError(
      f'{path}: row {table.rows[first].number} is at {where} mm, outside of '
      f'its scan {scan.path}; check units, order and sign of the columns.'
    )
  lesions = np.arange(1, len(points) + 1, dtype=np.int32)
  rows = table.dicts()
  diameter = [_size(row, table) for row in rows]
  region = tuple(row.get('region', '') for row in rows)
  return Truth(
    'points', lesions, np.array(diameter, np.float32), None, points, None,
    region if any(region) else (), said=('each row is one lesion',),
  )  # fmt: skip


def _index_base(path):
  """i j k count from 0, unless the JSON beside says "IndexBase": 1."""
  beside = json_beside(path)
  base = files.read_object(beside).get('IndexBase', 0) if beside else 0
  if base not in (0, 1):
    raise InputError(f'{beside}: IndexBase is {base!r}, allowed are 0 and 1.')
  return base


def _diameters(labels, lesions, spacing_mm):
  counts = np.bincount(labels[labels > 0], minlength=labels.max() + 1)
  volume_mm3 = counts[lesions] * float(np.prod(spacing_mm))
  return np.cbrt(6 / np.pi * volume_mm3).astype(np.float32)


def _noted(path, lesions, diameter_mm):
  """Sizes and regions: the table beside a label image knows better."""
  beside = table_beside(path)
  if beside is None:
    return diameter_mm, ()
  table = delimited.read(beside)
  size, region = {}, {}
  for row in table.dicts():
    try:
      index = int(row.get('index', ''))
    except ValueError:  # 'n/a'
      continue
    size[index] = _size(row, table)
    region[index] = row.get('region', '')
  noted = np.array([size.get(int(n), np.nan) for n in lesions], np.float32)
  names = tuple(region.get(int(n), '') for n in lesions)
  diameter_mm = np.where(np.isnan(noted), diameter_mm, noted)
  return diameter_mm.astype(np.float32), names if any(names) else ()


def _size(row, table):
  """diameter_mm of a row; NaN: measured from the voxels, or not known."""
  text = row.get('diameter_mm', '')
  try:
    return delimited.number(text, decimal_comma=table.decimal_comma)
  except ValueError:
    return np.nan


def _check_apart(truth, accepted, rejected):
  both = int(((accepted > 0) & (rejected > 0)).sum())
  if both:
    raise InputError(
      f'{truth.path}: {both} voxels are also in {truth.rejected.name}; a '
      'candidate is either accepted or rejected, so correct one of the masks.'
    )
