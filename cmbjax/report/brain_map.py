"""Lesions of one scan to a map: the brain in three planes, and its slices.

Rule: a marker's shape says the status (filled definite, ring possible, cross
rejected), so that the map can be read without colours.
"""

import html
from collections.abc import Sequence

from cmbjax.report import lesion_cards, pictures
from cmbjax.report.pictures import AXIAL, CORONAL, PLANES, SAGITTAL, Frame

escape = html.escape


def symbols(swi, mask, brain: Frame) -> str:
  """The pictures that several drawings share, once."""
  parts = []
  for plane in PLANES:
    width, height = brain.size(plane)
    picture = pictures.glass(swi, mask, brain, plane)
    parts.append(
      f'<symbol id="glass-{plane.name}" viewBox="0 0 {width:.1f} '
      f'{height:.1f}" width="{width:.1f}" height="{height:.1f}">'
      f'{picture.element()}</symbol>'
    )
  return (
    '<svg class="symbols" aria-hidden="true"><defs>'
    + ''.join(parts)
    + _ticks()
    + '</defs></svg>'
  )


def _ticks() -> str:
  """Marks at the edge of a crop that point to its middle."""
  half = lesion_cards.FIELD_MM / 2
  d = ''.join(
    (
      f'M0 {-half:g}v1.6M0 {half:g}v-1.6',
      f'M{-half:g} 0h1.6M{half:g} 0h-1.6',
    )
  )
  return f'<path id="ticks" class="ticks" d="{d}"/>'


def glass(lesions: Sequence, result, brain: Frame) -> str:
  """Axial large, coronal and sagittal beside it, all at one scale."""
  beside = max(brain.size(CORONAL)[0], brain.size(SAGITTAL)[0])
  panels = {
    plane.name: _plane(
      lesions, result, brain, plane, share=brain.size(plane)[0] / beside
    )
    for plane in PLANES
  }
  columns = f'{brain.size(AXIAL)[0]:.1f}fr {beside:.1f}fr'
  return (
    f'<div class="glass" style="--columns:{columns}">{panels["axial"]}'
    f'<div>{panels["coronal"]}{panels["sagittal"]}</div></div>'
  )


def _plane(lesions, result, brain: Frame, plane, *, share: float) -> str:
  width, height = brain.size(plane)
  marks = ''.join(
    marker(lesion, result, *brain.place(lesion.centre_index, plane))
    for lesion in reversed(lesions)
  )
  sides = ('R', 'L') if plane is not SAGITTAL else ('A', 'P')
  letters = ''.join(
    f'<text x="{x:.1f}" y="{height / 2:.1f}" text-anchor="{anchor}">{text}'
    '</text>'
    for x, anchor, text in (
      (3, 'start', sides[0]),
      (width - 3, 'end', sides[1]),
    )
  )
  return (
    f'<figure><svg viewBox="0 0 {width:.1f} {height:.1f}" role="img" '
    f'aria-label="{plane.name} view with the lesions" '
    f'style="--share:{100 * share:.1f}%">'
    f'<use href="#glass-{plane.name}"/>{letters}{marks}</svg>'
    f'<figcaption>{plane.name}</figcaption></figure>'
  )


def marker(lesion, result, x: float, y: float, *, least: float = 2.2) -> str:
  """A link to the lesion's card; a ring of at least so many mm."""
  radius = max(lesion_cards.size_mm(lesion) / 2 + 0.9, least)
  if lesion.status == 'rejected':
    shape = f'<path d="M{x - 1.6:.1f} {y - 1.6:.1f}l3.2 3.2m0 -3.2l-3.2 3.2"/>'
  else:
    radius = min(radius, 7.0)
    shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
  title = f'{lesion.id}, {lesion.status}'
  if lesion.likelihood is not None:
    title += f', likelihood {lesion_cards.likelihood(lesion, result)}'
  return (
    f'<a href="#{escape(lesion.id)}" class="at" tabindex="-1" '
    f'data-of="{escape(lesion.id)}" data-status="{escape(lesion.status)}">'
    f'<title>{escape(title)}</title>{shape}</a>'
  )


def slices(lesions: Sequence, result, brain: Frame) -> str:
  """Thin minimum projections from above downwards, with the lesions."""
  width, height = brain.size(AXIAL)
  tiles = []
  for first, stop, picture in pictures.slabs(result.swi, brain):
    inside = [
      lesion for lesion in lesions if first <= lesion.centre_index[2] < stop
    ]
    marks = ''.join(
      marker(
        lesion, result, *brain.place(lesion.centre_index, AXIAL), least=5.0
      )
      for lesion in reversed(inside)
    )
    span = f'slice {first + 1}'
    if stop - first > 1:
      span = f'slices {first + 1}–{stop}'
    found = sum(lesion.status != 'rejected' for lesion in inside)
    count = f'<b>{found}</b>' if found else ''
    tiles.append(
      f'<figure><svg viewBox="0 0 {width:.1f} {height:.1f}" role="img" '
      f'aria-label="{span}, {found} lesions">{picture.element()}{marks}</svg>'
      f'<figcaption>{span}{count}</figcaption></figure>'
    )
  return f'<div class="tiles">{"".join(tiles)}</div>'
