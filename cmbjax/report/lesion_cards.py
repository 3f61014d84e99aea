"""Lesions of one scan to cards with pictures, numbers and verdict buttons.

Rule: a card shows what was measured and nothing that was not; what is not
known is a dash, and every text from outside is escaped.
"""

import html
import math
from collections.abc import Sequence

from cmbjax.report import pictures, tables
from cmbjax.report.pictures import AXIAL, PLANES

escape = html.escape
DASH = '–'
FIELD_MM = 24.0  # of a crop; zooming halves it
SLAB_MM = 10.0  # of the minimum projection beside the slices
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
  return tables.likelihood_text(float(lesion.likelihood), *held)


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


def cards(lesions: Sequence, result, brain: pictures.Frame) -> str:
  """All cards as list items."""
  return ''.join(
    _card(lesion, order, result, brain) for order, lesion in enumerate(lesions)
  )


def _card(lesion, order: int, result, brain: pictures.Frame) -> str:
  name = escape(lesion.id)
  status = escape(lesion.status)
  likely = -1.0 if lesion.likelihood is None else float(lesion.likelihood)
  return (
    f'<li class="card" id="{name}" tabindex="-1" data-status="{status}" '
    f'data-order="{order}" data-likelihood="{likely:.4f}" '
    f'data-size="{size_mm(lesion):.2f}" data-z="{lesion.centre_mm[2]:.2f}">'
    f'<div class="what"><h3><span class="mark" aria-hidden="true"></span>'
    f'{escape(spoken(lesion.id))} <span class="status">{status}</span></h3>'
    f'{_likelihood(lesion, result)}{_facts(lesion, result)}</div>'
    f'<div class="views">{_views(lesion, result)}'
    f'{_locator(lesion, brain)}</div>'
    f'{_verdict(name)}</li>\n'
  )


def spoken(name: str) -> str:
  """'lesion-001' as a heading."""
  return (name[:1].upper() + name[1:]).replace('-', ' ')


def _likelihood(lesion, result) -> str:
  if lesion.likelihood is None:
    return '<p class="likely"><span class="small">no network was run</span></p>'
  value = float(lesion.likelihood)
  spread = float(lesion.spread or 0)
  ends = (max(value - spread, 0), min(value + spread, 1), value)
  threshold = float(result.operating_point.get('threshold') or 0)
  style = ';'.join(
    f'--{k}:{100 * x:.1f}%' for k, x in zip('lhvt', (*ends, threshold))
  )
  text = f'<b>{likelihood(lesion, result)}</b>'
  if lesion.spread is not None:
    text += f' <span class="small">± {number(spread)}</span>'
  if lesion.probability is not None:
    chance = number(100 * float(lesion.probability), 0)
    text += f' <span class="small chance">probability {chance} %</span>'
  return (
    f'<p class="likely">{text}<span class="track" style="{style}" '
    'aria-hidden="true"><i></i><b></b><s></s></span></p>'
  )


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


def _facts(lesion, result) -> str:
  centre = ', '.join(number(x, 1) for x in lesion.centre_mm)
  facts = [
    ('Diameter', f'{number(lesion.diameter_mm, 1)} mm'),
    ('Volume', f'{number(lesion.volume_mm3, 1)} mm³'),
    ('Feret', f'{number(lesion.feret_mm, 1)} mm'),
    ('Contrast', f'{number(100 * lesion.contrast, 0)} %'),
    ('Region', region(lesion)),
    ('Shape', _SHAPES.get(lesion.category, lesion.category or DASH)),
    ('Centre', f'{centre} mm'),
  ]
  why = reason(lesion, result)
  if why:
    facts.append(('Reason' if lesion.status == 'rejected' else 'Note', why))
  return (
    '<dl>'
    + ''.join(
      f'<div class="{escape(head.lower())}"><dt>{escape(head)}</dt>'
      f'<dd>{escape(text)}</dd></div>'
      for head, text in facts
    )
    + '</dl>'
  )


def _views(lesion, result) -> str:
  """Three planes with outlines, and an axial minimum projection."""
  spacing = result.spacing_mm
  where = (lesion.centre_index, spacing)
  made = []
  for plane in PLANES:
    picture = pictures.crop(result.swi, *where, plane, field_mm=FIELD_MM)
    own, others = pictures.outline(
      result.labels, *where, plane, field_mm=FIELD_MM, index=lesion.index
    )
    lines = f'<path class="other" d="{others}"/>' if others else ''
    lines += f'<path class="own" d="{own}"/>' if own else ''
    made.append(_view(lesion, picture, lines, plane.name))
  slab = pictures.crop(
    result.swi, *where, AXIAL, field_mm=FIELD_MM, slab_mm=SLAB_MM
  )
  thick = 2 * pictures.slab_reach(SLAB_MM, spacing[2]) + 1
  made.append(_view(lesion, slab, '', f'minIP {thick * spacing[2]:.3g} mm'))
  return ''.join(made)


