"""Measured lesions to a DICOM segmentation that an archive can show.

Rule: a voxel goes to the pixel at its place in mm, never to one of its number.
The file belongs to the patient of its source images and names them, as DICOM
must; keep it with the images.
"""

import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import cmbjax
from cmbjax import doors, files
from cmbjax.detect.derivatives import ListedLesion, read_lesions
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import volume
from cmbjax.intake import dicom
from cmbjax.intake.scan_files import ScanFiles

if TYPE_CHECKING:
  import pydicom

MISSING = (
  'writing a DICOM segmentation needs more packages; install them with '
  "pip install 'cmbjax[dicom]'."
)

_OFF_VOXELS = 0.05  # a pixel centre this far from a voxel centre is elsewhere


class _Frame(NamedTuple):
  """A source image (its header), and the label of each pixel."""

  image: 'pydicom.Dataset'
  labels: np.ndarray  # [rows, columns]


def write_seg(
  labels: volume.Volume,
  lesions: Sequence[ListedLesion],
  source: Sequence[pathlib.Path],
  path: str | os.PathLike,
) -> pathlib.Path | None:
  """Writes one segment per lesion.

  Args:
    labels: [X, Y, Z] integers; values are indices of lesions, 0 is none.
    lesions: those with a segment, in the order of their numbers.
    source: the DICOM files that the scan was converted from, as
      `intake.dicom.source_files` gives them.
    path: the `.dcm` to write, whole or not at all.

  Returns:
    `path`; None when there is no lesion, because a segmentation without a
    segment is not valid DICOM.

  Raises:
    NoInputError: no image, or none on the grid of the labels; enhanced
      multi-frame images are not used.
    InputError: packages missing.
  """
  if not lesions:
    return None
  try:
    import highdicom  # noqa: F401
  except ImportError as error:
    raise InputError(f'{path}: {MISSING}') from error
  frames = _fitting(labels, source)
  if not frames:
    shape = 'x'.join(map(str, labels.array.shape))
    where = source[0].parent if source else 'source'
    raise NoInputError(
      f'{where}: no series of classic images (one file per slice) lies on the '
      f'grid of {labels.path or "the labels"} ({shape}); give the DICOM '
      'series that it was converted from.'
    )
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # remarks on the scanner's own headers
    top = int(labels.array.max())
    made = _segmentation(top, lesions, frames)
    with files.whole(path) as temporary:
      made.save_as(temporary)
  return pathlib.Path(path)


def write_all(
  out: pathlib.Path, scans: Iterable[ScanFiles], folder: pathlib.Path
) -> dict[str, str]:
  """A segmentation of each finished scan, from its label image and table.

  They go to OUT/sourcedata/dicom_seg/NAME.dcm, because they carry the names
  that the rest of OUT does not.

  Args:
    out: of `cmbjax detect`.
    scans: converted from DICOM to OUT/sourcedata.
    folder: the DICOM folder.

  Returns:
    Name -> sentence of those that could not be written.
  """
  failed = {}
  for scan in scans:
    anat = out.joinpath(scan.subject, scan.session or '', 'anat')
    stem = anat / f'{scan.name}_space-orig_seg-cmb_dseg'
    if not doors.is_there(stem.with_name(f'{stem.name}.nii.gz')):
      continue  # it failed, which was said
    target = out / 'sourcedata' / 'dicom_seg' / f'{scan.name}.dcm'
    try:
      target.unlink(missing_ok=True)
      source = dicom.source_files(folder, out / 'sourcedata', scan)
      labels = volume.load(f'{stem}.nii.gz')
      write_seg(
        labels, read_lesions(pathlib.Path(f'{stem}.tsv')), source, target
      )
    except InputError as error:
      failed[scan.name] = str(error)
  return failed


