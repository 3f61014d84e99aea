"""One image file and what is known of it without its voxels.

Rule: the name says it; where it says little, the image's JSON does.
"""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

from cmbjax.errors import InputError
from cmbjax.intake import filename, roles
from cmbjax.intake.sidecars import Sidecars

_ECHO = re.compile(r'(?<=\S )(?:e|te|echo) ?(\d{1,2})(?!\S)|^echo ?(\d{1,2})')
_STUCK = re.compile(r'(?<!\S)(?:magn?|magnitude|pha|phase)(\d)(?!\S)')
_COIL = re.compile(r'(?<=\S )(?:c|coil ?)(\d{1,3})(?!\S)')
_RUN = re.compile(r'(?<!\S)((?:run|acq) ?\d+)(?!\S)')
_SESSION = re.compile(
  r'(?<!\S)(?:ses(?:sion)? ?(\w+)|((?:tp|timepoint|visit|fu|followup) ?\d+|'
  r'baseline|bl|followup|(?<=\S )(?:pre|post)(?!\S| mortem))|'
  # The day, and perhaps the time, of dcm2niix.
  r'((?:19|20)\d\d ?(?:0[1-9]|1[0-2]) ?(?:0[1-9]|[12]\d|3[01])'
  r'(?: ?\d{6})?))(?!\S)'
)
_COPY = re.compile(  # of an image that is there without the word too
  r'(?<=\S )(brain|bet|stripped|skullstripped|n4|bfc|biascorr\w*|denoised|'
  r'reg|registered|warped|resampled|smooth\w*|norm|normali[sz]ed|cropped|reorient\w*|std|'
  r'orig|eq|copy|kopie|copie|defaced?|mni|old|new|final|corrected|v\d+)(?!\S)'
)
# Entities that tell one image of an acquisition from another.
_WITHIN = (
  'sub',
  'ses',
  'sess',
  'part',
  'echo',
  'rec',
  'desc',
  'space',
  'label',
  'res',
)
_LATER = ('rec', 'desc', 'space', 'res')  # what was done to an image


@dataclasses.dataclass(frozen=True)
class NamedImage:
  """One image file and what its name says."""

  path: pathlib.Path
  role: str  # of `roles`
  person: str  # whose it is: a label or words; '' when nothing says it
  session: str | None  # its label
  echo: int | None
  acquisition: frozenset  # what magnitude and phase of one scan agree in
  version: frozenset  # what was done to it, of which the other may be without
  coil: bool = False  # of one coil only
  series: bool = False  # a number that may be of a series ends the name
  label: str = ''  # `person` in its own spelling, letters and digits
  rest: str = ''  # words of the name that neither of these explains


_UK_BIOBANK = re.compile(r'(?<!\d)(\d{7})_\d{5}_(\d)_\d+(?!\d)')
_ADNI = re.compile(
  r'(?<!\d)(\d{3}_S_\d{4,5})(?!\d)(?:.*_((?:19|20)\d{6})\d*_)?'
)


def _known(name: str) -> tuple[str, str | None] | None:
  """Person and session, where a public study has names of its own."""
  match = _UK_BIOBANK.search(name) or _ADNI.search(name)
  return (match[1], match[2]) if match else None


def describe(path: pathlib.Path, folders: Sequence[str] = ()) -> NamedImage:
  """What a name says, and the folders where it does not.

  Args:
    path: of an image.
    folders: of the input, from the top down to the image.
  """
  parts = filename.entities(path)
  if 'sub' in parts.values:
    return _of_entities(path, parts)
  return _of_words(path, folders)


def _of_entities(path, parts) -> NamedImage:
  echo = re.search(r'\d+', parts.get('echo') or '')
  return NamedImage(
    path,
    _role_of_entities(parts),
    parts.get('sub'),
    parts.get('ses') or parts.get('sess'),  # the second is of OASIS
    int(echo[0]) if echo else None,
    frozenset(
      (key, value)
      for key, value in (*parts.without(*_WITHIN), ('suffix', parts.suffix))
      if roles.of_words(f'x {roles.words(value)}') not in roles.SIGNAL
    ),
    frozenset(
      f'{k}-{v}'
      for k, v in parts.values.items()
      if k in _LATER
      and (k == 'space' or not roles.of_words(f'x {roles.words(v)}'))
    ),
    label=parts.get('sub'),
  )


