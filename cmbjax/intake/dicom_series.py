"""A folder of DICOM files to its series: whose they are and what they show.

Rule: who a person is stays in memory; everything that is written carries a
label made with a secret key.
"""

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import dicom_header, roles
from cmbjax.intake.dicom_header import Header

MISSING = (
  'reading DICOM needs more packages; install them with '
  "pip install 'cmbjax[dicom]'."
)
KINDS = (roles.SWI, *roles.SIGNAL)  # those that are used


def _words(*alternatives: str) -> re.Pattern:
  """Any of them, as a word of letters, whatever the case."""
  inside = '|'.join(alternatives)
  return re.compile(f'(?<![a-z])({inside})(?![a-z])', re.IGNORECASE)


_SUSCEPTIBILITY = re.compile(
  'swi|swan|swp|suscept|ven_?bold|qsm|heme|hemo', re.I
)
_NOT_THIS = _words(
  r'local\w+', 'loc', 'scout', 'survey', 'tof', r'angio\w*', 'mprage',
  'bravo', 'fspgr', 't1w?', 'fmap', 'field.?map', r'b0.?map\w*', 'fmri',
  r'perf\w*', 'dwi', r'diff\w*', 'asl', r'[rt]2.?(star)?.?map\w*',
)  # fmt: skip
_SHORTEST_ECHO_MS = 8.0  # T2* weighting starts about here
# Names that programs give: '001.dcm', 'IM000012', 'SER00003', 'DICOM'. Longer
# numbers may be a birthday or the number of a patient.
_NEUTRAL = re.compile(
  r'(dicom|dcm|data|scans?|series|(i|im|img|image|mr|se|ser|series|st|pa|slice)'
  r'[_-]?(\d{1,5}|0\d{1,7})|\d{1,3}|00\d{1,4})(\.(dcm|ima))?',
  re.IGNORECASE,
)
_NAMED = 3  # files of one sentence


@dataclasses.dataclass(frozen=True)
class Series:
  """The images of one series of one person."""

  headers: tuple[Header, ...]

  @property
  def first(self) -> Header:
    return self.headers[0]

  @property
  def num_images(self) -> int:
    return sum(h.num_frames for h in self.headers)

  def __str__(self) -> str:
    first = self.first
    kinds = sorted({'\\'.join(h.types[2:]) for h in self.headers} - {''})
    about = first.description or 'no description'
    return (
      f'series {first.number} "{about}" ({self.num_images} images'
      + (f', {", ".join(kinds)}' if kinds else '')
      + ')'
    )


def is_dicom(folder: str | os.PathLike) -> bool:
  """Whether a folder holds DICOM files; needs no extra package.

  Reads the first bytes of at most 2,000 files and stops at the first hit.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    return False
  for count, path in enumerate(_walk(folder)):
    if count >= 2000:
      break
    with contextlib.suppress(InputError):  # a pipe, a link to nothing
      if dicom_header.has_magic(path):
        return True
  return False


def read_folder(
  folder: str | os.PathLike,
) -> tuple[list[Series], list[pathlib.Path]]:
  """All MR series below a folder, and the files that are damaged.

  A copy of an image (the same SOP instance) counts once.

  Raises:
    NoInputError: no such folder, or no DICOM image in it.
    InputError: pydicom is not installed.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise NoInputError(f'{folder}: no such folder; give a DICOM folder.')
  try:
    import pydicom  # noqa: F401
  except ImportError as error:
    raise InputError(f'{folder}: {MISSING}') from error
  seen, grouped, damaged, others = set(), {}, [], set()
  for path in _walk(folder):
    try:
      if not dicom_header.has_magic(path):
        continue
    except InputError:  # not here, or not a file: what it holds is lacking
      damaged.append(path)
      continue
    header, modality = dicom_header.read(path)
    if header is None:
      if modality is None:
        damaged.append(path)
      else:
        others.add(modality)
      continue
    if (header.patient, header.instance) in seen:
      continue
    seen.add((header.patient, header.instance))
    key = (header.patient, header.study, header.series)
    grouped.setdefault(key, []).append(header)
  if not grouped:
    found = ''
    if damaged:
      found = f', but damaged files ({listed(folder, damaged)})'
    elif others:
      found = f', but {", ".join(sorted(others))}'
    raise NoInputError(
      f'{folder}: holds no MR image in DICOM{found}; give the folder that the '
      'scanner or the archive exported.'
    )
  series = [Series(tuple(headers)) for headers in grouped.values()]
  return sorted(series, key=_order), damaged


