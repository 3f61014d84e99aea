"""Counted lesions to the rating scales that people report.

Rule: pure functions of counts and places; only lesions that count (not the
rejected, not those above 10 mm) go in. For research: a scale is a summary of
what was found, not a diagnosis.
"""

import collections

GRADES = ((20, 4), (10, 3), (5, 2), (1, 1))  # at least so many, grade
ARIA_H = ((10, 'severe'), (5, 'moderate'), (1, 'mild'))
RESEARCH_USE = (
  'For research use only. The ARIA-H band is meant for new microhaemorrhages '
  'under treatment: from one scan all of them are counted. The pattern is one '
  'part of the Boston criteria and no diagnosis.'
)


def count_grade(count: int) -> int:
  """Grade 0..4: none, 1-4, 5-9, 10-19, 20 or more microbleeds."""
  return next((grade for least, grade in GRADES if count >= least), 0)


def aria_h_band(new_count: int) -> str:
  """'none', 'mild' 1-4, 'moderate' 5-9, 'severe' 10 or more.

  Radiographic severity of new microhaemorrhages (Cogswell et al., AJNR 2022).
  """
  return next((band for least, band in ARIA_H if new_count >= least), 'none')


def pattern(places: list[tuple[str, str]]) -> str:
  """Distribution of microbleeds.

  Args:
    places: (region, location) of each lesion, as of `regions.Place`.

  Returns:
    'none', 'strictly_lobar', 'strictly_deep', 'mixed', 'infratentorial_only',
    or 'unknown' when a place is unknown and it matters. Cerebellar lesions
    are neither lobar nor deep (Charidimou et al., Lancet Neurol 2022: Boston
    criteria 2.0); those of the brainstem go with the deep ones.
  """
  if not places:
    return 'none'
  lobar = any(location == 'lobar' for _, location in places)
  deep = any(location == 'deep' for _, location in places)
  stem = any(region == 'brainstem' for region, _ in places)
  if lobar and (deep or stem):
    return 'mixed'
  if any(location == 'unknown' for _, location in places):
    return 'unknown'
  if lobar:
    return 'strictly_lobar'
  return 'strictly_deep' if deep else 'infratentorial_only'


def summarise(lesions) -> dict:
  """Counts, grades and pattern of one scan.

  Args:
    lesions: objects with status ('definite', 'possible', 'rejected'), region,
      location, region_certain (bool) and counted (bool).

  Returns:
    dict: definite, possible (counts); by_region and by_location (name ->
    {definite, possible}); grade, aria_h (of the definite ones) and the same
    with_possible; pattern, pattern_certain (no uncertain place could change
    it), strictly_lobar (two or more, all certain of place or not), and note.
  """
  counted = [
    lesion
    for lesion in lesions
    if lesion.counted and lesion.status in ('definite', 'possible')
  ]
  definite = [lesion for lesion in counted if lesion.status == 'definite']
  places = [(lesion.region, lesion.location) for lesion in definite]
  sure = [(le.region, le.location) for le in definite if le.region_certain]
  found = pattern(places)
  lobar = sum(location == 'lobar' for _, location in places)
  return {
    'definite': len(definite),
    'possible': len(counted) - len(definite),
    'by_region': _table(counted, 'region'),
    'by_location': _table(counted, 'location'),
    'grade': count_grade(len(definite)),
    'grade_with_possible': count_grade(len(counted)),
    'aria_h': aria_h_band(len(definite)),
    'aria_h_with_possible': aria_h_band(len(counted)),
    'pattern': found,
    'pattern_certain': len(sure) == len(places)
    or (found == 'mixed' == pattern(sure)),
    'strictly_lobar': found == 'strictly_lobar' and lobar >= 2,
    'note': RESEARCH_USE,
  }


def _table(lesions, field) -> dict[str, dict[str, int]]:
  counts = collections.Counter(
    (getattr(lesion, field), lesion.status) for lesion in lesions
  )
  names = sorted({name for name, _ in counts})
  return {
    name: {s: counts[name, s] for s in ('definite', 'possible')}
    for name in names
  }
