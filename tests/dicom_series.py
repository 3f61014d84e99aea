"""Made-up DICOM series: noise, one bright corner, known places."""

import pathlib

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR = '1.2.840.10008.5.1.4.1.1.4'
SHAPE = (8, 48, 64)  # slices, rows, columns
SPACING_MM = (1.5, 0.6, 0.5)
# Oblique: rows and columns are turned by 10 degrees round x.
TURN = np.deg2rad(10)
ORIENTATION = (1, 0, 0, 0, float(np.cos(TURN)), float(np.sin(TURN)))
CORNER = np.array([-16.0, -20.0, 5.0])  # LPS mm of the first voxel

VENDORS = {  # (manufacturer, ImageType, description) of magnitude, phase, SWI
  'siemens': (
    'SIEMENS',
    {
      'mag': (['ORIGINAL', 'PRIMARY', 'M', 'NORM'], 'Mag_Images'),
      'phase': (['ORIGINAL', 'PRIMARY', 'P', 'ND'], 'Pha_Images'),
      'swi': (['DERIVED', 'PRIMARY', 'M', 'SWI', 'NORM'], 'SWI_Images'),
      'mip': (['DERIVED', 'PRIMARY', 'MNIP', 'ND'], 'mIP_Images(SW)'),
    },
  ),
  'philips': (
    'Philips Medical Systems',
    {
      'mag': (['ORIGINAL', 'PRIMARY', 'SW_M_FFE', 'SW_M', 'FFE'], 'SWI 3D'),
      'phase': (['ORIGINAL', 'PRIMARY', 'SW_P_FFE', 'SW_P', 'FFE'], 'SWI 3D'),
    },
  ),
  'ge': (
    'GE MEDICAL SYSTEMS',
    {
      'swi': (['DERIVED', 'PRIMARY', 'OTHER'], 'Ax SWAN'),
      'filtered': (['DERIVED', 'SECONDARY', 'OTHER'], 'FILT_PHA: Ax SWAN'),
      'mip': (['DERIVED', 'SECONDARY', 'OTHER'], 'MIN IP: Ax SWAN'),
      'mag': (['ORIGINAL', 'PRIMARY', 'OTHER'], 'Ax SWAN'),
      'phase': (['ORIGINAL', 'PRIMARY', 'OTHER'], 'Ax SWAN'),
      'real': (['ORIGINAL', 'PRIMARY', 'OTHER'], 'Ax SWAN'),
      'imag': (['ORIGINAL', 'PRIMARY', 'OTHER'], 'Ax SWAN'),
    },
  ),
}


