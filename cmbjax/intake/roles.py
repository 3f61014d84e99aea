"""What an image is, by the words of its name and of its scanner.

Rule: one table for file names, folders, JSON files and DICOM headers. What is
made FROM a scan (a projection, a mask, a map) goes before what it was made of,
because the name of the one is in the name of the other.
"""

import re
from collections.abc import Iterable

SWI = 'swi'
MAGNITUDE = 'magnitude'
PHASE = 'phase'
REAL = 'real'
IMAGINARY = 'imaginary'
PROJECTION = 'projection'
FILTERED = 'filtered phase'
MAP = 'map'
BRAIN_MASK = 'brain mask'
LESIONS = 'lesions'  # or what may be: the name says 'mask' and no more
LABELS = 'labels'  # of something else
OTHER = 'other modality'
UNKNOWN = ''  # the name says nothing

SIGNAL = (MAGNITUDE, PHASE, REAL, IMAGINARY)
SCAN = (SWI, *SIGNAL, UNKNOWN)  # of what a scan can be made

_BLEEDS = r'cmbs?|microbleeds?|mbs?|lesions?|gt|truth'
_MARKED = (  # what somebody adds to a name of marks
  r'( (manual|final|consensus|agreed|corrected|edited|checked|binary|bin|v\d+|'
  r'(r|rater|reader|obs|observer) ?\d+|(rater|reader|observer) \w))*'
)
# Of several that fit the first counts. Words are between spaces, lower case.
_TABLE = (
  (
    PROJECTION,
    r'(swi)?m(in)? ?ips?\d*|m(in)?nips?|m(in)?ip images|projections?',
  ),
  (
    BRAIN_MASK,
    r'brain ?(extraction ?)?masks?|(brain|bet|skullstrip\w*|hdbet|synthstrip) '
    r'((swi|bin|binary|final|head) )?(mask|label|seg)s?|'
    r'(mask|label) brain|brain label',
  ),
  (
    LABELS,
    r'(dseg|seg|aseg|aparc\w*|labels?|masks?|probseg|segmentations?|atlas) '
    r'(\w+ )*(wmh?|gm|csf|tissues?|ventricles?|vessels?|veins?|lobes?|regions?|'
    r'stroke|infarct\w*|microinfarct\w*|cso|pvs|epvs)|(wmh?|gm|csf|tissues?|'
    r'ventricles?|vessels?|veins?|lobes?|regions?|stroke|infarcts?|pvs|epvs) '
    r'(\w+ )*(dseg|seg|labels?|masks?|probseg|segmentations?)|'
    r'(?<!^)(mimics?|false ?positives?|fps?|rejected)'
    r'( (masks?|labels?|segs?))?$|'
    r'(head|skull) masks?|aseg|aparc\w*|aparcaseg|wmh|atlas|pveseg|pve \d|fast',
  ),
  (
    LESIONS,
    r'labels?|labelmaps?|segmentations?|seg|dseg|probseg|masks?|rois?\d*|'
    r'msks?|mask(e|en|er)|masques?|segmentierung(en)?|segmentacion(es)?|'
    r'lesions?masks?|cmbs?masks?|cmb ?labels?|ground ?truth|annotations?',
  ),
  # Last only: first they are of a person or the name of a study.
  (
    LESIONS,
    rf'(?<!^)({_BLEEDS}){_MARKED}$|(?<!^)(manual|rater ?\d*)$',
  ),
  (
    MAP,
    r'(?<!^)qsm(?! (\w+ )*(e\d+|echo \d+|ph[ab]?|phase|mag\w*|real|imag\w*))|'
    r'^qsm$|chi ?maps?|[rt][12] ?(star|s)? ?maps?|r2s(tar)?|t2s ?map|b0 ?maps?|'
    r'field ?maps?|local ?fields?|total ?fields?|fmap|phasediff|swim|'
    r'adc|fa|md|cbf|snr|b1 ?map|tb1\w*|sensitivit\w+',
  ),
  (
    OTHER,
    r't1 ?w|t2 ?w|pd ?w|mprage|mp2rage|flair|t2 flair|dwi|dti|trace|(?<!ven )'
    r'bold|sbref|asl|m0scan|tof|mra|angio\w*|fspgr|bravo|inplanet[12]|pet|t1c|'
    r't1 ?ce|epi|localizer|localiser|scout|uni ?t1|space t[12]',
  ),
  (
    FILTERED,
    r'(filt|filtered|hpf|hp|high ?pass(ed)?|unwrapped|combined filtered) '
    r'(pha|phases?)|filteredphase|(pha|phases?) (\w+ )?(filt|filtered|hpf|'
    r'unwrapped|mask)|phase ?mask',
  ),
  (PHASE, r'(?<!^)ph[ab]?|(swi)?pha(s|se)?s?\d*|phase ?images?|pha images?'),
  (IMAGINARY, r'imag|imaginary\w?'),
  (REAL, r'real[ab]?'),
  (
    MAGNITUDE,
    r'(?<!^)m[ao]d|(swi)?magn?s?\d*|magnitudes?\d*|mag(nitude)? images?',
  ),
  (SWI, r'(clear|s)?swip?s?\d*|swi images?|swan|swmri|fsbb|ven ?bold'),
)
# Sequences that make a scan, but do not say which image of it this is.
FAMILY = (
  r'gre|fgre|megre|me ?gre|flash|fl[23]d\w*|ffe|hemo|heme|haemo|t2 ?stars?w?|'
  r't2 ?s|t2starw|t2sw?|swan|swi|fsbb|venbold'
)
_WEAK_OTHER = r't1|t2|pd|ct|b0|cest|mt'  # or the initials of somebody
_DROPPED = (  # says nothing about whose image it is
  r'images?|sw|part|total|scan|img|ax|axial|tra|transversal|sag|cor|[23]d|nii'
)


