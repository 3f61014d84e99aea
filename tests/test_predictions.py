"""Tables join by key only, and refuse what does not fit."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.evaluation import predictions as lib
from tests.evaluation_data import make, table


def test_ensemble_is_the_mean_of_likelihoods():
  fold_models = np.array([[0.0, 0.2, 0.9], [0.3, 0.2, 0.5]])
  np.testing.assert_allclose(lib.ensemble(fold_models), [0.15, 0.2, 0.7])


def test_out_of_fold_takes_the_model_that_did_not_see_the_subject():
  every = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
  np.testing.assert_array_equal(
    lib.out_of_fold(every, np.array([1, 0, 1])), [0.4, 0.2, 0.6]
  )
  with pytest.raises(InputError, match=r'fold in 0\.\.1, found 0\.\.2'):
    lib.out_of_fold(every, np.array([0, 1, 2]))


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
  with pytest.raises(InputError, match='1 keys are in only one'):
    lib.align(p, lib.select(p, np.arange(1, len(p.key))))
  with pytest.raises(InputError, match='label of sub-000/sub-000/0000 diff'):
    lib.align(p, p._replace(label=np.append(1 - p.label[:1], p.label[1:])))
  other = p.subject.copy()
  other[0] = 'sub-999'
  with pytest.raises(InputError, match='subject of'):
    lib.align(p, p._replace(subject=other))


def test_other_folds_are_refused():
  with pytest.raises(InputError, match=r"'f0'.*'f1'.*equal folds"):
    lib.same_folds(table(), table(fold_hash='f1'))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'probability': np.nan}, 'likelihood nan'),
    ({'probability': 1.5}, r'likelihood 1\.5'),
    ({'label': 2}, 'label 2'),
    ({'key': 'sub-000/sub-000/0001'}, 'more than once'),
    ({'scan': 'sub-777'}, 'not in the list'),
    ({'scan': 'sub-001'}, 'another subject'),
  ],
)
def test_check_names_what_is_wrong(change, message):
  p, scans = make()
  for name, value in change.items():
    column = getattr(p, name).copy()
    column[0] = value
    p = p._replace(**{name: column})
  with pytest.raises(InputError, match=message):
    lib.check(p, scans)


def test_check_refuses_more_hits_than_lesions_and_nameless_lesions():
  p, scans = make()
  with pytest.raises(InputError, match='0 lesions, but'):
    lib.check(p, scans._replace(num_lesions=0 * scans.num_lesions))
  with pytest.raises(InputError, match='without the index'):
    lib.check(p._replace(lesion=0 * p.lesion))
  with pytest.raises(InputError, match='differ in length'):
    lib.check(p._replace(label=p.label[1:]))


def test_write_and_read_give_the_same_tables(tmp_path):
  written = [table(), table('finetuned', seed=3)]
  lib.write(tmp_path / 'predictions.npz', written)
  for a, b in zip(written, lib.read(tmp_path), strict=True):
    assert a[:2] == b[:2]
    assert a[5:] == b[5:]
    for x, y in zip((*a.predictions, *a.scans), (*b.predictions, *b.scans)):
      np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('part', [0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_named(tmp_path, part):
  path = tmp_path / 'predictions.npz'
  lib.write(path, [table(), table('finetuned', seed=3)])
  path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
  with pytest.raises(InputError, match=r'predictions.npz: '):
    lib.read(path)


def test_read_says_what_is_wrong(tmp_path):
  with pytest.raises(InputError, match='not found; give the folder'):
    lib.read(tmp_path)
  path = tmp_path / 'predictions.npz'
  lib.write(path, [table()])
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(InputError, match='not a prediction file'):
    lib.read(path)