def voxels(seed, *, shape=SHAPE, top=1000):
  """Noise [slices, rows, columns] uint16 with a bright corner."""
  array = np.random.default_rng(seed).integers(0, top // 2, shape)
  array[0, 0, 0] = top
  return array.astype(np.uint16)


def write_series(
  folder, array, *, kind='mag', vendor='siemens', number=1, **own
):
  """One file per slice; returns the datasets. `own` sets DICOM fields.

  Files are named by the patient, as some exports are, and in reverse order.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  maker, kinds = VENDORS[vendor]
  types, description = kinds[kind]
  common = {
    'PatientName': 'Musterfrau^Erika',
    'PatientID': 'HOSP4711',
    'PatientBirthDate': '19520404',
    'StudyDate': '20240229',
    'StudyTime': '101112',
    'StudyInstanceUID': '1.2.3.4',
    'SeriesInstanceUID': generate_uid(),
    'FrameOfReferenceUID': '1.2.3.5',
    'SeriesNumber': number,
    'SeriesDescription': description,
    'ProtocolName': 'head',
    'ImageType': types,
    'Manufacturer': maker,
    'ScanningSequence': 'GR',
    'SequenceVariant': 'SP',
    'MRAcquisitionType': '3D',
    'EchoTime': 20.0,
    'RepetitionTime': 28.0,
    'FlipAngle': 15.0,
    'MagneticFieldStrength': 3.0,
    'AccessionNumber': 'ACC99',
    'InstitutionName': 'Klinikum Beispiel',
    'ReferringPhysicianName': 'Dr^Who',
    'StudyID': 'S1',
  }
  made = []
  for index in range(len(array)):
    one = _slice(array, index)
    for name, value in {**common, **own}.items():
      setattr(one, name, value)
    if vendor == 'philips':
      one.RescaleSlope, one.RescaleIntercept = 1, 0
      if kind == 'phase':
        one.RescaleSlope, one.RescaleIntercept = 6284 / 4095, -3142
    path = folder / f'Musterfrau_{number}_{len(array) - index:03d}.dcm'
    one.save_as(path, enforce_file_format=True)
    made.append(one)
  return made


def write_ge(folder, parts, *, number=7, **own):
  """One series of GE, which says in a field of its own what an image is.

  Args:
    folder: where.
    parts: 'mag', 'phase', 'real', 'imag' to voxels, int16.
    number: of the series.
    own: DICOM fields.
  """
  common = {
    'SeriesInstanceUID': generate_uid(), 'PixelRepresentation': 1,
    'BitsStored': 16, 'HighBit': 15,
  } | own  # fmt: skip
  for place, (kind, array) in enumerate(parts.items()):
    below = pathlib.Path(folder, kind)
    write_series(
      below, array.astype(np.int16), kind=kind, vendor='ge', number=number,
      **common,
    )  # fmt: skip
    for path in below.iterdir():
      one = read(path)
      block = one.private_block(0x0043, 'GEMS_PARM_01', create=True)
      block.add_new(0x2F, 'SS', ('mag', 'phase', 'real', 'imag').index(kind))
      one.InstanceNumber = one.InstanceNumber * len(parts) + place
      one.save_as(path)


def _slice(array, index):
  meta = FileMetaDataset()
  meta.MediaStorageSOPClassUID = MR
  meta.MediaStorageSOPInstanceUID = generate_uid()
  meta.TransferSyntaxUID = ExplicitVRLittleEndian
  one = FileDataset(None, {}, file_meta=meta, preamble=b'\0' * 128)
  one.SOPClassUID = MR
  one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
  one.Modality = 'MR'
  one.SpecificCharacterSet = 'ISO_IR 100'
  one.InstanceNumber = index + 1
  one.AcquisitionNumber = 1
  one.PatientPosition = 'HFS'
  one.PatientSex = 'F'
  one.AcquisitionDate = one.SeriesDate = one.ContentDate = '20240229'
  one.AcquisitionTime = one.SeriesTime = one.ContentTime = '101500'
  normal = np.cross(ORIENTATION[:3], ORIENTATION[3:])
  place = CORNER + normal * SPACING_MM[0] * index
  one.ImagePositionPatient = [round(float(v), 6) for v in place]
  one.ImageOrientationPatient = [round(v, 9) for v in ORIENTATION]
  one.PixelSpacing = list(SPACING_MM[1:])
  one.SliceThickness = one.SpacingBetweenSlices = SPACING_MM[0]
  one.Rows, one.Columns = array.shape[1:]
  one.SamplesPerPixel, one.PhotometricInterpretation = 1, 'MONOCHROME2'
  one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
  one.PixelRepresentation = 0
  one.PixelData = array[index].tobytes()
  return one


def affine():
  """[4, 4] (column, row, slice) index to RAS mm."""
  across, down = np.array(ORIENTATION[:3]), np.array(ORIENTATION[3:])
  result = np.eye(4)
  for axis, (direction, size) in enumerate(
    zip((across, down, np.cross(across, down)), SPACING_MM[::-1])
  ):
    result[:3, axis] = direction * size
  result[:3, 3] = CORNER
  return np.diag([-1, -1, 1, 1]) @ result


def read(path):
  return pydicom.dcmread(path)


def along(image):
  """Place of a slice along its normal, mm."""
  normal = np.cross(ORIENTATION[:3], ORIENTATION[3:])
  return float(normal @ np.array(image.ImagePositionPatient, float))


def write_enhanced(path, stacks, *, vendor='philips', **own):
  """One enhanced multi-frame file; `stacks` maps 'mag', 'phase' to voxels."""
  first = write_series(path.parent / 'scratch', next(iter(stacks.values())),
                       vendor=vendor)  # fmt: skip
  one = first[0]
  for file in (path.parent / 'scratch').iterdir():
    file.unlink()
  (path.parent / 'scratch').rmdir()
  one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = MR + '.1'
  shared = pydicom.Dataset()
  turn, measures = pydicom.Dataset(), pydicom.Dataset()
  turn.ImageOrientationPatient = one.ImageOrientationPatient
  measures.PixelSpacing = one.PixelSpacing
  measures.SliceThickness = measures.SpacingBetweenSlices = SPACING_MM[0]
  echo = pydicom.Dataset()
  echo.EffectiveEchoTime = 20.0
  shared.PlaneOrientationSequence = [turn]
  shared.PixelMeasuresSequence = [measures]
  shared.MREchoSequence = [echo]
  one.SharedFunctionalGroupsSequence = [shared]
  one.EchoPulseSequence = 'GRADIENT'
  frames = []
  for number, kind in enumerate(stacks, 1):
    for index, image in enumerate(first, 1):
      frames.append(_frame(image, kind, number, index, vendor))
  one.PerFrameFunctionalGroupsSequence = frames
  one.NumberOfFrames = len(frames)
  for name in ('ImagePositionPatient', 'ImageOrientationPatient', 'EchoTime',
               'PixelSpacing', 'ScanningSequence', 'RescaleSlope',
               'RescaleIntercept'):  # fmt: skip
    if name in one:
      delattr(one, name)
  one.PixelData = b''.join(array.tobytes() for array in stacks.values())
  for name, value in {'SeriesDescription': 'SWI 3D', **own}.items():
    setattr(one, name, value)
  one.save_as(path, enforce_file_format=True)


def _frame(image, kind, number, index, vendor):
  frame, content = pydicom.Dataset(), pydicom.Dataset()
  content.DimensionIndexValues = [1, index, number]
  content.InStackPositionNumber, content.StackID = index, '1'
  place, kinds, scale = (pydicom.Dataset() for _ in range(3))
  place.ImagePositionPatient = image.ImagePositionPatient
  kinds.FrameType = VENDORS[vendor][1][kind][0]
  kinds.ComplexImageComponent = 'PHASE' if kind == 'phase' else 'MAGNITUDE'
  scale.RescaleSlope = 6284 / 4095 if kind == 'phase' else 1
  scale.RescaleIntercept = -3142 if kind == 'phase' else 0
  scale.RescaleType = 'US'
  frame.FrameContentSequence = [content]
  frame.PlanePositionSequence = [place]
  frame.MRImageFrameTypeSequence = [kinds]
  frame.PixelValueTransformationSequence = [scale]
  return frame
