"""DeLong, McNemar and Nadeau-Bengio against published values and scipy."""

import numpy as np
import pytest
from scipy import stats

from cmbjax.evaluation import classical as lib
from tests.evaluation_data import make, rescored

# Albumin, total protein, K-G score and outcome of 43 patients: the data of
# DeLong, DeLong and Clarke-Pearson (1988) as printed in the SAS/STAT manual,
# "Comparing Receiver Operating Characteristic Curves".
OVARIAN = """
  3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0
  2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1
  4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
  4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
  3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1
  3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
  2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1
  3.6 6.6 5 1
"""


def test_mcnemar_is_the_binomial_test():
  first = np.array([True] * 9 + [False] * 3 + [True] * 5)
  second = np.array([False] * 9 + [True] * 3 + [True] * 5)
  # 2 * sum_{k<=3} C(12, k) / 2^12 = 598 / 4096.
  assert lib.mcnemar(first, second) == pytest.approx(598 / 4096)
  assert lib.mcnemar(first, first) == 1.0


def test_delong_on_the_published_example():
  """AUCs .7366, .6478, .7258; differences from the K-G score as in SAS."""
  table = np.array(OVARIAN.split(), float).reshape(43, 4)
  albumin, protein, kg, outcome = table.T
  kg = 10 - kg
  first = lib.delong(albumin, kg, outcome)
  second = lib.delong(protein, kg, outcome)
  published = ((0.0108, -0.1761, 0.1976), (-0.0780, -0.2830, 0.1271))
  for test, values in zip((first, second), published):
    assert test.difference[:3] == pytest.approx(values, abs=6e-5)
  assert first.p == pytest.approx(0.9102, abs=6e-5)
  assert second.p == pytest.approx(0.4561, abs=6e-5)


def test_delong_variance_equals_the_double_sum_over_pairs():
  p, _ = make(3, 15, seed=9, ties=True)
  q = rescored(p, seed=2)
  found = lib.delong(p.probability, q.probability, p.label)
  pos, neg = p.label == 1, p.label == 0

  def kernel(s):
    gap = s[pos][:, None] - s[neg][None]
    return (gap > 0) + 0.5 * (gap == 0)

  psi = kernel(p.probability) - kernel(q.probability)
  variance = np.var(psi.mean(1), ddof=1) / pos.sum()
  variance += np.var(psi.mean(0), ddof=1) / neg.sum()
  z = psi.mean() / np.sqrt(variance)
  assert found.difference.value == pytest.approx(psi.mean())
  assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_delong_edge_cases():
  score, label = np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1])
  assert lib.delong(score, score, label).p is None
  score, label = np.arange(6.0), np.array([0, 1, 0, 1, 0, 1])
  assert lib.delong(score, score, label).p == 1.0


def test_nadeau_bengio_widens_the_paired_t():
  a = np.array([0.91, 0.93, 0.90, 0.95, 0.92])
  b = np.array([0.90, 0.90, 0.89, 0.92, 0.92])
  t = stats.ttest_rel(a, b)
  # n_test / n_train = 0 gives the ordinary paired t.
  plain = lib.nadeau_bengio(a, b, test_over_train=0.0)
  assert plain.p == pytest.approx(t.pvalue)
  low, high = t.confidence_interval(0.95)
  assert plain.difference[1:3] == pytest.approx((low, high))
  wide = lib.nadeau_bengio(a, b, test_over_train=1 / 4)
  # sqrt(1/5 + 1/4) / sqrt(1/5) = 1.5
  assert wide.p == pytest.approx(2 * stats.t.sf(t.statistic / 1.5, 4))
  assert lib.nadeau_bengio(a, a, test_over_train=0.25).p is None
  assert lib.nadeau_bengio(a[:1], b[:1], test_over_train=0.25).p is None