def listed(folder: pathlib.Path, paths: Sequence[pathlib.Path]) -> str:
  """How many files, and the first of them whose names say nobody's name.

  Files and folders are often called by the patient: by a name, a number or a
  day. Only what programs call them is repeated.
  """
  parts = [path.relative_to(folder).parts for path in paths]
  named = [
    '/'.join(some) for some in parts if all(map(_NEUTRAL.fullmatch, some))
  ]
  if not named:
    return f'{len(paths)}'
  how = ': ' if len(named) == len(paths) <= _NAMED else ', such as '
  return f'{len(paths)}{how}{", ".join(named[:_NAMED])}'


def is_wanted(series: Series) -> bool:
  """Whether it can be (part of) a susceptibility-weighted scan."""
  first = series.first
  named = _SUSCEPTIBILITY.search(first.description) or any(
    t.startswith('SW') for h in series.headers for t in h.types
  )
  if roles.of_header(first.types, first.description) == roles.PROJECTION:
    return False
  if named:
    return True
  if first.gradient_echo is not True or _NOT_THIS.search(first.description):
    return False
  echoes = [h.echo_ms for h in series.headers if h.echo_ms]
  return not echoes or max(echoes) >= _SHORTEST_ECHO_MS


def kinds_of(
  images: Iterable[tuple[Iterable[str], str]], description: str
) -> list[str]:
  """What each image of one series shows, as a role of `roles`.

  Args:
    images: ImageType values, and what dcm2niix put behind the name.
    description: of the series (and its protocol).
  """
  images = [(tuple(types), ending) for types, ending in images]
  found = [
    roles.of_header(types, description, ending=ending) or roles.MAGNITUDE
    for types, ending in images
  ]
  if not set(found) & {roles.PHASE, roles.REAL, roles.IMAGINARY}:
    return found
  # GE calls what its phase goes with 'SWAN' too, as the finished image.
  return [
    roles.MAGNITUDE
    if kind == roles.SWI and not {'DERIVED', 'SWI'} & set(types)
    else kind
    for kind, (types, _) in zip(found, images)
  ]


def label(key: bytes, text: str, *, length: int = 8) -> str:
  """Letters and digits that say nothing about `text` without the key.

  Args:
    key: secret of one conversion.
    text: what is to be hidden.
    length: letters and digits.
  """
  digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
  # From the end, on a border of letters: so it always was, and a second run
  # on a key of before has to give the same names.
  letters = base64.b32encode(bytes(3) + digest).decode().lower()
  return letters[::-1][:length]


def check_whole(series: Series) -> None:
  """Refuses a series with files cut short or a slice missing.

  Raises:
    InputError: says what is missing.
  """
  # Files are often called by the patient's name, so they are not named.
  short = sorted(h.image_number for h in series.headers if h.cut_short)
  if short:
    raise InputError(
      f'{series}: some files are cut short (image number '
      f'{", ".join(map(str, short[:3]))}{", ..." if len(short) > 3 else ""}); '
      'copy or export them again.'
    )
  stacks = {}
  for header in series.headers:
    if header.num_frames == 1 and header.position and header.orientation:
      along = _along(header)
      key = (header.types, header.echo_ms, header.orientation)
      stacks.setdefault(key, set()).add(round(along, 2))
  for places in stacks.values():
    steps = [b - a for a, b in zip(sorted(places), sorted(places)[1:])]
    usual = sorted(steps)[len(steps) // 2] if steps else 0
    gaps = [s for s in steps if s > 1.5 * usual]
    if gaps:
      raise InputError(
        f'{series}: slices are missing (steps of {usual:g} mm, then one of '
        f'{gaps[0]:g} mm); export the whole series again.'
      )


def _order(series):
  first = series.first
  return (first.patient, first.date, first.study, first.number, first.series)


def _along(header) -> float:
  """Place of a slice along its normal, mm."""
  (a, b, c), (d, e, f) = header.orientation[:3], header.orientation[3:]
  normal = (b * f - c * e, c * d - a * f, a * e - b * d)
  return sum(n * p for n, p in zip(normal, header.position))


def _walk(folder):
  for root, folders, names in os.walk(folder):
    folders.sort()
    for name in sorted(names):
      path = pathlib.Path(root, name)
      if name != 'DICOMDIR' and not name.startswith('.'):
        yield path
