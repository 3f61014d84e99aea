"""One DICOM file to what is asked of its header, without its pixels.

Rule: who a person is stays in memory; everything that is written carries a
label made with a secret key.
"""

import dataclasses
import os
import pathlib
import warnings
from typing import Any

from cmbjax import doors

_TAGS = [
  'SOPClassUID',
  'SOPInstanceUID',
  'Modality',
  'Manufacturer',
  'PatientID',
  'IssuerOfPatientID',
  'PatientName',
  'PatientBirthDate',
  'StudyInstanceUID',
  'StudyDate',
  'StudyTime',
  'SeriesInstanceUID',
  'SeriesNumber',
  'InstanceNumber',
  'SeriesDescription',
  'ProtocolName',
  'ImageType',
  'ScanningSequence',
  'EchoPulseSequence',
  'EchoTime',
  'NumberOfFrames',
  'Rows',
  'Columns',
  'BitsAllocated',
  'SamplesPerPixel',
  'ImagePositionPatient',
  'ImageOrientationPatient',
  0x00430010,  # whose private block it is, and GE's kind of image
  0x0043102F,
]
_GE_KINDS = ('MAGNITUDE', 'PHASE', 'REAL', 'IMAGINARY')
_UNCOMPRESSED = (  # their pixels have a known length
  '1.2.840.10008.1.2',
  '1.2.840.10008.1.2.1',
  '1.2.840.10008.1.2.2',
)


@dataclasses.dataclass(frozen=True)
class Header:
  """What is read of one file."""

  path: pathlib.Path
  patient: str  # who it is; never written anywhere
  study: str  # UID
  series: str  # UID
  instance: str  # UID
  date: str
  number: int
  image_number: int
  description: str
  manufacturer: str
  types: tuple[str, ...]  # ImageType, upper case
  gradient_echo: bool | None  # None: not said
  echo_ms: float | None  # None: not said
  num_frames: int
  position: tuple[float, ...] | None  # mm, LPS
  orientation: tuple[float, ...] | None
  cut_short: bool


def has_magic(path) -> bool:
  """Whether a file begins as DICOM does.

  Raises:
    InputError: it cannot be read.
  """
  with doors.open_file(path) as handle:
    start = handle.read(132)
  # Some archives leave the preamble out: the file starts with group 0008.
  return start[128:] == b'DICM' or (
    start[:4] in (b'\x08\x00\x05\x00', b'\x08\x00\x08\x00', b'\x08\x00\x00\x00')
    and len(start) == 132
  )


def read(path) -> tuple[Header | None, str | None]:
  """(header, modality); no header: not MR, or (modality None) damaged."""
  import pydicom

  try:
    with warnings.catch_warnings(), doors.open_file(path) as handle:
      warnings.simplefilter('ignore')
      found = pydicom.dcmread(
        handle, stop_before_pixels=True, force=True, specific_tags=_TAGS
      )
      # The pixels and their tag.
      left = os.fstat(handle.fileno()).st_size - handle.tell()
      modality = str(found.get('Modality') or '')
      if modality and modality != 'MR':
        return None, modality
      if not found.get('SOPInstanceUID') or not found.get('Rows'):
        return None, None
      return _header(path, found, left), 'MR'
  except Exception:  # a damaged file makes the parser fail in any way
    return None, None


def _header(path, found, left) -> Header:
  description = ' '.join(
    dict.fromkeys(
      str(found.get(name) or '').strip()
      for name in ('SeriesDescription', 'ProtocolName')
    )
  ).strip()
  echo = found.get('EchoTime')
  frames = int(found.get('NumberOfFrames') or 1)
  return Header(
    path=path,
    patient=_who(found),
    study=str(found.get('StudyInstanceUID') or ''),
    series=str(found.get('SeriesInstanceUID') or ''),
    instance=str(found.SOPInstanceUID),
    date=f'{found.get("StudyDate") or ""}{found.get("StudyTime") or ""}',
    number=int(found.get('SeriesNumber') or 0),
    image_number=int(found.get('InstanceNumber') or 0),
    description=''.join(c for c in description if c.isprintable())[:80],
    manufacturer=str(found.get('Manufacturer') or ''),
    types=_types(found),
    gradient_echo=_is_gradient_echo(found),
    echo_ms=float(echo) if echo else None,
    num_frames=frames,
    position=_floats(found.get('ImagePositionPatient')),
    orientation=_floats(found.get('ImageOrientationPatient')),
    cut_short=_is_cut_short(found, frames, left),
  )


def _types(found) -> tuple[str, ...]:
  """ImageType; GE says in a field of its own which part an image shows."""
  types = tuple(str(t).upper() for t in _several(found.get('ImageType')))
  block, kind = found.get(0x00430010), found.get(0x0043102F)
  if kind is None or 'GEMS_PARM' not in str(block and block.value):
    return types
  number = kind.value
  if isinstance(number, bytes):  # of a file that does not say its type
    number = int.from_bytes(number[:2], 'little')
  return (*types, _GE_KINDS[number]) if number in range(4) else types


def _who(found) -> str:
  """Identity of the person, as far as the file tells."""
  number = str(found.get('PatientID') or '')
  if number:
    return f'{found.get("IssuerOfPatientID") or ""}|{number}'
  name = (
    f'{found.get("PatientName") or ""}|{found.get("PatientBirthDate") or ""}'
  )
  return name if name != '|' else str(found.get('StudyInstanceUID') or '')


def _is_gradient_echo(found) -> bool | None:
  sequence = _several(found.get('ScanningSequence'))
  if sequence:
    kinds = {str(s) for s in sequence}
    return 'GR' in kinds and not kinds & {'IR', 'EP', 'SE'}
  echo = found.get('EchoPulseSequence')
  return str(echo).upper() == 'GRADIENT' if echo else None


def _is_cut_short(found, frames, left) -> bool:
  meta = getattr(found, 'file_meta', None)
  syntax = str(meta.get('TransferSyntaxUID') or '') if meta else ''
  if syntax not in _UNCOMPRESSED:
    return False
  pixels = int(found.Rows) * int(found.Columns) * frames
  size = int(found.get('BitsAllocated') or 16) // 8
  samples = int(found.get('SamplesPerPixel') or 1)
  return left < pixels * size * samples


def _several(value: Any) -> list:
  if value is None or value == '':
    return []
  return [value] if isinstance(value, str) else list(value)


def _floats(value) -> tuple[float, ...] | None:
  return tuple(float(v) for v in value) if value else None