def _segmentation(top, lesions, frames: Sequence[_Frame]):
  import highdicom as hd
  from pydicom.uid import generate_uid

  first = frames[0].image
  count = len(lesions)
  numbers = np.zeros(top + 1, np.uint16)
  numbers[[lesion.index for lesion in lesions]] = np.arange(1, count + 1)
  pixels = np.stack([numbers[f.labels] for f in frames])  # [F, rows, columns]
  seed = [first.SeriesInstanceUID, cmbjax.__version__]
  about = 'cmbjax microbleeds, research use only'
  return hd.seg.Segmentation(
    source_images=[f.image for f in frames],
    pixel_array=pixels.astype(np.uint16 if pixels.max() > 255 else np.uint8),
    segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
    segment_descriptions=[
      _segment(number, lesion, seed) for number, lesion in enumerate(lesions, 1)
    ],
    series_instance_uid=generate_uid(entropy_srcs=[*seed, 'series']),
    # Far from the numbers that scanners give.
    series_number=9000 + int(first.get('SeriesNumber') or 0) % 900,
    sop_instance_uid=generate_uid(),
    instance_number=1,
    manufacturer='cmbjax',
    manufacturer_model_name='cmbjax detect',
    software_versions=cmbjax.__version__,
    device_serial_number='0',
    content_label='MICROBLEEDS',
    content_description=about,
    series_description=about,
    omit_empty_frames=True,
  )


def _segment(number, lesion, seed):
  import highdicom as hd
  from pydicom.sr.codedict import codes
  from pydicom.uid import generate_uid

  made = hd.seg.SegmentDescription(
    segment_number=number,
    segment_label=lesion.id,
    segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
    segmented_property_type=hd.sr.CodedConcept('50960005', 'SCT', 'Hemorrhage'),
    algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
    algorithm_identification=hd.AlgorithmIdentificationSequence(
      name='cmbjax detect',
      version=cmbjax.__version__,
      family=codes.DCM.ArtificialIntelligence,
    ),
    # Written again, the lesion is still the same one for an archive.
    tracking_uid=generate_uid(entropy_srcs=[*seed, lesion.id]),
    tracking_id=lesion.id,
    anatomic_regions=[codes.SCT.Brain],
  )
  shown = '' if lesion.likelihood is None else f' {lesion.likelihood:.2f}'
  # 64 characters is all that DICOM allows here.
  made.SegmentDescription = f'{lesion.status}{shown}, {lesion.region}'[:64]
  return made


def _fitting(labels, paths) -> list[_Frame]:
  """Frames that lie on the grid and cover all lesions, else none."""
  import pydicom

  placed: dict[int, _Frame] = {}
  inverse = np.linalg.inv(labels.affine)
  axis = None
  for path in sorted(paths):
    with warnings.catch_warnings(), doors.open_file(path) as handle:
      warnings.simplefilter('ignore')
      image = pydicom.dcmread(handle, stop_before_pixels=True)
    if int(image.get('NumberOfFrames') or 1) > 1:  # places are per frame
      return []
    index = _index(image, inverse, labels.array.shape)
    if index is None:
      return []
    if axis is None:  # the voxel axis along which slices follow each other
      axis = int(np.argmin(np.ptp(index.reshape(-1, 3), axis=0)))
    here = labels.array[tuple(np.moveaxis(index, -1, 0))]
    placed.setdefault(int(index[0, 0, axis]), _Frame(image, here))
  if axis is None:
    return []
  needed = np.unique(np.nonzero(labels.array)[axis])
  if set(needed.tolist()) - set(placed):  # a lesion would be cut
    return []
  return [placed[place] for place in sorted(placed)]


def _index(image, inverse, shape) -> np.ndarray | None:
  """Voxel int [rows, columns, 3] of each pixel; None when off the grid.

  Source: DICOM PS3.3 C.7.6.2.1.1 (LPS), turned to RAS.
  """
  try:
    across, down = np.reshape([*image.ImageOrientationPatient], (2, 3))
    start = np.array([*image.ImagePositionPatient], float)
    row_mm, column_mm = (float(v) for v in image.PixelSpacing)
    size = int(image.Rows), int(image.Columns)
  except (AttributeError, TypeError, ValueError):
    return None
  row, column = np.indices(size)[..., None]
  lps = start + column * (across * column_mm) + row * (down * row_mm)
  exact = (lps * (-1, -1, 1)) @ inverse[:3, :3].T + inverse[:3, 3]
  index = np.rint(exact).astype(int)
  if np.abs(exact - index).max() > _OFF_VOXELS:
    return None
  inside = (index >= 0).all() and (index < shape).all()
  extent = np.ptp(index.reshape(-1, 3), axis=0) + 1
  whole = sorted(extent) == sorted([1, *size]) and (
    np.sum(extent == shape) >= 2  # all of the plane, nothing cut off
  )
  return index if inside and whole else None
