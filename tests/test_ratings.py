"""Hand-made lists of lesions and the scales that follow from them."""

from typing import NamedTuple

import pytest

from cmbjax.imaging import ratings


class Found(NamedTuple):
  region: str
  location: str
  status: str = 'definite'
  region_certain: bool = True
  counted: bool = True


LOBE = Found('frontal', 'lobar')
DEEP = Found('thalamus', 'deep')
STEM = Found('brainstem', 'infratentorial')
CEREBELLUM = Found('cerebellum', 'infratentorial')
LOST = Found('outside', 'unknown', region_certain=False)


@pytest.mark.parametrize(
  ('count', 'grade', 'band'),
  [
    (0, 0, 'none'),
    (1, 1, 'mild'),
    (4, 1, 'mild'),
    (5, 2, 'moderate'),
    (9, 2, 'moderate'),
    (10, 3, 'severe'),
    (19, 3, 'severe'),
    (20, 4, 'severe'),
  ],
)
def test_grade_and_band(count, grade, band):
  assert ratings.count_grade(count) == grade
  assert ratings.aria_h_band(count) == band


@pytest.mark.parametrize(
  ('lesions', 'expected'),
  [
    ([], 'none'),
    ([LOBE], 'strictly_lobar'),
    ([LOBE, CEREBELLUM], 'strictly_lobar'),
    ([LOBE, STEM], 'mixed'),
    ([LOBE, DEEP], 'mixed'),
    ([DEEP, CEREBELLUM], 'strictly_deep'),
    ([STEM, CEREBELLUM], 'infratentorial_only'),
    ([LOBE, LOST], 'unknown'),
    ([LOBE, DEEP, LOST], 'mixed'),
  ],
)
def test_pattern(lesions, expected):
  places = [(lesion.region, lesion.location) for lesion in lesions]
  assert ratings.pattern(places) == expected


def test_summary_counts_only_what_counts():
  lesions = [
    LOBE,
    LOBE._replace(region='occipital'),
    DEEP._replace(status='possible'),
    DEEP._replace(status='rejected'),
    DEEP._replace(counted=False),
  ]
  found = ratings.summarise(lesions)
  assert (found['definite'], found['possible']) == (2, 1)
  assert found['by_location'] == {
    'deep': {'definite': 0, 'possible': 1},
    'lobar': {'definite': 2, 'possible': 0},
  }
  assert found['by_region']['occipital'] == {'definite': 1, 'possible': 0}
  assert (found['grade'], found['grade_with_possible']) == (1, 1)
  assert found['pattern'] == 'strictly_lobar'
  assert found['strictly_lobar']
  assert 'research use' in found['note']


def test_one_lobar_lesion_is_no_pattern_to_rely_on():
  assert not ratings.summarise([LOBE])['strictly_lobar']


def test_uncertain_places_make_the_pattern_uncertain():
  unsure = LOBE._replace(region_certain=False)
  assert not ratings.summarise([LOBE, unsure])['pattern_certain']
  assert ratings.summarise([LOBE, DEEP, unsure])['pattern_certain']
  assert ratings.summarise([])['pattern_certain']
