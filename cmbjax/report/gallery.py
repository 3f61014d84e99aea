"""Patches to galleries: what a strategy removes, what was missed.

Rule: a picture shows slices from below upwards with the patient's right on
the left, and its likelihoods stand above it.
"""

import base64
import html
from collections.abc import Sequence

from cmbjax.evaluation import metrics
from cmbjax.report import figures
from cmbjax.report.tables import Patch, StudyTables, likelihood_text

escape = html.escape

_VIEW = (
  'Consecutive axial slices through the patch from below upwards, the '
  "patient's right on the left."
)


def removed(study: StudyTables) -> str:
  """False candidates that a strategy removes after its start."""
  if not study.removed:
    return ''
  threshold = _threshold(study)
  before, after, test = (
    escape(label or other)
    for label, other in zip(
      study.removed_by, ('one strategy', 'another', 'one test set')
    )
  )
  return (
    f'<p class="sub">Mimics of {test} that {before} calls microbleeds '
    f'(likelihood above {threshold:g}, <b class="c-before">red</b>) and '
    f'{after} does not (<b class="c-after">green</b>). '
    f'{_VIEW}</p>' + _slices(study.removed, threshold)
  )


def misses(study: StudyTables) -> str:
  """Lesions that were lost and mimics that were kept."""
  if not study.misses:
    return ''
  return (
    '<p class="sub">Lesions that were missed, and the errors with the '
    f'largest likelihood. {_VIEW}</p>'
    + _slices(study.misses, _threshold(study))
  )


def _threshold(study: StudyTables) -> float:
  return study.record.get('threshold', metrics.THRESHOLD)


def _slices(patches: Sequence[Patch], threshold: float) -> str:
  lines = []
  for patch in patches:
    numbers = ''.join(
      f'<b class="{colour}">{likelihood_text(value, threshold)}</b> '
      for value, colour in (
        (patch.before, 'c-before'),
        (patch.after, 'c-after'),
      )
      if value is not None
    )
    image = '<span class="small">no image</span>'
    if patch.image.size:
      data = base64.b64encode(figures.patch_png(patch.image)).decode()
      image = (
        f'<img src="data:image/png;base64,{data}" '
        f'alt="Axial slices of {escape(patch.key)}">'
      )
    lines.append(
      f'<figure><figcaption>{numbers}<span class="key">{escape(patch.key)}'
      f'</span>{escape(patch.caption)}</figcaption>{image}</figure>'
    )
  return f'<div class="slices">{"".join(lines)}</div>'
