"""Lesions of one scan to cards with pictures, numbers and verdict buttons.

Rule: a card shows what was measured and nothing that was not; what is not
known is a dash.
"""

import math
from typing import Any

from cmbjax.report import pictures
from cmbjax.report.pictures import AXIAL, PLANES, BrainBox
from cmbjax.report.texts import DASH, likelihood_text

# Of a crop: a microbleed is 2 to 10 mm, and a vessel is known by its course
# over twice that. Zooming halves it.
FIELD_MM = 24.0
SLAB_MM = 10.0  # of the minimum projection, in which a vessel becomes a line
# What a rejected candidate may be instead, as the review page names it.
MIMICS = (
  ('vessel', 'vessel'),
  ('calcification', 'calcification'),
  ('cavernoma', 'cavernoma'),
  ('partial_volume', 'partial volume'),
  ('artefact', 'artefact'),
  ('iron', 'iron deposit'),
  ('haemorrhagic_lesion', 'haemorrhagic lesion'),
  ('other', 'other'),
)
_SHAPES = {
  'hard': 'compact',
  'travelling': 'drifts between slices',
  'single slice': 'in one slice only',
}


def number(value, digits: int = 2) -> str:
  """A number as text; a dash for None and for what is not finite."""
  if value is None or not math.isfinite(float(value)):
    return DASH
  return f'{float(value):.{digits}f}'.replace('-', '−')


def likelihood(lesion, result) -> str:
  """As text on the side of both thresholds where the lesion is."""
  point = result.operating_point
  ends = (point.get('threshold'), point.get('definite_threshold'))
  held = [float(end) for end in ends if end is not None]
  return likelihood_text(float(lesion.likelihood), *held)


def reason(lesion, result) -> str:
  """Why a candidate was rejected, in words."""
  if lesion.note:
    return lesion.note
  if lesion.status != 'rejected':
    return ''
  reasons = result.candidates.get('reason', ())
  row = lesion.candidate - 1
  gate = str(reasons[row]) if 0 <= row < len(reasons) else ''
  if gate and gate != 'likelihood':
    return f'gate: {gate}'
  threshold = result.operating_point.get('threshold')
  if lesion.likelihood is not None and threshold is not None:
    return f'likelihood not above {float(threshold):.3g}'
  return 'rejected'


def size_mm(lesion) -> float:
  """The diameter that lesions are sorted and drawn by."""
  value = float(lesion.diameter_mm)
  return value if math.isfinite(value) else 0.0


def card(lesion, result, brain: BrainBox) -> dict[str, Any]:
  """What a card and a line of the table show of a lesion.

  Args:
    lesion: a `Lesion`, or anything with its fields.
    result: the `ScanResult` that it is of.
    brain: what the locator shows.

  Returns:
    Values of the template card.html.
  """
  # What no network has judged is sorted behind all others.
  likely = -1.0 if lesion.likelihood is None else float(lesion.likelihood)
  return {
    'id': lesion.id,
    'spoken': spoken(lesion.id),
    'status': lesion.status,
    'likelihood': likely,
    'size_mm': size_mm(lesion),
    'z_mm': lesion.centre_mm[2],
    'chance': _chance(lesion, result),
    'facts': _facts(lesion, result),
    'signs': getattr(lesion, 'signs', None),
    'views': _views(lesion, result),
    'place': (*brain.place(lesion.centre_index, AXIAL), *brain.size(AXIAL)),
    'numbers': _numbers(lesion, result),
  }


def spoken(name: str) -> str:
  """'lesion-001' as a heading."""
  return (name[:1].upper() + name[1:]).replace('-', ' ')


def _chance(lesion, result) -> dict[str, str] | None:
  """The likelihood, how far the networks differ, and where that is drawn."""
  if lesion.likelihood is None:
    return None
  value, spread = float(lesion.likelihood), float(lesion.spread or 0)
  # A spread is symmetric, a likelihood is not beyond 0 or 1.
  ends = (max(value - spread, 0), min(value + spread, 1), value)
  threshold = float(result.operating_point.get('threshold') or 0)
  spots = zip('lhvt', (*ends, threshold))
  chance = ''
  if lesion.probability is not None:
    chance = number(100 * float(lesion.probability), 0)
  return {
    'text': likelihood(lesion, result),
    'spread': '' if lesion.spread is None else number(lesion.spread),
    'probability': chance,
    'style': ';'.join(f'--{k}:{100 * x:.1f}%' for k, x in spots),
  }


def region(lesion) -> str:
  """'left frontal (lobar), near a border: 1.2 mm'."""
  if lesion.region == 'unknown':
    return 'not known'
  text = lesion.region
  if getattr(lesion, 'side', '') in ('left', 'right'):
    text = f'{lesion.side} {text}'
  if lesion.location not in (lesion.region, 'unknown'):
    text += f' ({lesion.location})'
  if lesion.region_certain:
    return text
  margin = getattr(lesion, 'margin_mm', None)
  return f'{text}, near a border' + (
    '' if margin is None else f': {number(margin, 1)} mm'
  )


def _facts(lesion, result) -> list[tuple[str, str]]:
  facts = [
    ('Diameter', f'{number(lesion.diameter_mm, 1)} mm'),
    ('Volume', f'{number(lesion.volume_mm3, 1)} mm³'),
    ('Feret', f'{number(lesion.feret_mm, 1)} mm'),
    ('Contrast', f'{number(100 * lesion.contrast, 0)} %'),
    ('Region', region(lesion)),
    ('Shape', _SHAPES.get(lesion.category, lesion.category or DASH)),
    ('Centre', f'{_centre(lesion)} mm'),
  ]
  why = reason(lesion, result)
  if why:
    facts.append(('Reason' if lesion.status == 'rejected' else 'Note', why))
  return facts


def _centre(lesion) -> str:
  return ', '.join(number(x, 1) for x in lesion.centre_mm)


def _views(lesion, result) -> list[dict[str, Any]]:
  """Three planes with outlines, and an axial minimum projection."""
  where = (lesion.centre_index, result.spacing_mm)
  made = []
  for plane in PLANES:
    own, other = pictures.outline(
      result.labels, *where, plane, field_mm=FIELD_MM, index=lesion.index
    )
    picture = pictures.crop(result.swi, *where, plane, field_mm=FIELD_MM)
    lines = {'own': own, 'other': other}
    made.append({'picture': picture, 'caption': plane.name} | lines)
  slab = pictures.crop(
    result.swi, *where, AXIAL, field_mm=FIELD_MM, slab_mm=SLAB_MM
  )
  side = result.spacing_mm[2]
  # Whole slices, so the caption says how thick it became.
  thick_mm = (2 * pictures.slab_reach(SLAB_MM, side) + 1) * side
  caption = f'minIP {thick_mm:.3g} mm'
  return [*made, {'picture': slab, 'caption': caption, 'own': '', 'other': ''}]


HEADS = (
  'Lesion', 'Status', 'Likelihood', 'Probability', 'Diameter mm', 'Feret mm',
  'Volume mm³', 'Contrast', 'Region', 'x, y, z mm',
)  # fmt: skip


def _numbers(lesion, result) -> tuple[str, ...]:
  """The columns of `HEADS` behind the first."""
  likely = DASH
  if lesion.likelihood is not None:
    likely = f'{likelihood(lesion, result)} ± {number(lesion.spread)}'
  return (
    lesion.status,
    likely,
    number(lesion.probability),
    number(lesion.diameter_mm, 1),
    number(lesion.feret_mm, 1),
    number(lesion.volume_mm3, 1),
    number(lesion.contrast),
    region(lesion),
    _centre(lesion),
  )