_HALF = FIELD_MM / 2


def _bar(length: float, kind: str) -> str:
  """A bar of 5 mm in the lower left; zooming shows the longer one."""
  return (
    f'<rect class="bar {kind}" x="{1 - _HALF:g}" y="{_HALF - 1.5:g}" '
    f'width="{length:g}" height=".55"/>'
  )


def _view(lesion, picture, lines: str, caption: str) -> str:
  return (
    f'<figure><svg class="crop" viewBox="{-_HALF:g} {-_HALF:g} {FIELD_MM:g} '
    f'{FIELD_MM:g}" role="img" aria-label="{escape(lesion.id)}, '
    f'{escape(caption)}"><g>{picture.element()}{lines}</g>'
    f'<use href="#ticks"/>{_bar(5, "wide")}{_bar(10, "near")}</svg>'
    f'<figcaption>{escape(caption)}</figcaption></figure>'
  )


def _locator(lesion, brain: pictures.Frame) -> str:
  width, height = brain.size(AXIAL)
  x, y = brain.place(lesion.centre_index, AXIAL)
  return (
    f'<figure class="locator"><svg viewBox="0 0 {width:.1f} {height:.1f}" '
    f'role="img" aria-label="Place in the brain, seen from below">'
    f'<use href="#glass-axial"/><path class="cross" d="M{x:.1f} 0V{y - 6:.1f}M'
    f'{x:.1f} {y + 6:.1f}V{height:.1f}M0 {y:.1f}H{x - 6:.1f}M{x + 6:.1f} '
    f'{y:.1f}H{width:.1f}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></svg>'
    '<figcaption>place</figcaption></figure>'
  )


def _verdict(name: str) -> str:
  buttons = ''.join(
    f'<button type="button" data-verdict="{value}" aria-pressed="false">'
    f'{label}<kbd>{key}</kbd></button>'
    for value, label, key in (
      ('accept', 'Accept', 'A'),
      ('reject', 'Reject', 'R'),
      ('unsure', 'Unsure', 'U'),
    )
  )
  mimics = ''.join(
    f'<button type="button" data-mimic="{value}" aria-pressed="false">'
    f'<kbd>{key}</kbd>{label}</button>'
    for key, (value, label) in enumerate(MIMICS, start=1)
  )
  return (
    f'<div class="verdict" role="group" aria-label="Verdict on {name}">'
    f'<div class="choices">{buttons}</div>'
    f'<div class="mimics" role="group" aria-label="What it is instead" hidden>'
    f'{mimics}</div>'
    f'<input type="text" class="comment" maxlength="500" '
    f'aria-label="Comment on {name}" placeholder="Comment"></div>'
  )


_COLUMNS = (
  'Lesion', 'Status', 'Likelihood', 'Probability', 'Diameter mm', 'Feret mm',
  'Volume mm³', 'Contrast', 'Region', 'x, y, z mm',
)  # fmt: skip


def table(lesions: Sequence, result) -> str:
  """The same numbers as one table, for reading down and for printing."""
  heads = ''.join(f'<th scope="col">{head}</th>' for head in _COLUMNS)
  lines = ''.join(_line(lesion, result) for lesion in lesions)
  return (
    '<div class="scroll" tabindex="0" role="region" aria-label="All numbers">'
    f'<table class="plain"><thead><tr>{heads}</tr></thead>'
    f'<tbody>{lines}</tbody></table></div>'
  )


def _line(lesion, result) -> str:
  cells = (
    lesion.status,
    f'{likelihood(lesion, result)} ± {number(lesion.spread)}'
    if lesion.likelihood is not None
    else DASH,
    number(lesion.probability),
    number(lesion.diameter_mm, 1),
    number(lesion.feret_mm, 1),
    number(lesion.volume_mm3, 1),
    number(lesion.contrast),
    region(lesion),
    ', '.join(number(x, 1) for x in lesion.centre_mm),
  )
  link = f'<a href="#{escape(lesion.id)}">{escape(lesion.id)}</a>'
  return (
    f'<tr><th scope="row">{link}</th>'
    + ''.join(f'<td>{escape(text)}</td>' for text in cells)
    + '</tr>'
  )
