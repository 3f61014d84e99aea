"""One scan's result to a page that a reader can judge lesions on.

Rule: what was measured is shown, and nothing else; what is not known is a dash.

Verdicts stay in the reader's browser and leave it as `<scan>_verdicts.json`:

  schema     'cmbjax-verdicts-1'
  result     hash of the result that was judged, see `result_hash`
  scan, subject, session, source, simulated, cmbjax: as in the result
  rater      name that the reader gave, may be ''
  started, exported: UTC, ISO 8601
  lesions    one object per card, in the order of the result:
    id         'lesion-001' or 'candidate-0007'
    label      value in the label image, 0 for a rejected candidate
    status     'definite', 'possible' or 'rejected', as the page said
    centre_mm  [x, y, z] RAS world
    verdict    'accept', 'reject', 'unsure' or null (not judged)
    mimic      one of `lesion_cards.MIMICS` or null; only with 'reject'
    comment    text, '' mostly
    time       of the last change, UTC, or null
    ms         time spent on this card, milliseconds
  events     every change in order: time, id, field ('verdict', 'mimic' or
             'comment'), old, new, and undo (true where it took one back)
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax import files
from cmbjax.report import brain_map, lesion_cards, pages, pictures
from cmbjax.report.lesion_cards import number
from cmbjax.report.texts import DASH

SCHEMA = 'cmbjax-verdicts-1'
FIXED_REJECTED = 12  # rejected candidates that are always listed, if there are
MOST_REJECTED = 40  # and never more than that: each has four pictures
LOCATIONS = ('lobar', 'deep', 'infratentorial', 'unknown')
_GRADES = ('none', '1–4', '5–9', '10–19', '20 or more')
_PATTERNS = {
  'none': 'no microbleed',
  'unknown': 'not known',
  'strictly_lobar': 'strictly lobar',
  'strictly_deep': 'strictly deep',
  'infratentorial_only': 'infratentorial only',
  'mixed': 'mixed',
}
_MADE = {
  'reconstructed': 'SWI reconstructed from magnitude and phase',
  'magnitude': 'magnitude image, no SWI',
}


def write_scan(result, folder: str | os.PathLike) -> pathlib.Path:
  """Writes the page of one scan.

  Args:
    result: a `ScanResult`, or anything with its fields.
    folder: made when missing.

  Returns:
    Path of `<scan>.html`.
  """
  path = files.make_folder(folder) / file_name(result.name)
  files.write_text(path, page(result))
  return path


def file_name(name: str) -> str:
  """The page's file name: a scan's name without what a path could misread."""
  return _plain_name(name) + '.html'


def _plain_name(name: str) -> str:
  return re.sub(r'[^\w.-]+', '-', name, flags=re.ASCII).strip('.-') or 'scan'


def result_hash(result) -> str:
  """16 hex digits that change when what is judged changes, and only then."""
  # Rounded, so that a result that was written and read again has the same.
  lesions = [
    [
      lesion.id,
      lesion.index,
      lesion.status,
      *(round(float(value), 3) for value in lesion.centre_mm),
      round(float(lesion.volume_mm3), 3),
    ]
    for lesion in result.lesions
  ]
  return files.digest([result.name, result.source, lesions])


def page(result) -> str:
  """The whole page as text."""
  found = [x for x in result.lesions if x.status != 'rejected']
  rejected = _rejected(result)
  shown = [*found, *rejected]
  brain = pictures.frame(result.mask, result.spacing_mm)
  planes = brain_map.planes(shown, result, brain)
  kind = 'simulated SWI' if result.simulated else 'SWI'
  return pages.render(
    'scan.html',
    styles=('base.css', 'scan.css'),
    script='scan.js',
    skip=('lesions', 'lesions'),
    eyebrow=f'microbleeds on {kind}',
    name=result.name,
    protocol=_protocol(result),
    origin=result.source,
    simulated=result.simulated,
    warnings=[text[:1].upper() + text[1:] for text in result.warnings],
    **_summary(result),
    planes=planes,
    columns=brain_map.columns(brain),
    slices=brain_map.slices(shown, result, brain),
    found=[lesion_cards.card(x, result, brain) for x in found],
    rejected=[lesion_cards.card(x, result, brain) for x in rejected],
    rejected_are=_rejected_are(rejected, result),
    field_mm=lesion_cards.FIELD_MM,
    mimics=lesion_cards.MIMICS,
    heads=lesion_cards.HEADS,
    reading=_reading(result),
    record=_record(result),
    data=_data(result, shown),
  )


class Dropped(NamedTuple):
  """A candidate that a gate dropped, with what is known of it."""

  id: str
  candidate: int
  centre_mm: tuple[float, float, float]
  centre_index: tuple[int, int, int]
  volume_mm3: float | None
  diameter_mm: float
  feret_mm: float | None
  contrast: float
  category: str
  index: int = 0
  status: str = 'rejected'
  likelihood: float | None = None
  spread: float | None = None
  probability: float | None = None
  region: str = 'unknown'
  location: str = 'unknown'
  region_certain: bool = False
  counted: bool = False
  note: str = ''


def _rejected(result) -> list:
  """The best rejected candidates: those that the networks saw, then others.

  What a gate dropped is shown where the result names it (`top_rejected`), and
  fills a short list.
  """
  judged = [x for x in result.lesions if x.status == 'rejected']
  judged = judged[:MOST_REJECTED]
  table = result.candidates
  if 'kept' not in table:
    return judged
  dropped = np.flatnonzero(~np.asarray(table['kept'], bool))
  # Stable, so that a result makes the same page every time.
  order = np.argsort(-np.asarray(table['score'])[dropped], kind='stable')
  named = {row['id'] for row in getattr(result, 'top_rejected', ())}
  missing = max(FIXED_REJECTED - len(judged), 0)
  return judged + [
    _dropped(result, int(row))
    for place, row in enumerate(dropped[order])
    if place < missing or _candidate(row) in named
  ]


def _candidate(row: int) -> str:
  """The id of a row of the table of candidates."""
  return f'candidate-{row + 1:04d}'


def _dropped(result, row: int) -> Dropped:
  table = result.candidates

  def value(name, default=None):
    return float(table[name][row]) if name in table else default

  centre = np.array([value(f'{axis}_mm') for axis in 'xyz'])
  # The table has millimetres only.
  index = np.linalg.inv(result.affine) @ np.append(centre, 1)
  return Dropped(
    id=_candidate(row),
    candidate=row + 1,
    centre_mm=tuple(float(x) for x in centre),
    centre_index=tuple(int(x) for x in np.rint(index[:3])),
    volume_mm3=value('volume_mm3'),
    diameter_mm=value('diameter_mm', 0.0),
    feret_mm=value('feret_mm'),
    contrast=value('contrast', 0.0),
    category=str(table['category'][row]) if 'category' in table else '',
  )


def _protocol(result) -> list[str]:
  """'3 T', 'TE 28 ms', '0.5 × 0.5 × 2 mm', 'GE'."""
  protocol = result.protocol
  field, echo = protocol.get('field_t'), protocol.get('echo_time_s')
  parts = [
    'field not known' if field is None else f'{field:.3g} T',
    'echo time not known' if echo is None else f'TE {1000 * echo:.3g} ms',
    ' × '.join(f'{side:.3g}' for side in result.spacing_mm) + ' mm',
    protocol.get('manufacturer'),
    protocol.get('model'),
    _MADE.get(protocol.get('made')),
  ]
  return [str(part) for part in parts if part]


def _summary(result) -> dict[str, Any]:
  """The numbers that a reader reports."""
  counts = result.counts
  together = f'Together {number(counts.get("volume_mm3"), 0)} mm³'
  if counts.get('too_large'):
    together += f', {counts["too_large"]} too large to count'
  grade, grade_says = _grade(counts)
  aria, aria_says = _aria(counts)
  places = counts.get('by_location', {})
  return {
    'definite': counts.get('definite', 0),
    'possible': counts.get('possible', 0),
    'together': together,
    'grade': grade,
    'grade_says': grade_says,
    'aria': aria,
    'aria_says': aria_says,
    'places': [(name, _both(places.get(name, 0))) for name in LOCATIONS],
    'pattern': _pattern(result),
  }


def _grade(counts) -> tuple[str, str]:
  grade = counts.get('grade')
  if reasons := counts.get('not_established'):
    return DASH, f'Not established: {"; ".join(reasons)}'
  if grade is None:  # a count of candidates would be read as one of lesions
    return DASH, 'Candidates that no network has judged have no grade'
  text = f'{_GRADES[grade]} definite'
  more = counts.get('grade_with_possible')
  if more is not None and more != grade:
    text += f'; grade {more} with the possible ones'
  return str(grade), text


def _aria(counts) -> tuple[str, str]:
  band = counts.get('aria_h')
  if counts.get('not_established'):
    return DASH, 'Not established, as the grade'
  if band is None:
    return DASH, 'Candidates that no network has judged have no band'
  more = counts.get('aria_h_with_possible')
  text = '' if more in (None, band) else f'{more} with the possible ones. '
  text += (
    'If all were new: the bands are for new microbleeds under treatment, and '
    'one scan cannot tell new from old'
  )
  return str(band), text[:1].upper() + text[1:]


def _both(entry) -> int:
  """Definite and possible together."""
  return sum(entry.values()) if hasattr(entry, 'values') else int(entry)


def _pattern(result) -> str:
  """The pattern of the definite ones, and what makes it uncertain."""
  name = result.counts.get('pattern')
  unsure = [
    lesion
    for lesion in result.lesions
    if lesion.status != 'rejected'
    and lesion.counted
    and not lesion.region_certain
    and lesion.location != 'unknown'
  ]
  text = ''
  if name:
    text = f'Pattern of the definite ones: {_PATTERNS.get(name, str(name))}'
    certain = result.counts.get('pattern_certain', not unsure)
    text += '. ' if certain else ', uncertain. '
  if unsure:
    many = f'{len(unsure)} lie' if len(unsure) > 1 else 'One lies'
    text += f'{many} near a border of regions.'
  return text.strip()


def _rejected_are(rejected: Sequence, result) -> str:
  """Which of how many candidates are shown though they were rejected."""
  text = f'The {len(rejected)} best rejected candidates'
  if len(rejected) == 1:
    text = 'The best rejected candidate'
  if proposed := result.counts.get('proposed'):
    text += f' of {proposed} places that were looked at'
  judged = result.counts.get('rejected', 0)
  if judged > len(rejected):
    text += f' ({judged} reached the networks)'
  return text


def _reading(result) -> list[str]:
  """How the numbers came about."""
  point = result.operating_point
  low, high = point.get('threshold'), point.get('definite_threshold')
  lines = []
  if low is not None:
    name = str(point.get('name', '')).replace('_', ' ')
    lines.append(
      f'Operating point: {name}. Possible above a likelihood of {low:.3g}, '
      f'definite above {high:.3g}.'
    )
  lines += [
    'Likelihood is the mean over the networks, ± their standard deviation; '
    'probability is the likelihood after calibration.',
    'Outlines run half-way between the darkest voxel and its surroundings. '
    'Diameter is that of a ball of the same volume; Feret the longest within '
    'a slice. Both grow with field strength and echo time, so they compare '
    'only between scans of one protocol.',
    'Crops show native voxels, the patient’s right on the left; sagittal ones '
    'the front on the left. An oblique scan is shown in its own slices. '
    'Places come from a registration to a standard brain.',
    'Larger than 10 mm is no microbleed and is not counted (MARS, Gregoire '
    '2009). Count grade: 0 none, 1 1–4, 2 5–9, 3 10–19, 4 20 or more.',
  ]
  if point.get('trained_on_simulated'):
    lines.append(
      'The networks were trained on simulated scans only; on scans of people '
      'they are untested.'
    )
  return lines


def _record(result) -> list[tuple[str, str]]:
  """Versions and settings as a list of terms."""
  rows = [('Result', result_hash(result))]
  words = {True: 'yes', False: 'no'}
  for key, value in result.operating_point.items():
    if value is None:
      continue
    text = words[value] if isinstance(value, bool) else value
    text = ', '.join(value) if isinstance(value, list | tuple) else text
    text = number(value, 3) if isinstance(value, float) else text
    head = 'operating point' if key == 'name' else key.replace('_', ' ')
    rows.append((head, str(text).replace('_', ' ')))
  rows += sorted(result.software.items())
  rows += [
    (f'{name}, seconds', number(value, 1))
    for name, value in result.seconds.items()
  ]
  return [(str(head), str(value)) for head, value in rows]


def _data(result, lesions: Sequence) -> dict[str, Any]:
  """What the script needs."""
  return {
    'schema': SCHEMA,
    'result': result_hash(result),
    'scan': result.name,
    'subject': result.subject,
    'session': result.session,
    'source': result.source,
    'simulated': bool(result.simulated),
    'cmbjax': cmbjax.__version__,
    'file': _plain_name(result.name) + '_verdicts.json',
    'lesions': [
      {
        'id': lesion.id,
        'label': int(lesion.index),
        'status': lesion.status,
        'centre_mm': [round(float(x), 4) for x in lesion.centre_mm],
      }
      for lesion in lesions
    ],
  }
