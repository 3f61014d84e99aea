"""Is a scan like those that the networks were trained on?

Rule: a scan that differs is still analysed, and the result says in what.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax.detect.result import REJECTED

# How far beyond the training scans is still alike.
_SPACING = 1.25  # factor
_FIELD = 1.1  # factor
_ECHO = 1.3  # factor
_CONTRAST = 0.15  # added
_CANDIDATES = 2.5  # factor
_SMALL_MASK = 0.5  # of the smallest brain seen
_LARGEST_ML = 2200.0  # of an adult's brain and fluid

TOP = 10  # rejected candidates that are listed

_FEW_ML = 60.0  # a mask this small is not a brain, whatever was seen


def ranges(scans: Any) -> dict[str, Any]:
  """What is stored beside weights: smallest and largest of training scans.

  Args:
    scans: columns of M training scans: spacing_mm [M, 3], field_t,
      echo_time_s (NaN where not known), contrast, mask_ml, num_candidates.

  Returns:
    JSON types; a fact that no scan has is left out.
  """
  mask_ml = np.asarray(scans.mask_ml, float)
  mask_ml = np.where(mask_ml > 0, mask_ml, np.nan)  # `fit` knows no brain
  columns = {
    'echo_time_s': scans.echo_time_s,
    'contrast': scans.contrast,
    'mask_ml': mask_ml,
    'candidates_per_litre': np.asarray(scans.num_candidates) / mask_ml * 1000,
  }
  found: dict[str, Any] = {'scans': len(scans.num_candidates)}
  spacing = np.asarray(scans.spacing_mm, float)
  found['spacing_mm'] = [_range(column) for column in spacing.T]
  fields = np.asarray(scans.field_t, float)
  found['field_t'] = sorted(
    {round(float(f), 2) for f in fields[np.isfinite(fields)]}
  )
  for name, column in columns.items():
    span = _range(np.asarray(column, float))
    if span is not None:
      found[name] = span
  return found


def warnings(
  facts: Mapping[str, Any], domain: Mapping[str, Any]
) -> tuple[str, ...]:
  """What is unusual about a scan, one sentence each.

  Args:
    facts: spacing_mm, field_t, echo_time_s, contrast, mask_ml,
      candidates_per_litre; None where not known.
    domain: as `ranges` gives it; {} checks only what holds for every brain.
  """
  checks = (_spacing, _field, _echo, _contrast, _mask, _candidates)
  return tuple(text for check in checks if (text := check(facts, domain)))


def beyond(
  facts: Mapping[str, Any], domain: Mapping[str, Any]
) -> tuple[str, ...]:
  """As `warnings`, but not of a field that is only not known."""
  if facts['field_t'] is None:
    domain = {key: value for key, value in domain.items() if key != 'field_t'}
  return warnings(facts, domain)


def top_rejected(
  table: Mapping[str, np.ndarray], *, limit: int = TOP
) -> tuple[dict[str, Any], ...]:
  """The rejected candidates nearest to being found.

  First those that the networks saw, by likelihood, then those that a gate
  dropped, by score; half of the places are kept for each while both last.

  Args:
    table: `ScanResult.candidates`.
    limit: how many.

  Returns:
    Rows with id, centre_mm, score, likelihood (None where no network saw it)
    and reason.
  """
  likelihood = np.asarray(table['likelihood'], float)
  score = np.asarray(table['score'], float)
  rejected = np.asarray(table['status']) == REJECTED
  seen = np.flatnonzero(rejected & np.isfinite(likelihood))
  seen = seen[np.argsort(-likelihood[seen], kind='stable')]
  unseen = np.flatnonzero(rejected & ~np.isfinite(likelihood))
  unseen = unseen[np.argsort(-score[unseen], kind='stable')]
  # Where networks saw too few, gates fill up, and the other way round.
  half = max(limit - len(unseen), (limit + 1) // 2)
  chosen = [*seen[:half], *unseen][:limit]
  return tuple(
    {
      'id': f'candidate-{int(table["candidate"][n]):04d}',
      'centre_mm': tuple(
        round(float(table[f'{axis}_mm'][n]), 3) for axis in 'xyz'
      ),
      'score': float(f'{score[n]:.4g}'),
      'likelihood': round(float(likelihood[n]), 6)
      if np.isfinite(likelihood[n])
      else None,
      'reason': str(table['reason'][n]),
    }
    for n in chosen
  )


def _spacing(facts, domain):
  known = domain.get('spacing_mm')
  if not known:
    return ''
  here = facts['spacing_mm']
  if all(
    low / _SPACING <= side <= high * _SPACING
    for side, (low, high) in zip(here, known)
  ):
    return ''
  low, high = (_sizes([span[i] for span in known]) for i in (0, 1))
  seen = low if low == high else f'{low} to {high}'
  return (
    f'voxels of {_sizes(here)} mm differ from those trained on ({seen} mm); '
    'likelihoods may be off'
  )


def _field(facts, domain):
  known, here = domain.get('field_t'), facts['field_t']
  if not known:
    return ''
  seen = ', '.join(f'{f:g}' for f in known)
  if here is None:
    return (
      f'the field strength is not known; the networks were trained at {seen} T'
    )
  if any(f / _FIELD <= here <= f * _FIELD for f in known):
    return ''
  return f'the field of {here:g} T was not trained on (only {seen} T)'


def _echo(facts, domain):
  span, here = domain.get('echo_time_s'), facts['echo_time_s']
  if not span or here is None:
    return ''
  if span[0] / _ECHO <= here <= span[1] * _ECHO:
    return ''
  return (
    f'the echo time of {1000 * here:.3g} ms is outside those trained on '
    f'({_span([1000 * t for t in span])} ms)'
  )


def _contrast(facts, domain):
  span, here = domain.get('contrast'), facts['contrast']
  if not span or span[0] - _CONTRAST <= here <= span[1] + _CONTRAST:
    return ''
  more = 'less' if here < span[0] else 'more'
  return (
    f'dark structures stand out {more} ({here:.2f}) than in the scans trained '
    f'on ({_span(span)}); is it an SWI, not projected?'
  )


def _mask(facts, domain):
  here, span = facts['mask_ml'], domain.get('mask_ml', [_FEW_ML, _FEW_ML])
  low = max(_SMALL_MASK * span[0], 1.0)
  if low <= here <= _LARGEST_ML:
    return ''
  size = 'small' if here < low else 'large'
  return (
    f'the brain mask is {size} ({here:.0f} ml); look at it, or give one with '
    '--mask'
  )


def _candidates(facts, domain):
  span, here = domain.get('candidates_per_litre'), facts['candidates_per_litre']
  if not span or span[0] / _CANDIDATES <= here <= span[1] * _CANDIDATES:
    return ''
  many = 'few' if here < span[0] else 'many'
  return (
    f'{many} candidates ({here:.0f} per litre of brain) compared with the '
    f'scans trained on ({_span(span)})'
  )


def _range(column):
  column = column[np.isfinite(column)]
  if not len(column):
    return None
  return [round(float(column.min()), 5), round(float(column.max()), 5)]


def _span(values: Sequence[float]) -> str:
  low, high = (f'{v:.3g}' for v in values)
  return low if low == high else f'{low} to {high}'


def _sizes(values: Sequence[float]) -> str:
  return ' x '.join(f'{v:.3g}' for v in values)