def _role_of_entities(parts) -> str:
  """`acq-` is about the scan, so of it only what makes an image counts."""
  pairs = parts.without('sub', 'ses', 'run', 'acq', 'space')
  text = ' '.join([*(f'{k} {v}' for k, v in pairs), parts.suffix])
  role = roles.of_words(f'x {roles.words(text)}')  # no entity is a first word
  if role not in (roles.SWI, roles.UNKNOWN):
    return role
  acquired = parts.get('acq') or ''
  by_acq = roles.of_words(f'x {roles.words(acquired)}')
  if by_acq in (roles.PROJECTION, roles.FILTERED, roles.SWI, *roles.SIGNAL):
    return by_acq
  named = f'{acquired} {parts.get("rec")}'.lower()
  return roles.SWI if 'swi' in named else role


def _of_words(path, folders) -> NamedImage:
  text = roles.words(filename.stem(path))
  who, around = _folders(folders)
  for number, name in enumerate([*who, path.name], 1):
    if known := _known(name):
      who = [*filter(None, known), *who[number:]]
      break
  found = {}
  for name, pattern in (
    ('stuck', _STUCK), ('echo', _ECHO), ('coil', _COIL), ('run', _RUN),
  ):  # fmt: skip
    match = pattern.search(text)
    found[name] = match and next(filter(None, match.groups()))
    if match and name != 'stuck':
      text = ' '.join((text[: match.start()] + text[match.end() :]).split())
  role = roles.of_words(_joined(text, found['echo']))
  if role in (roles.UNKNOWN, roles.SWI):
    role = around or role
  session, text = _session(text)
  if who and roles.is_of_marks(text.strip()):  # of the person of the folder
    role, text = roles.LESIONS, ''
  left, copy = _without_copy(roles.without(text), is_in_folder=bool(who))
  left = left.removeprefix('sub ')
  if who:
    session = session or ' '.join(who[1:]) or None
    mine = set(roles.words(' '.join(who)).split())
    rest = ' '.join(word for word in left.split() if word not in mine)
  number = found['echo'] or found['stuck']
  return NamedImage(
    path,
    role,
    who[0] if who else left,
    session,
    int(number) if number else None,
    roles.family(text) | ({found['run']} if found['run'] else set()),
    copy | roles.target(text),
    coil=bool(found['coil']),
    series=bool(re.search(r'\d$', text.strip()) or 'images' in text),
    label=filename.plain(who[0]) if who else _spelt(path, left),
    rest='' if around or not who else rest,  # in a folder of a role: x.nii
  )


def _without_copy(left, *, is_in_folder) -> tuple[str, frozenset]:
  """(the words, those of them that say what was done to an image); the first
  word of a name is whose it is, unless a folder says that."""
  left, copy = f'x {left}' if is_in_folder else left, frozenset()
  while match := _COPY.search(left):
    copy |= {match[0]}
    left = left[: match.start()] + left[match.end() :]
  return ' '.join(left.split()[is_in_folder:]), copy


def _spelt(path, left) -> str:
  """Words of a name as they are written there."""
  wanted, found = left.split(), []
  for word in re.split(r'[\W_]+', roles.split(filename.stem(path))):
    if word.lower() in wanted:
      wanted.remove(word.lower())
      found.append(word)
    elif any(w.isdecimal() and word.endswith(w) for w in wanted):  # swi01
      found.append(re.search(r'\d+$', word)[0])
  return filename.plain(''.join(found))


def _joined(text, echo) -> str:
  """With its echo: 'qsm e1' is an image, 'anna qsm' a map."""
  return ' '.join([*text.split(), *([f'e{echo}'] if echo else [])])


