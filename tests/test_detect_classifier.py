"""Weights of a study to likelihoods, as the networks themselves give them."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from cmbjax import sealed
from cmbjax.data import augment
from cmbjax.detect import classifier, points
from cmbjax.errors import InputError, NoInputError
from cmbjax.weights import catalogue
from tests import lesion_data
from tests.messages import says


@pytest.fixture(scope='module')
def stored(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights') / 'w'
  return folder, *lesion_data.write_weights(folder, networks=2)


@pytest.fixture(scope='module')
def patches():
  rng = np.random.default_rng(0)
  return rng.uniform(size=(classifier.BATCH + 3, 24, 24, 12)).astype('f4')


def test_likelihoods_are_those_of_each_network(stored, patches):
  folder, network, weights = stored
  found = classifier.load(folder).likelihood(patches)
  assert found.shape == (2, len(patches))
  # Half precision, as the stored patches of training.
  seen = augment.centre_crop(patches.astype(np.float16).astype(np.float32))
  apply = jax.jit(lambda w, x: network.apply(w, x, train=False))
  for k in range(2):
    mine = jax.tree.map(lambda leaf, k=k: leaf[k], weights)._asdict()
    logits = apply(mine, seen[: classifier.BATCH, ..., None])
    expected = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    np.testing.assert_allclose(
      found[k, : classifier.BATCH], expected, atol=1e-6
    )


def test_a_patch_has_one_likelihood_in_any_company(stored, patches):
  known = classifier.load(stored[0])
  together = known.likelihood(patches)
  np.testing.assert_allclose(
    known.likelihood(patches[-1:]), together[:, -1:], atol=1e-6
  )
  assert known.likelihood(patches[:0]).shape == (2, 0)


@pytest.mark.parametrize(
  'shape', [(3, 24, 24, 12, 2), (24, 24, 12), (3, 28, 28, 16)]
)
def test_patches_of_another_shape_are_refused(stored, shape):
  known = classifier.load(stored[0])
  found = known.likelihood(np.full((3, 24, 24, 12, 1), 0.5, np.float32))
  assert found.shape == (2, 3)
  with says(InputError, 'patches'):
    known.likelihood(np.zeros(shape, np.float32))


def test_mirrored_likelihoods_are_the_mean_over_all_flips(stored, patches):
  """As the points file says, and the fingerprint with it."""
  known, few = classifier.load(stored[0]), patches[:5]
  axes = [tuple(np.flatnonzero(f) + 1) for f in np.ndindex(2, 2, 2)]
  by_hand = np.mean([known.likelihood(np.flip(few, a)) for a in axes], axis=0)
  path = stored[0] / 'operating_points.json'
  text = path.read_text()
  sealed.write_json(path, sealed.read_json(path) | {'mirrored': True})
  try:
    both = classifier.load(stored[0])
  finally:
    path.write_text(text)
  assert (known.mirrored, both.mirrored) == (False, True)
  assert known.fingerprint != both.fingerprint
  np.testing.assert_allclose(both.likelihood(few), by_hand, atol=1e-12)
  assert np.abs(by_hand - known.likelihood(few)).max() > 1e-6
  np.testing.assert_allclose(
    both.likelihood(np.flip(few, 2)), by_hand, atol=1e-6
  )


def test_points_come_from_the_folder(stored):
  known = classifier.load(stored[0])
  assert known.threshold('balanced') == 0.001
  with says(InputError, 'high_sensitivity'):
    known.threshold('best')


def test_fingerprint_follows_the_points(tmp_path, stored):
  assert classifier.described(stored[0]).fingerprint == (
    classifier.load(stored[0]).fingerprint
  )
  before = classifier.described(stored[0]).fingerprint
  path = stored[0] / 'operating_points.json'
  text = path.read_text()
  known = json.loads(text.replace('0.999', '0.998'))
  sealed.write_json(path, {k: known[k] for k in known if k != sealed.SEAL})
  assert classifier.described(stored[0]).fingerprint != before
  path.write_text(text)


def test_weights_without_points_have_the_papers(tmp_path, stored):
  path = stored[0] / 'operating_points.json'
  text = path.read_text()
  path.unlink()
  try:
    known = classifier.load(stored[0])
  finally:
    path.write_text(text)
  assert known.points == {'high_sensitivity': 0.1, 'high_precision': 0.5}
  np.testing.assert_array_equal(known.probability(np.array([0.3])), [0.3])


def test_changed_points_are_not_believed(stored):
  path = stored[0] / 'operating_points.json'
  text = path.read_text()
  path.write_text(text.replace('0.999', '0.998'))
  try:
    with says(InputError):
      classifier.load(stored[0])
    known = json.loads(text)
    del known[sealed.SEAL]
    path.write_text(json.dumps(known))
    with says(InputError):
      classifier.load(stored[0])
  finally:
    path.write_text(text)


def test_a_run_chooses_changed_points_again_with_a_word(
  tmp_path, capsys, monkeypatch
):
  chosen = {'points': {'high_sensitivity': {'threshold': 0.1}}}
  monkeypatch.setattr(
    points.operating_points, 'choose', lambda *_, **__: chosen
  )
  monkeypatch.setattr(points.operating_points, 'counts', lambda *_: {})
  monkeypatch.setattr(points.domain, 'ranges', lambda _: {})
  for name in ('of_examples', 'counts_of'):
    monkeypatch.setattr(points.predictions, name, lambda *_: None)
  scans = types.SimpleNamespace(simulated=np.ones(1), cohort=np.array(['a']))
  how = {'fingerprint': 'f', 'threshold': 0.1, 'mirrored': False}
  how |= dict.fromkeys(('fold_of', 'likelihood'))
  how['examples'] = types.SimpleNamespace(label=None)
  path = tmp_path / 'operating_points.json'
  for _ in range(2):
    points.store(tmp_path, scans=scans, **how)
    assert capsys.readouterr().err == ''
  written = path.read_text()
  path.write_text(written.replace('0.1', '0.10001', 1))
  points.store(tmp_path, scans=scans, **how)
  assert 'differs from its digest' in capsys.readouterr().err
  assert path.read_text() == written


def test_damaged_weights_end_before_any_scan(tmp_path, stored):
  folder = tmp_path / 'w'
  shutil.copytree(stored[0], folder)
  classifier.check(folder, 'balanced', None)
  path = folder / 'weights.json'
  record = sealed.read_json(path)
  path.write_text(
    json.dumps(json.loads(path.read_text()) | {'subjects': ['a']})
  )
  with says(InputError):
    classifier.check(folder, 'balanced', None)
  sealed.write_json(path, record | {'model': 'x'})
  with says(InputError, "'x'"):
    classifier.check(folder, 'balanced', None)
  sealed.write_json(path, record)
  largest = max(folder.rglob('*'), key=lambda p: p.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  with says(InputError):
    classifier.check(folder, 'balanced', None)


def test_no_weights_say_what_to_do(tmp_path, monkeypatch):
  with says(NoInputError, 'weights.json'):
    classifier.load(tmp_path)
  monkeypatch.setattr(catalogue, 'HOME', tmp_path)
  with says(NoInputError, '--weights'):
    classifier.load(None)


def test_weights_of_the_package_are_found(tmp_path, monkeypatch):
  lesion_data.write_weights(tmp_path / catalogue.DEFAULT, networks=1)
  monkeypatch.setattr(catalogue, 'HOME', tmp_path)
  assert classifier.load(None).name == 'untrained'