def _words(pattern: str) -> re.Pattern:
  return re.compile(rf'(?<!\S)(?:{pattern})(?!\S)')


_ROLES = tuple((role, _words(pattern)) for role, pattern in _TABLE)
_SWI = next(pattern for role, pattern in _ROLES if role == SWI)
_INITIALS = (MAP, OTHER)
_FAMILY, _WEAK = _words(FAMILY), _words(_WEAK_OTHER)
_STRIPPED = tuple(
  _words(p) for p in (*(p for _, p in _TABLE), FAMILY, _DROPPED)
)
_TARGET = re.compile(r'(?<!^)(?<!\S)(?:(?:in|to|onto|on)(?!\S)|2mni|2std).*')
_GLUED = re.compile(r'(?<!\S)(swi|mag|t2star|t1|t2|flair)2([a-z]\w+)')
_CAMEL = re.compile(r'(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{3})(?=[A-Z][a-z]{2})')


def words(text: str) -> str:
  """'AnnaM_SWI-Images' to 'anna m swi images'."""
  text = re.sub('sSWIp', 'SWIp', text)  # of Philips, summed over the echoes
  return ' '.join(re.split(r'[\W_]+', split(text).lower())).strip()


def split(text: str) -> str:
  """With a space where a word starts with a capital letter."""
  return _CAMEL.sub(' ', text)


def of_words(text: str) -> str:
  """The role that `words` say; '' when they say nothing.

  What follows 'to' or 'in' is the space of an image, not the image.
  """
  text = _TARGET.sub('', _GLUED.sub(r'\1 to \2', text)).strip()
  for role, pattern in _ROLES:
    match = pattern.search(text)
    if match and not (role in _INITIALS and _is_a_name(text, match)):
      return role
  if _WEAK.search(text) and not _FAMILY.search(text):
    return OTHER
  return UNKNOWN


def _is_a_name(text, match) -> bool:
  """Whether a first word is of a person or study: 'EPI_001_swi'."""
  return match.start() == 0 and bool(_SWI.search(text[match.end() :]))


def is_of_marks(text: str) -> bool:
  """Whether `words` are of marked lesions alone: 'cmb', 'lesion masks'.

  First in a name they are of a person or study; this is for a whole name, or
  for a folder beside those of the images.
  """
  return bool(
    re.fullmatch(f'({_BLEEDS})( (masks?|labels?|segs?))?{_MARKED}', text)
  )


