"""Simulated scores with a known truth, for the tests of evaluation."""

import numpy as np

from cmbjax.evaluation.predictions import (
  Predictions,
  PredictionTable,
  ScanCounts,
)
from tests.claims import COHORT_LABELS, LABELS


def make(
  num_subjects=6, per_scan=20, *, seed=0, lift=1.5, rate=0.3, ties=False
):
  """One scan per subject; one lesion per subject that nothing reached."""
  rng = np.random.default_rng(seed)
  owner = np.repeat(np.arange(num_subjects), per_scan)
  subject = np.array([f'sub-{i:03d}' for i in owner])
  label = (rng.random(len(owner)) < rate).astype(int)
  shift = rng.normal(0, 0.5, num_subjects)[owner]
  score = lift * label + shift + rng.normal(size=len(owner)) - 2
  probability = 1 / (1 + np.exp(-score))
  if ties:
    probability = np.round(probability, 1)
  lesion = np.where(label == 1, np.arange(len(owner)) % per_scan + 1, 0)
  key = np.array([f'{s}/{s}/{i % per_scan:04d}' for i, s in enumerate(subject)])
  names = np.array([f'sub-{i:03d}' for i in range(num_subjects)])
  found = np.bincount(owner, label, minlength=num_subjects).astype(int)
  missed = np.ones(num_subjects, int)
  return (
    Predictions(
      key,
      subject,
      subject.copy(),
      np.full(len(owner), 'btumor_3t'),
      label,
      lesion,
      probability,
    ),
    ScanCounts(names, names.copy(), found + missed, missed),
  )


def table(strategy='7t', test='btumor_3t', *, fold_hash='f0', **options):
  """A `PredictionTable` of `make` with one seed and the labels of the paper."""
  p, scans = make(**options)
  return PredictionTable(
    strategy,
    test,
    p,
    scans,
    p.probability[None],
    fold_hash,
    strategy_label=LABELS.get(strategy, ''),
    test_label=COHORT_LABELS.get(test, ''),
  )


def rescored(predictions, *, seed, noise=0.8, lift=0.0):
  """The same candidates as another model would rate them."""
  rng = np.random.default_rng(seed)
  p = np.clip(predictions.probability, 1e-6, 1 - 1e-6)
  logit = np.log(p / (1 - p)) + lift * predictions.label
  logit = logit + noise * rng.normal(size=len(p))
  return predictions._replace(probability=1 / (1 + np.exp(-logit)))


def check_interval(one, name, *, inside=True):
  """Finite and in order, or without a bound and with a reason."""
  if one.value is None or one.low is None:
    assert one.note, name
    assert one.low is one.high is None, name
    assert one.value is None or np.isfinite(one.value), name
    return
  assert np.isfinite(one[:3]).all(), name
  assert one.low - 1e-12 <= one.high, name
  if inside:
    assert one.low - 1e-12 <= one.value <= one.high + 1e-12, name
