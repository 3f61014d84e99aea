"""A grade is given where it is known to be right, else it is withheld."""

import types

import pytest

from cmbjax.detect import counts, established, records
from cmbjax.report import group_page, scan_page
from tests import scan_results

FACTS = {
  'spacing_mm': (0.8, 0.8, 3.0),
  'field_t': 1.5,
  'echo_time_s': 0.04,
  'contrast': 0.5,
  'mask_ml': 1300.0,
  'candidates_per_litre': 90.0,
}
DOMAIN = {
  'spacing_mm': [[0.8, 0.8], [0.8, 0.8], [3.0, 3.0]],
  'field_t': [1.5],
  'candidates_per_litre': [80.0, 120.0],
}
KIND = {
  'field_t': [1.5, 3.0],
  'spacing_mm': [[0.7, 1.0], [0.7, 1.0], [2.0, 3.0]],
  'precision': 0.85,
}


def missing(unlike='', *, facts=(), **known):
  values = {
    'domain': DOMAIN,
    'established': (),
    'site': {},
    'precision': {'high_precision': 0.9},
  }
  classifier = types.SimpleNamespace(**values | known)
  return established.missing(FACTS | dict(facts), classifier, unlike)


def test_a_scan_like_those_learned_has_a_grade():
  assert missing() == ()
  assert missing(facts={'field_t': None}) == ()  # only not known
  assert established.missing(FACTS, None, 'looks T1-weighted') == ()
  assert established.said(()) == ()


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'field_t': 7.0}, 'the field of 7 T'),
    ({'spacing_mm': (0.8, 0.8, 5.0)}, 'voxels of 0.8 x 0.8 x 5 mm'),
    ({'candidates_per_litre': 330.0}, 'many candidates (330'),
    ({'mask_ml': 3000.0}, 'brain mask is large'),
  ],
)
def test_a_scan_unlike_those_learned_has_none(change, words):
  (reason,) = missing(facts=change)
  assert words in reason
  assert 'cmbjax calibrate' in reason  # what would change it


def test_another_contrast_has_none_and_is_named():
  (reason,) = missing('the image looks T1-weighted: signs')
  assert reason.startswith('the image looks T1-weighted: signs; give an SWI')
  # Evidence of any kind is about SWIs.
  assert missing('it looks T1-weighted', site={'scans': 20})
  assert missing('it looks T1-weighted', established=(KIND,))


@pytest.mark.parametrize(
  ('precision', 'given'), [({'high_precision': 0.79}, False), ({}, False),
    ({'high_precision': 0.8}, True)],
)  # fmt: skip
def test_definite_has_to_be_right_in_four_of_five(precision, given):
  assert (missing(precision=precision) == ()) is given


def test_evidence_of_a_kind_goes_before_what_was_learned():
  elsewhere = {'domain': DOMAIN | {'field_t': [7.0]}, 'established': (KIND,)}
  assert missing(**elsewhere) == ()
  (reason,) = missing(established=(KIND | {'precision': 0.6},))
  assert '60% only on scans like this one (0.8 x 0.8 x 3 mm at 1.5 T)' in reason
  (reason,) = missing(facts={'field_t': 7.0}, **elsewhere)
  assert 'no scans like this one (0.8 x 0.8 x 3 mm at 7 T)' in reason
  # The worse one of two kinds that a scan may be of.
  assert missing(established=(KIND, KIND | {'precision': 0.7}))


def test_reviewed_scans_of_a_site_are_evidence():
  other = {'candidates_per_litre': 900.0, 'field_t': 7.0}
  assert len(missing(facts=other)) == 2
  site = {'scans': 20}
  assert missing(facts=other, site=site) == ()
  assert missing(facts=other, site=site, precision={'high_precision': 0.5})


def test_withheld_everywhere_with_the_reason():
  made = scan_results.make(3, 2, 1)
  tally = counts.count(
    made.lesions,
    classified=True,
    missing=('it looks T1-weighted; give an SWI',),
  )
  made = scan_results.make(
    3, 2, 1, counts=tally | {'proposed': 9, 'candidates': 6}
  )
  assert tally['definite'] == 3  # counts stay: they are what was found
  for name in ('grade', 'aria_h', 'pattern', 'strictly_lobar'):
    assert tally[name] is None
  row = records.group_row(made)
  assert row['grade'] is None
  assert row['not_established'] == 'it looks T1-weighted; give an SWI'
  page = scan_page.page(made)
  assert 'Not established: it looks T1-weighted; give an SWI' in page
  assert '3 definite' not in page.split('Count grade')[1][:200]
  assert group_page.page([row]).count('not established') == 3


def test_what_is_established_is_shown_as_before():
  row = records.group_row(scan_results.make(3, 2, 1))
  assert row['grade'] == 1
  assert row['not_established'] == ''
  assert 'not established' not in group_page.page([row])
