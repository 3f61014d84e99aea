"""Whether what was found in a scan may be given a grade.

Rule: a grade, an ARIA-H band or a pattern is withheld, with the reason and
what would change it, unless "definite" is known to be right on such scans.
"""

from collections.abc import Mapping
from typing import Any

from cmbjax.detect import domain
from cmbjax.detect.classifier import Classifier

WORDS = 'not established'
RIGHT = 0.8  # of what is called definite, at least
_FIELD, _SPACING = 1.1, 1.25  # factors; a kind of scan spans at most that
_OTHERS = (
  'weights that are known on such scans change that; cmbjax calibrate makes '
  'them from scans that you reviewed'
)
_IMAGE = 'give an SWI or a T2*-weighted gradient echo of the brain'


def missing(
  facts: Mapping[str, Any], classifier: Classifier | None, unlike_swi: str
) -> tuple[str, ...]:
  """Why no grade is given, one sentence each; () where one is.

  Args:
    facts: of the scan, as for `domain.warnings`.
    classifier: None: candidates that no network judged have no grade anyway.
    unlike_swi: of `contrast.unlike_swi`.
  """
  if classifier is None:
    return ()
  unknown = _unknown(facts, classifier)
  unlike = domain.beyond(facts, _compared(classifier))
  return (
    *([f'{unlike_swi}; {_IMAGE}'] if unlike_swi else ()),
    *(f'{text}; {_OTHERS}' for text in (*unlike, *unknown)),
  )


def said(reasons: tuple[str, ...]) -> tuple[str, ...]:
  """The warning that goes before the reasons of which all others are said."""
  if not reasons:
    return ()
  more = f' (and {len(reasons) - 1} more)' if len(reasons) > 1 else ''
  return (
    f'grade, ARIA-H band and pattern are {WORDS}, because {reasons[0]}{more}',
  )


def _compared(classifier):
  """The ranges that a scan is compared with beside the evidence."""
  if classifier.site:  # reviewed scans of the same site, whatever was trained
    return {}
  given = ('spacing_mm', 'field_t') if classifier.established else ()
  return {k: v for k, v in classifier.domain.items() if k not in given}


def _unknown(facts, classifier) -> tuple[str, ...]:
  """What is not known of the networks on scans of this kind."""
  kinds = classifier.established
  if classifier.site or not kinds:
    right = classifier.precision.get('high_precision')
    where = 'scans that were kept out'
  else:
    mine = [kind for kind in kinds if _covers(kind, facts)]
    if not mine:
      return (f'no scans like this one ({_kind(facts)}) were measured',)
    right = min(kind['precision'] for kind in mine)
    where = f'scans like this one ({_kind(facts)})'
  if right is None:
    return ('how often "definite" is right was never measured',)
  if right < RIGHT:
    return (f'"definite" was right for {right:.0%} only on {where}',)
  return ()


def _covers(kind, facts) -> bool:
  """Whether a kind of scan, as in operating_points.json, is that of a scan."""
  pairs = zip(facts['spacing_mm'], kind['spacing_mm'])
  if not all(a / _SPACING <= s <= b * _SPACING for s, (a, b) in pairs):
    return False
  low, high = kind['field_t']
  here = facts['field_t']
  return here is None or low / _FIELD <= here <= high * _FIELD


def _kind(facts) -> str:
  size = ' x '.join(f'{side:.3g}' for side in facts['spacing_mm'])
  field = facts['field_t']
  return f'{size} mm' + (f' at {field:.3g} T' if field else '')
