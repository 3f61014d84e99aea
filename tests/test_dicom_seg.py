"""Lesions to a DICOM segmentation, read back by highdicom and by place."""

import dataclasses

import numpy as np
import pytest

from cmbjax.errors import NoInputError
from cmbjax.imaging import volume
from cmbjax.intake import dicom
from tests.messages import says

hd = pytest.importorskip('highdicom')
pytest.importorskip('dcm2niix')

from cmbjax.detect import dicom_seg  # noqa: E402
from cmbjax.detect.derivatives import ListedLesion  # noqa: E402
from tests import dicom_series as made_up  # noqa: E402

LESIONS = (
  ListedLesion(1, 'lesion-001', 'definite', 0.75, 'thalamus'),
  ListedLesion(2, 'lesion-002', 'possible', None, 'unknown'),
)


@dataclasses.dataclass
class Case:
  folder: object
  source: object  # the DICOM folder
  scan: object  # ScanFiles
  labels: volume.Volume

  def write(self, name='seg.dcm', *, lesions=LESIONS, source=None, **own):
    labels = dataclasses.replace(self.labels, **own)
    source = source or dicom.source_files(
      self.source, self.folder / 'out' / 'sourcedata', self.scan
    )
    return dicom_seg.write_seg(labels, lesions, source, self.folder / name)


@pytest.fixture
def case(tmp_path):
  """An oblique series in shuffled files, its conversion and two lesions."""
  source = tmp_path / 'in'
  for number, kind in enumerate(('mag', 'phase', 'mip', 'swi'), 1):
    array = made_up.voxels(number, top=4095)
    made_up.write_series(source, array, kind=kind, number=number)
  (scan,) = dicom.convert(source, tmp_path / 'out' / 'sourcedata')
  image = volume.load(scan.swi)
  labels = np.zeros(image.array.shape, np.uint16)
  labels[10:13, 5:9, 1:3] = 1
  labels[40, 30, 6] = 2
  labels[41, 30:32, 6] = 2
  labels[12, 5, 2] = 2  # touches the other one
  return Case(tmp_path, source, scan, dataclasses.replace(image, array=labels))


def read_back(path, affine, shape):
  """[X, Y, Z] segment numbers, put together from the positions in mm."""
  seg = hd.seg.segread(path)
  found = np.zeros(shape, np.uint16)
  inverse = np.linalg.inv(affine)
  shared = seg.SharedFunctionalGroupsSequence[0]
  turn = shared.PlaneOrientationSequence[0].ImageOrientationPatient
  across, down = np.reshape([float(v) for v in turn], (2, 3))
  row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
  stack = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
  for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, stack):
    start = frame.PlanePositionSequence[0].ImagePositionPatient
    number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    for row, column in np.argwhere(pixels):
      lps = np.array(start, float) + column * across * column_mm
      lps = (lps + row * down * row_mm) * (-1, -1, 1)
      place = inverse[:3, :3] @ lps + inverse[:3, 3]
      assert np.abs(place - np.rint(place)).max() < 0.01
      found[tuple(np.rint(place).astype(int))] = number
  return seg, found


def test_round_trip(case):
  source = dicom.source_files(
    case.source, case.folder / 'out' / 'sourcedata', case.scan
  )
  path = case.write(source=source)
  wanted = case.labels.array
  seg, found = read_back(path, case.labels.affine, wanted.shape)
  np.testing.assert_array_equal(found, wanted)
  assert seg.number_of_segments == 2
  one = seg.get_segment_description(1)
  assert one.segment_label == one.tracking_id == 'lesion-001'
  assert one.segmented_property_type.value == '50960005'
  assert one.SegmentDescription == 'definite 0.75, thalamus'
  assert seg.PatientID == 'HOSP4711'  # belongs to its images
  assert 'research use only' in seg.SeriesDescription
  # Refers to the very images, slice by slice.
  images = sorted(map(made_up.read, source), key=made_up.along)
  by_image = seg.get_pixels_by_source_instance(
    [image.SOPInstanceUID for image in images],
    combine_segments=True,
    assert_missing_frames_are_empty=True,
  )
  assert len(images) == 8
  native = by_image.transpose(2, 1, 0)
  np.testing.assert_array_equal(
    volume.from_array(native, made_up.affine()).array, wanted
  )


def test_the_same_lesion_keeps_its_identity(case):
  segs = [hd.seg.segread(case.write(f'{n}.dcm')) for n in range(2)]
  one, two = (s.get_segment_description(2).tracking_uid for s in segs)
  assert one == two
  assert segs[0].SOPInstanceUID != segs[1].SOPInstanceUID


def test_no_lesion_no_file(case):
  assert case.write(lesions=(), array=case.labels.array * 0) is None
  assert not (case.folder / 'seg.dcm').exists()


def test_other_grids_are_refused(case):
  moved = case.labels.affine.copy()
  moved[:3, 3] += 0.2
  with says(NoInputError, 'x48x8'):
    case.write(affine=moved)
  with says(NoInputError):
    case.write(array=np.pad(case.labels.array, ((0, 3), (0, 0), (0, 0))))
  assert not (case.folder / 'seg.dcm').exists()


def test_from_the_files_of_detect(case):
  """Label image and table as they are written, to OUT/sourcedata."""
  out, name = case.folder / 'out', case.scan.name
  stem = out / case.scan.subject / 'anat' / f'{name}_space-orig_seg-cmb_dseg'
  volume.save(f'{stem}.nii.gz', case.labels.array, case.labels)
  header = 'index\tname\tx\tstatus\tlikelihood\tregion\tcounted'
  rows = [
    f'{s.index}\t{s.id}\t0.5\t{s.status}\t'
    f'{"n/a" if s.likelihood is None else s.likelihood}\t{s.region}\ttrue'
    for s in LESIONS
  ]
  stem.with_suffix('.tsv').write_text('\n'.join([header, *rows]) + '\n')
  assert dicom_seg.write_all(out, [case.scan], case.source) == {}
  path = out / 'sourcedata' / 'dicom_seg' / f'{name}.dcm'
  seg, found = read_back(path, case.labels.affine, case.labels.array.shape)
  np.testing.assert_array_equal(found, case.labels.array)
  assert (
    seg.get_segment_description(2).SegmentDescription == 'possible, unknown'
  )
  for old in case.source.glob('*_4_*.dcm'):
    old.unlink()
  failed = dicom_seg.write_all(out, [case.scan], case.source)
  assert 'holds no series that' in failed[name]
  assert not path.exists()
