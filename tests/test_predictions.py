"""Tables join by key only, and refuse what does not fit."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import prediction_files
from cmbjax.evaluation import predictions as lib
from tests.evaluation_data import make, table
from tests.messages import says


def test_ensemble_is_the_mean_of_likelihoods():
  fold_models = np.array([[0.0, 0.2, 0.9], [0.3, 0.2, 0.5]])
  np.testing.assert_allclose(lib.ensemble(fold_models), [0.15, 0.2, 0.7])


def test_out_of_fold_is_the_mean_of_those_that_did_not_see_the_subject():
  nan = np.nan
  likelihood = np.array(
    [[nan, 0.2, nan], [0.4, nan, 0.6], [nan, 0.4, nan], [0.8, nan, 0.0]]
  )
  fold, seed = np.array([0, 1, 0, 1]), np.array([0, 0, 7, 7])
  networks = lib.Networks(likelihood, fold, seed)
  found = lib.by_seed(networks)
  np.testing.assert_allclose(found, [[0.4, 0.2, 0.6], [0.8, 0.4, 0.0]])
  np.testing.assert_allclose(lib.ensemble(found), [0.6, 0.3, 0.3])
  with says(InputError):
    lib.by_seed(
      networks._replace(seed=np.array([0, 0, 0, 0]))._replace(
        likelihood=np.where(fold[:, None] == 0, nan, likelihood)
      )
    )


def whole(**change):
  """A table with everything: two folds, two seeds, all true lesions."""
  base = table(num_subjects=4, per_scan=5)
  p, scans = base.predictions, base.scans
  fold_of = (p.subject > 'sub-001').astype(int)
  fold, seed = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
  likelihood = p.probability + np.array([0.0, 0.0, 1e-3, 1e-3])[:, None]
  likelihood[fold[:, None] != fold_of] = np.nan
  networks = lib.Networks(likelihood.astype(np.float32), fold, seed)
  by_seed = lib.by_seed(networks)
  count = scans.num_lesions
  number = np.concatenate([np.arange(1, n + 1) for n in count])
  true = lib.TrueLesions(
    scan=np.repeat(scans.scan, count),
    subject=np.repeat(scans.subject, count),
    lesion=number,
    diameter_mm=np.full(len(number), 2.5),
    region=np.full(len(number), 'thalamus'),
    why=np.full(len(number), ''),
  )
  return base._replace(
    predictions=p._replace(probability=lib.ensemble(by_seed)),
    by_seed=by_seed,
    kind=lib.OUT_OF_FOLD,
    networks=networks,
    fold_of=fold_of,
    lesions=true,
  )._replace(**change)


def test_a_table_with_everything_survives_the_disk(tmp_path):
  one = whole()
  prediction_files.write(tmp_path / 'predictions.npz', [one, table()])
  again, plain = prediction_files.read(tmp_path)
  assert (again.kind, plain.kind) == (lib.OUT_OF_FOLD, lib.ENSEMBLE)
  assert plain.networks is plain.lesions is plain.fold_of is None
  for part in ('networks', 'lesions'):
    for a, b in zip(getattr(one, part), getattr(again, part), strict=True):
      np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(one.fold_of, again.fold_of)


def test_a_table_whose_means_are_not_means_is_refused():
  one = whole()
  prediction_files.check_table(one)
  wrong = one.predictions._replace(probability=0.5 * one.by_seed[0])
  with says(InputError):
    prediction_files.check_table(one._replace(predictions=wrong))
  with says(InputError):
    prediction_files.check_table(one._replace(by_seed=one.by_seed[:, 1:]))
  networks = one.networks._replace(likelihood=0.5 * one.networks.likelihood)
  with says(InputError):
    prediction_files.check_table(one._replace(networks=networks))
  with says(InputError):
    prediction_files.check_table(one._replace(fold_of=1 - one.fold_of))
  with says(InputError, 'fold_of'):
    prediction_files.check_table(one._replace(fold_of=None))
  fewer = lib.TrueLesions(*(column[1:] for column in one.lesions))
  with says(InputError):
    prediction_files.check_table(one._replace(lesions=fewer))
  with says(InputError, "'x'"):
    prediction_files.check_table(one._replace(kind='x'))


def test_likelihood_of_true_lesions_is_that_of_their_best_candidate():
  p, _ = make(2, 3)
  p = p._replace(
    label=np.array([1, 1, 0, 1, 0, 0]),
    lesion=np.array([4, 4, 0, 4, 0, 0]),
    probability=np.array([0.2, 0.7, 0.9, 0.1, 0.0, 0.0]),
  )
  empty = np.array(['', '', ''])
  true = lib.TrueLesions(
    scan=np.array(['sub-001', 'sub-000', 'sub-000']),
    subject=np.array(['sub-001', 'sub-000', 'sub-000']),
    lesion=np.array([4, 4, 5]),
    diameter_mm=np.zeros(3),
    region=empty,
    why=empty,
  )
  found = lib.lesion_likelihood(p, true)
  np.testing.assert_array_equal(found, [0.1, 0.7, np.nan])


def test_lesions_are_counted_once_with_their_best_candidate():
  p, _ = make(2, 3)
  p = p._replace(
    label=np.array([1, 1, 0, 1, 0, 0]),
    lesion=np.array([4, 4, 0, 4, 0, 0]),
    probability=np.array([0.2, 0.7, 0.9, 0.1, 0.0, 0.0]),
  )
  scan, best = lib.lesions(p)
  assert scan.tolist() == ['sub-000', 'sub-001']
  np.testing.assert_allclose(best, [0.7, 0.1])


def test_align_reorders_by_key():
  p, _ = make()
  order = np.random.default_rng(1).permutation(len(p.key))
  aligned = lib.align(p, lib.select(p, order))
  for a, b in zip(p, aligned):
    np.testing.assert_array_equal(a, b)


def test_align_refuses_other_keys_labels_and_subjects():
  p, _ = make()
  with says(InputError):
    lib.align(p, lib.select(p, np.arange(1, len(p.key))))
  with says(InputError, 'sub-000/sub-000/0000'):
    lib.align(p, p._replace(label=np.append(1 - p.label[:1], p.label[1:])))
  other = p.subject.copy()
  other[0] = 'sub-999'
  with says(InputError):
    lib.align(p, p._replace(subject=other))


def test_other_folds_tests_and_scans_are_refused():
  one = table()
  lib.same_test(one, table('finetuned', seed=0))
  with says(InputError, "'f0' 'f1'"):
    lib.same_test(one, table(fold_hash='f1'))
  with says(InputError, "'btumor_3t' 'ccm_3t'"):
    lib.same_test(one, table(test='ccm_3t'))
  with says(InputError):
    lib.same_test(one, one._replace(kind=lib.OUT_OF_FOLD))
  more = one.scans._replace(num_lesions=one.scans.num_lesions + 1)
  with says(InputError, 'num_lesions'):
    lib.same_test(one, one._replace(scans=more))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'probability': np.nan}, ''),
    ({'probability': 1.5}, '1.5'),
    ({'label': 2}, ''),
    ({'key': 'sub-000/sub-000/0001'}, ''),
    ({'scan': 'sub-777'}, ''),
    ({'scan': 'sub-001'}, ''),
  ],
)
def test_check_names_what_is_wrong(change, message):
  p, scans = make()
  for name, value in change.items():
    column = getattr(p, name).copy()
    column[0] = value
    p = p._replace(**{name: column})
  with says(InputError, message):
    lib.check(p, scans)


def test_check_refuses_more_hits_than_lesions_and_nameless_lesions():
  p, scans = make()
  with says(InputError):
    lib.check(p, scans._replace(num_lesions=0 * scans.num_lesions))
  with says(InputError):
    lib.check(p._replace(lesion=0 * p.lesion))
  with says(InputError):
    lib.check(p._replace(label=p.label[1:]))


def test_write_and_read_give_the_same_tables(tmp_path):
  written = [table(), table('finetuned', seed=3)]
  prediction_files.write(tmp_path / 'predictions.npz', written)
  for a, b in zip(written, prediction_files.read(tmp_path), strict=True):
    assert a[:2] == b[:2]
    assert a[5:9] == b[5:9]
    for x, y in zip((*a.predictions, *a.scans), (*b.predictions, *b.scans)):
      np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('part', [0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_named(tmp_path, part):
  path = tmp_path / 'predictions.npz'
  prediction_files.write(path, [table(), table('finetuned', seed=3)])
  path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
  with says(InputError, 'predictions.npz'):
    prediction_files.read(path)


def test_read_says_what_is_wrong(tmp_path):
  with says(InputError):
    prediction_files.read(tmp_path)
  path = tmp_path / 'predictions.npz'
  prediction_files.write(path, [table()])
  path.write_bytes(path.read_bytes()[:300])
  with says(InputError):
    prediction_files.read(path)


@pytest.mark.parametrize('order', [[0, 1, 2], [2, 1, 0]])
def test_a_lesion_is_as_likely_as_its_likeliest_candidate(order):
  p = lib.Predictions(
    key=np.array(['a/1', 'a/2', 'a/3']),
    subject=np.full(3, 'a'),
    scan=np.full(3, 'a'),
    cohort=np.full(3, 'c'),
    label=np.ones(3, int),
    lesion=np.array([1, 1, 2]),
    probability=np.array([0.9, 0.3, 0.5]),
  )
  p = lib.select(p, np.array(order))
  true = lib.TrueLesions(
    scan=np.full(3, 'a'),
    subject=np.full(3, 'a'),
    lesion=np.array([2, 3, 1]),
    diameter_mm=np.full(3, 2.0),
    region=np.full(3, ''),
    why=np.array(['', 'never', '']),
  )
  np.testing.assert_array_equal(
    lib.lesion_likelihood(p, true), [0.5, np.nan, 0.9]
  )


def test_hit_and_missed_lesions_are_no_more_than_there_are():
  p, scans = make(3, 20, rate=0.5)
  lib.check(p, scans)
  more = scans._replace(num_missed=scans.num_missed + 1)
  with says(InputError, '000'):
    lib.check(p, more)
