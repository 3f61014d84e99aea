"""Metrics from plain arrays are those of the tables."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cmbjax.errors import InputError
from cmbjax.evaluation import arrays
from cmbjax.evaluation import compare as compare_lib
from cmbjax.evaluation import metrics as metrics_lib
from tests.evaluation_data import make, rescored
from tests.messages import says


def columns(**options):
  p, scans = make(9, 30, seed=4, **options)
  return p, scans, (p.label, p.probability, p.subject)


@pytest.mark.parametrize('threshold', [0.1, 0.4])
def test_values_equal_sklearn(threshold):
  p, _, given = columns()
  found = arrays.metrics(*given, threshold=threshold)
  kept = p.probability > threshold
  by_hand = {
    'auc': sk.roc_auc_score(p.label, p.probability),
    'average_precision': sk.average_precision_score(p.label, p.probability),
    'sensitivity': sk.recall_score(p.label, kept),
    'specificity': sk.recall_score(1 - p.label, ~kept),
    'precision': sk.precision_score(p.label, kept),
    'f1': sk.f1_score(p.label, kept),
    'brier': sk.brier_score_loss(p.label, p.probability),
  }
  assert set(found) == {*by_hand, 'ece'}
  for name, value in by_hand.items():
    assert found[name].value == pytest.approx(value), name
    assert found[name].low < value < found[name].high, name


def test_intervals_are_over_subjects_and_at_the_level():
  p, scans, given = columns()
  for level in (0.8, 0.95):
    found = arrays.metrics(*given, level=level)
    tables = metrics_lib.evaluate(p, scans, level=level)
    assert found['auc'] == tables['auc']
    assert found['specificity'] == tables['fp_removed']
  assert arrays.metrics(p.label, p.probability, np.arange(len(p.label)))[
    'auc'
  ].high != pytest.approx(found['auc'].high)


def test_lists_numbers_and_booleans_are_taken():
  p, _, given = columns()
  number = np.unique(p.subject, return_inverse=True)[1]
  found = arrays.metrics(
    (p.label == 1).tolist(), p.probability.tolist(), number.tolist()
  )
  assert found == arrays.metrics(*given)


def test_two_scores_are_compared_on_the_same_subjects():
  p, scans, given = columns()
  q = rescored(p, seed=1)
  found = arrays.compare(
    *given[:2],
    q.probability,
    given[2],
    own={'mean': lambda y, score, subject: score.mean()},
  )
  tables = compare_lib.paired(p, q, scans)
  assert found['auc'] == tables['auc']
  assert found['average_precision'] == tables['average_precision']
  gap = p.probability.mean() - q.probability.mean()
  assert found['mean'].difference.value == pytest.approx(gap)


def test_one_class_is_a_note():
  found = arrays.metrics([0, 0], [0.2, 0.4], ['a', 'b'])
  assert found['auc'][:3] == (None, None, None)
  assert found['auc'].note == 'no microbleeds among the candidates'


@pytest.mark.parametrize(
  ('given', 'said'),
  [
    (([0, 1], [0.1], ['a', 'b']), ''),
    (([[0, 1]], [[0.1, 0.2]], [['a', 'b']]), ''),
    (([], [], []), ''),
    (([0, 2], [0.1, 0.2], ['a', 'b']), ''),
    (([0, 1], [0.1, 3.0], ['a', 'b']), '3.0'),
    (([0, 1], [0.1, np.nan], ['a', 'b']), ''),
    (([0, 1], ['x', 'y'], ['a', 'b']), ''),
  ],
)
def test_what_cannot_be_used_is_named(given, said):
  with says(InputError, said):
    arrays.metrics(*given)