def is_swi(text: str) -> bool:
  """Whether SWI or a sequence of one is among the `words`."""
  return bool(_SWI.search(text) or _FAMILY.search(text))


def is_a_kind(text: str) -> bool:
  """Whether `words` are the kind of an image, or somebody's initials: 'T1'."""
  return bool(re.fullmatch(_WEAK_OTHER, text))


def family(text: str) -> frozenset[str]:
  """The sequences in `words`, apart from SWI itself."""
  found = {f.group().replace(' ', '') for f in _FAMILY.finditer(text)}
  return frozenset(found - {'swi'})


def target(text: str) -> frozenset[str]:
  """The space that `words` say an image was brought to."""
  found = _TARGET.search(_GLUED.sub(r'\1 to \2', text).strip())
  return frozenset({found[0].strip()} if found else ())


def without(text: str) -> str:
  """`words` without those that say what the image is: whose it is."""
  text = _TARGET.sub('', _GLUED.sub(r'\1 to \2', text))
  is_ours = bool(_FAMILY.search(text)) or of_words(text) in (*SIGNAL, OTHER)
  first = _first_initials(text)
  text = text[len(first) :]
  for pattern in _STRIPPED:
    text = pattern.sub(_number_of_a_person, text)
  text = first + text
  if is_ours:  # 't2' of 't2_swi_tra'
    text = re.sub(rf'(?<!^)(?<!\S)({_WEAK_OTHER})(?!\S)', '', text)
  return ' '.join(text.split())


def _first_initials(text) -> str:
  """'fa' of 'fa swi', where no map of that name was made of the SWI."""
  for role, pattern in _ROLES:
    match = pattern.match(text) if role in _INITIALS else None
    if (
      match and re.fullmatch('[a-z]{2,3}', match[0]) and _is_a_name(text, match)
    ):
      return match[0]
  return ''


def _number_of_a_person(match) -> str:
  """Of 'swi01' the number; that of 'mag1' is an echo."""
  text = match[0]
  number = re.search(r'\d+$', text)
  sticks = number and re.match(r'swi|mag|pha|m(in)?ip', text)
  if not sticks or (len(number[0]) == 1 and not text.startswith('swi')):
    return ''
  return number[0]


_PROJECTED = {'MNIP', 'MINIP', 'MIP', 'MIN IP', 'MINIMUM', 'PROJECTION IMAGE'}
_FINISHED = re.compile('swi_?images|swan|swip', re.IGNORECASE)


def of_header(
  types: Iterable[str], description: str, *, ending: str = ''
) -> str:
  """What one image shows, as its scanner says.

  Args:
    types: ImageType values.
    description: series description (and protocol name).
    ending: what dcm2niix put behind the name: 'ph', 'real', 'imaginary'; it
      goes first, because the ImageType of an enhanced file speaks of all its
      frames.

  Returns:
    A role; '' when nothing is said.
  """
  tokens, endings = {t.upper() for t in types}, set(ending.split('_'))
  said = of_words(words(description))
  if said == PROJECTION or tokens & _PROJECTED:
    return PROJECTION
  for role in (REAL, IMAGINARY):
    if role in endings:
      return role
    if not endings - {''} and tokens & {role.upper(), role[0].upper()}:
      return role  # 'R' and 'I' of Siemens and Philips
  is_phase = 'ph' in endings or tokens & {'P', 'PHASE', 'PHASE MAP'}
  if is_phase or said in (PHASE, FILTERED):
    filtered = re.search('filt|hpf|high.?pass', description, re.IGNORECASE)
    return FILTERED if filtered or said == FILTERED else PHASE
  if said == MAP or any('MAP' in t for t in tokens):
    return MAP
  if said == MAGNITUDE:
    return MAGNITUDE
  derived = 'DERIVED' in tokens and 'swi' in description.lower()
  if derived or 'SWI' in tokens or _FINISHED.search(description):
    return SWI
  return MAGNITUDE if tokens & {'M', 'MAGNITUDE'} else UNKNOWN