def _session(text) -> tuple[str | None, str]:
  match = _SESSION.search(text)
  if not match:
    return None, text
  label = next(filter(None, match.groups()))
  rest = text[: match.start()] + text[match.end() :]
  if match[3] and not re.search('[^\\W\\d]', roles.without(rest)):
    return None, text  # a day alone is what somebody is called by
  return label.replace(' ', ''), rest


_PLACES = re.compile(  # folders that say nothing about whose the images are
  r'(?<!\S)(anat|nifti|niftis|nii|files|resources|scans|data|raw|images ?t[rs]|'
  r'labels ?(?:t[rs]|val)|dataset ?\d{3}(?!\d)( \w+)*|task ?\d{2,3} \w+|'
  r'(?<=\S )t?e\d|images?|imgs?|dicom|train\w*|test\w*|val|'
  r'validation|cases|controls|patients|subjects|participants|mri?|inputs?)(?!\S)'
)


_PREDICTED = re.compile(r'labels ?pr?|pred(iction|icted)?s?|infer\w*( t[rs])?')
# XNAT calls a session by its person: P001_MR1, OAS30001_MR_d0129.
_EXAM = re.compile(r'(.+?)[-_](MR\d*(?:[-_]\w+)?)', re.IGNORECASE)


def _folders(names: Sequence[str]) -> tuple[list[str], str]:
  """(those that say whose the images are, the role that the others say)."""
  who, role, below = [], '', False
  for name in names:
    text = roles.words(name)
    bare = _PLACES.sub('', text)
    said = roles.of_words(bare) or roles.of_words(f'x {bare}')
    left = roles.without(bare).split()
    is_place = (text != bare or said or roles.family(bare)) and all(
      word.isdecimal() for word in left
    )
    if roles.is_of_marks(bare) and said == roles.LESIONS and ' ' in bare:
      is_place = True  # 'lesion masks'; 'cmb' may be a study
    if 'labels' in text:
      said = roles.LESIONS
    if _PREDICTED.fullmatch(text):
      is_place, said = True, roles.LABELS
    if is_place or (below and all(w.isdecimal() for w in left)):
      role = said or role
      below = below or 'scans' in text  # XNAT: scans/7/resources/...
    elif 'scans' in names and (exam := _EXAM.fullmatch(name)):
      who += exam.groups()
    else:
      who.append(re.sub('^(sub|ses)-|^(ses|session)[-_ ]?(?=\\d)', '', name))
  return who, role


def by_header(
  image: NamedImage, sidecars: Sidecars, *, strict: bool = True
) -> NamedImage:
  """What its JSON says where the name says little.

  Args:
    image: by its name.
    sidecars: of the input.
    strict: whether a JSON that cannot be read is an error.

  Raises:
    InputError: it is, and it cannot.
  """
  if image.role not in (roles.UNKNOWN, roles.SWI):
    return image
  try:
    fields = sidecars.of(image.path)
  except InputError:
    if strict:
      raise
    return image
  return with_role(image, fields)


def with_role(image: NamedImage, fields: dict) -> NamedImage:
  """The image with what its JSON says, where its name says little."""
  if image.role not in (roles.UNKNOWN, roles.SWI):
    return image
  role = _header_role(fields)
  if image.role == roles.SWI and role == roles.MAGNITUDE:
    # 'M' is in the ImageType of a finished SWI too; a description is not.
    described = roles.of_words(roles.words(_description(fields)))
    role = role if described == roles.MAGNITUDE else roles.SWI
  return dataclasses.replace(image, role=role or image.role)


def _header_role(fields) -> str:
  """What the JSON of an image says that it is; '' when it does not."""
  types = fields.get('ImageType')
  types = [t for t in types if isinstance(t, str)] if isinstance(
    types, list
  ) else []  # fmt: skip
  return roles.of_header(types, _description(fields))


def _description(fields) -> str:
  text = fields.get('SeriesDescription')
  return text if isinstance(text, str) else ''
