"""What a reader said to a label image and a table.

Rule: the image is on the grid of the file that was read, with its forms; a
rejected lesion has no voxel in it.
"""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np

from cmbjax import delimited, files
from cmbjax.imaging import nifti
from cmbjax.review.log.items import MODEL
from cmbjax.review.log.record import ReviewRecord

COLUMNS = (
  'index', 'name', 'x', 'y', 'z', 'i', 'j', 'k', 'origin', 'verdict',
  'certainty', 'mimic', 'rating', 'region', 'score', 'status', 'volume_mm3',
  'diameter_mm', 'voxels', 'in_mask', 'flags', 'seconds', 'comment',
)  # fmt: skip


def indices(record: ReviewRecord) -> dict[int, int]:
  """Item number to its index in image and table, for all but the repeats.

  Candidates keep the index that they have in the labels of the source; what
  has none there follows behind the highest of these.
  """
  listed = [
    item
    for _, item in sorted(record.items.items())
    if item.present and item.repeat_of is None
  ]
  known = {item.number: item.index for item in listed if item.index}
  rows = [*record.header['items'], *record.header.get('below', ())]
  highest = max((row['index'] for row in rows), default=0)
  others = [item.number for item in listed if not item.index]
  return known | {n: highest + m for m, n in enumerate(others, start=1)}


def native_labels(record: ReviewRecord) -> np.ndarray:
  """[I, J, K] in the voxel order of the file: accepted lesions.

  uint16, or int32 where the labels of the source are too high for that.
  """
  known = indices(record)
  wide = max(known.values(), default=0) > np.iinfo(np.uint16).max
  dtype = np.int32 if wide else np.uint16
  labels = np.zeros(record.view.native_shape, dtype)
  for number, index in known.items():
    if record.items[number].verdict == 'accept':
      ijk = record.view.ijk_of(record.voxels(number))
      labels[tuple(record.view.to_native(ijk).T)] = index
  return labels


def image(record: ReviewRecord) -> nib.Nifti1Image:
  """`native_labels` with affine, qform and sform of the file."""
  labels = native_labels(record)
  view = record.view
  header = nib.Nifti1Header()
  header.set_data_dtype(labels.dtype)
  header.set_data_shape(labels.shape)
  header.set_zooms(np.sqrt((view.native_affine[:3, :3] ** 2).sum(0)))
  header.set_xyzt_units('mm')
  header.set_qform(view.forms['qform']['affine'], view.forms['qform']['code'])
  header.set_sform(view.forms['sform']['affine'], view.forms['sform']['code'])
  # Its own affine, or nibabel would write other forms.
  return nib.Nifti1Image(labels, header.get_best_affine(), header)


def write(record: ReviewRecord, folder: pathlib.Path) -> list[pathlib.Path]:
  """<case>_rater-<rater>_dseg.nii.gz and .tsv; their paths.

  The image has the accepted lesions only, the table every item but the
  repeats, with what was said of it.

  Raises:
    InputError: they cannot be written.
  """
  name = f'{record.header["case"]}_rater-{record.header["rater"]}_dseg'
  paths = [pathlib.Path(folder) / f'{name}{end}' for end in ('.nii.gz', '.tsv')]
  nifti.write_image(paths[0], image(record))
  files.write_text(paths[1], table(record))
  return paths


def table(record: ReviewRecord) -> str:
  """A TSV with every item but the repeats, by index."""
  listed = sorted(indices(record).items(), key=lambda pair: pair[1])
  return tsv(COLUMNS, (_row(record, *pair) for pair in listed))


def _row(record: ReviewRecord, number: int, index: int) -> dict[str, Any]:
  item, size = record.items[number], record.size(number)
  voxels, view = record.voxels(number), record.view
  middle = view.ijk_of(voxels).mean(0) if voxels.size else item.ijk
  added = 'added' if item.origin != MODEL else 'candidate'
  cells = {
    'name': item.id or f'{added}-{number:03d}',
    **dict(zip('xyz', (float(v) for v in view.to_world(middle)))),
    **dict(zip('ijk', view.to_native(item.ijk).tolist())),
    **{name: value for name, value in item.state().items() if name in COLUMNS},
    'index': index,
    'volume_mm3': size.volume_mm3,
    'diameter_mm': size.diameter_mm,
    'voxels': int(voxels.size),
    'in_mask': str(item.verdict == 'accept' and bool(voxels.size)).lower(),
    'flags': ', '.join(item.flags(size)),
    'seconds': item.ms / 1000,
  }
  return {
    name: f'{value:.7g}' if isinstance(value, float) else value
    for name, value in cells.items()
  }


def tsv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
  """A BIDS table: tabs, 'n/a' for what is missing.

  Floats as `str` writes them; round them before.
  """
  lines = ['\t'.join(names)]
  for row in rows:
    cells = ['' if row.get(n) is None else str(row[n]) for n in names]
    # One line and no tab, whatever somebody wrote.
    plain = (re.sub('[\x00-\x1f\x7f-\x9f]', ' ', cell) for cell in cells)
    lines.append(
      delimited.line(' '.join(cell.split()) or 'n/a' for cell in plain)
    )
  return '\n'.join(lines) + '\n'
