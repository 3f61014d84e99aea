"""The learned stage: dark places, their surroundings, the gate and its fit."""

import numpy as np
import pytest

from cmbjax import cli, sealed
from cmbjax.candidates import (
  dark_spots,
  gate_network,
  learn,
  learned,
  stages,
  surroundings,
)
from cmbjax.candidates.gates import Gates
from cmbjax.data import cohort, gate_material
from cmbjax.errors import InputError
from tests import small_cohorts
from tests.messages import printed, says
from tests.test_detector import ball, everywhere, slab

SPACING = (0.5, 0.5, 2.0)
SIDES = [SPACING, (1.0, 1.0, 1.5), (0.8, 0.8, 3.0), (0.7, 0.7, 0.7)]


def smooth_ball(spacing, *, radius_mm=1.5, shape=(41, 41, 31)):
  """A Gaussian dark spot of 1 - 0.6 in the middle voxel of ones."""
  axes = np.ogrid[tuple(slice(0, n) for n in shape)]
  squares = sum(
    ((a - n // 2) * s) ** 2 for a, n, s in zip(axes, shape, spacing)
  )
  return (1 - 0.6 * np.exp(-squares / (2 * radius_mm**2))).astype(np.float32)


def ends(image, spacing):
  """A vessel to the rim of the array on one side of the middle."""
  x = np.arange(image.shape[0])[:, None, None]
  y = np.arange(image.shape[1])[None, :, None]
  z = np.arange(image.shape[2])[None, None, :]
  away = np.hypot(
    (y - image.shape[1] // 2) * spacing[1],
    (z - image.shape[2] // 2) * spacing[2],
  )
  inside = (x > image.shape[0] // 2 + 4 / spacing[0]) & (away < 0.7)
  return np.where(inside, np.minimum(image, 0.4), image).astype(np.float32)


@pytest.mark.parametrize('spacing', SIDES)
def test_a_spot_has_a_place_in_its_middle_in_any_voxel(spacing):
  image = smooth_ball(spacing)
  found = dark_spots.find(image, spacing, everywhere(image))
  assert found.place[0].tolist() == [20, 20, 15]
  assert (np.diff(found.response) <= 0).all()
  # Nothing else but the slices above and below, where these are thick.
  assert (found.place[:, :2] == 20).all()


@pytest.mark.parametrize('spacing', SIDES)
def test_a_spot_beside_a_vessel_keeps_a_place_of_its_own(spacing):
  image = ends(smooth_ball(spacing), spacing)
  found = dark_spots.find(image, spacing, everywhere(image))
  away = np.linalg.norm((found.place - [20, 20, 15]) * spacing, axis=1)
  assert away.min() <= 1


def test_response_is_the_difference_of_gaussians_by_hand():
  """Gaussians of Gaussians: at the middle a / (1 + s^2 / r^2)^(3 / 2)."""
  spacing, radius = (0.4, 0.4, 0.4), 1.5
  image = smooth_ball(spacing, radius_mm=radius, shape=(61, 61, 61))
  found = dark_spots.find(image, spacing, everywhere(image))
  scales = np.array(dark_spots.SCALES_MM)
  dark = 0.6 * (1 + scales**2 / radius**2) ** -1.5
  np.testing.assert_allclose(found.darkness[0], dark, atol=0.006)
  expected = max(-np.diff(dark))
  assert found.response[0] == pytest.approx(expected, abs=0.006)


def test_surroundings_of_a_gaussian_are_its_values_on_the_rings():
  spacing = (0.4, 0.4, 0.4)
  image = smooth_ball(spacing, shape=(61, 61, 61))
  place = np.array([[30, 30, 30]])
  found = surroundings.describe(image, everywhere(image), place, spacing)
  assert found['centre'][0] == pytest.approx(0.6)
  for height, radii in surroundings.RINGS.items():
    for radius in radii:
      value = 0.6 * np.exp(-(height**2 + radius**2) / (2 * 1.5**2))
      last = ' mean' if height else ''
      got = found[f'{height:g}/{radius:g} mean{last}'][0]
      assert got == pytest.approx(value, abs=0.01)
      assert found[f'{height:g}/{radius:g} two{last}'][0] < 0.005
  assert found['0/5 inside'][0] == 1


def test_surroundings_know_a_line_from_a_ball_and_an_end_from_both():
  image = np.ones((61, 61, 15), np.float32)
  image[:, 30, 7] = 0.2
  place = np.array([[30, 30, 7]])
  line = surroundings.describe(image, everywhere(image), place, SPACING)
  assert line['0/3.5 two'][0] > 0.1
  assert line['0/3.5 two on'][0] > 0.1  # goes on the same way
  assert line['0/3.5 one'][0] < 0.01
  image[:30, 30, 7] = 1
  end = surroundings.describe(image, everywhere(image), place, SPACING)
  assert end['0/3.5 one'][0] > 0.05
  rim = everywhere(image)
  rim[:30] = False
  at_rim = surroundings.describe(image, rim, place, SPACING)
  assert 0.4 < at_rim['0/5 inside'][0] < 0.6


@pytest.mark.parametrize(
  'turn',
  [
    lambda a: np.flip(a, 0),
    lambda a: np.flip(a, 2),
    lambda a: np.rot90(a, 1, (0, 1)),
  ],
)
def test_surroundings_do_not_know_left_from_right_nor_up_from_down(turn):
  rng = np.random.default_rng(4)
  image = rng.uniform(0, 1, (41, 41, 15)).astype(np.float32)
  mask = image > 0.1
  place = np.array([[20, 20, 7]])
  one = surroundings.describe(image, mask, place, SPACING)
  other = surroundings.describe(turn(image), turn(mask), place, SPACING)
  for name, values in one.items():
    np.testing.assert_allclose(values, other[name], atol=1e-5, err_msg=name)


def test_the_gate_keeps_balls_and_drops_the_rest_with_a_reason():
  image, centres = slab(3)
  found = stages.propose(
    image, SPACING, everywhere(image), gates=Gates(generator='learned')
  )
  kept = found.centre[found.kept]
  away = np.linalg.norm((kept[:, None] - centres) * SPACING, axis=2)
  assert (away.min(0) < 3).mean() >= 0.95
  assert (~found.kept).sum() > 5
  assert set(found.reason) <= {'', learned.LOW, 'same as a better one'}
  assert (np.diff(found.score) <= 0).all()
  assert ((found.score >= 0) & (found.score <= 1)).all()
  assert set(stages.MEASURES) <= set(found.features)


def test_same_bits_for_any_number_of_threads():
  image, _ = slab(5, num_blobs=5, num_tubes=20)
  first = learned.propose(image, SPACING, everywhere(image), jobs=1)
  again = learned.propose(image, SPACING, everywhere(image), jobs=3)
  np.testing.assert_array_equal(first.centre, again.centre)
  np.testing.assert_array_equal(first.score, again.score)
  assert first.reason == again.reason


@pytest.mark.parametrize('full', [True, False])
def test_nothing_there_is_an_empty_table(full):
  image = np.full((20, 22, 6), 0.5, np.float32)
  found = learned.propose(image, SPACING, np.full(image.shape, full))
  assert len(found) == 0
  assert found.regions == found.reason == []


def test_shapes_must_agree():
  image = ball(1.5)
  with says(ValueError):
    learned.propose(image, SPACING, everywhere(image)[1:])


def test_records_of_weights_know_what_was_learned():
  assert stages.code('learned') == gate_network.digest()
  assert len(stages.code('learned')) == 16


def rows(seed, *, subjects=8, count=2500, lesions=12):
  """Two numbers; of lesions the product of them is positive, else negative."""
  rng = np.random.default_rng(seed)
  made = []
  for n in range(subjects):
    a, b = rng.uniform(0.3, 1.5, (2, count)) * rng.choice([-1, 1], (2, count))
    same = np.flatnonzero(a * b > 0)
    lesion = np.zeros(count, int)
    lesion[same] = 1 + np.arange(len(same)) % lesions
    features = {'a': a, 'b': b, 'bias': a + lesion.astype(bool)}
    made.append(
      learn.Rows(
        f's{n}',
        features,
        lesion,
        lesion == 0,
        rng.uniform(0, 300, (count, 3)),
        lesions + 1,
        0.5,
      )
    )
  return made


def test_the_linear_step_is_a_logistic_regression():
  """Two Gaussians of one spread d apart: the log odds have slope d."""
  rng = np.random.default_rng(1)
  x = rng.normal(0, 1, 8000) + np.repeat([0, 1.5], 4000)
  lesion = np.repeat([0, 1], 4000) * (1 + np.arange(8000))
  place = np.zeros((8000, 3))
  one = learn.Rows('s', {'x': x}, lesion, lesion == 0, place, 4000, 1.0)
  found = learn.fit_loose([one])
  slope = found.loose_weight[0] / found.loose_scale[0]
  assert slope == pytest.approx(1.5, rel=0.06)
  score = found.loose_score({'x': np.array([0.75, 2.0])})
  assert score[0] == pytest.approx(0, abs=0.08)  # half-way between them
  assert score[1] == pytest.approx(1.5 * 1.25, rel=0.08)


def test_the_networks_learn_what_no_line_can(tmp_path):
  material = rows(2)
  loose = learn.fit_loose(material)
  found = learn.fit(material, loose, seed=0, recall=0.9)
  # Each scan has 12 lesions with a place and one without.
  assert found.lesions == 8 * 13
  assert found.never == 8
  assert found.recall == pytest.approx(0.9, abs=0.02)
  kept = [recall for recall, _ in found.others]
  assert kept == pytest.approx(sorted(kept))
  fresh = rows(3)
  truth = np.concatenate([one.lesion > 0 for one in fresh])
  score = np.concatenate([found.network.score(one.features) for one in fresh])
  assert score[truth].mean() > 0.8
  assert score[~truth].mean() < 0.2
  again = learn.fit(material, loose, seed=0, recall=0.9)
  found.network.save(tmp_path / 'one.npz')
  again.network.save(tmp_path / 'two.npz')
  one, two = (gate_network.load(tmp_path / f'{n}.npz') for n in ('one', 'two'))
  for name in gate_network.GateNetwork._fields:
    np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
  assert one.names == ('a', 'b', 'bias')


def test_gradients_are_the_differences_of_the_loss():
  rng = np.random.default_rng(0)
  x, truth = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
  weight, hidden = rng.uniform(0.5, 1.5, 20), rng.normal(size=(4, 5))
  out = rng.normal(size=6)

  def loss(hidden, out):
    _, value = gate_network.forward(x, hidden, out)
    each = np.logaddexp(0, value) - truth * value
    decay = (hidden[:-1] ** 2).sum() + (out[:-1] ** 2).sum()
    return (weight * each).sum() / weight.sum() + learn.DECAY * decay

  of_hidden, of_out = learn._slopes(x, truth, weight, hidden, out)
  for at in ((0, 0), (2, 3), (3, 1)):
    step = np.zeros_like(hidden)
    step[at] = 1e-5
    slope = (loss(hidden + step, out) - loss(hidden - step, out)) / 2e-5
    assert of_hidden[at] == pytest.approx(slope, rel=1e-3, abs=1e-6)
  for at in (0, 5):
    step = np.zeros_like(out)
    step[at] = 1e-5
    slope = (loss(hidden, out + step) - loss(hidden, out - step)) / 2e-5
    assert of_out[at] == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_the_threshold_counts_lesions_without_a_place():
  material = [
    learn.Rows(
      's',
      {},
      np.array([1, 1, 2, 3, 0, 0]),
      np.array([0, 0, 0, 0, 1, 1], bool),
      # The last two are 1 mm apart: one candidate.
      np.array([[0, 0, 9 * n] for n in range(5)] + [[1, 0, 36]], float),
      4,
      1.0,
    )
  ]
  score = [np.float32([0.2, 0.9, 0.5, 0.4, 0.45, 0.43])]
  # Of four lesions one has no place: three quarters are all of the others.
  for recall, kept, false in ((0.75, 3, 1), (0.5, 2, 0), (0.9, 3, 1)):
    threshold = learn._threshold(material, score, recall)
    assert learn._known(material, score, threshold) == (kept / 4, false)


def test_too_little_is_refused():
  few = rows(4, subjects=3)
  with says(InputError):
    learn.fit(few, learn.fit_loose(few), seed=0, recall=0.9)
  none = [one._replace(lesion=np.zeros(2500, int)) for one in few]
  with says(InputError):
    learn.fit_loose(none)


def test_a_gate_of_other_numbers_is_refused(tmp_path):
  network = gate_network.load()
  with says(InputError):
    network.score({'centre': np.zeros(1)})
  sealed.write_arrays(tmp_path / 'other.npz', {'names': ['a']})
  with says(InputError):
    gate_network.load(tmp_path / 'other.npz')


def test_places_on_beside_and_far_from_a_lesion():
  labels = np.zeros((40, 40, 9), np.int32)
  labels[20, 20, 4] = 7
  place = np.array([[20, 20, 4], [23, 20, 4], [24, 20, 4], [27, 20, 4]])
  truth = labelled(labels, [7])
  lesion, apart = gate_material.shown(place, truth)
  assert lesion.tolist() == [7, 7, 0, 0]  # 0, 1.5, 2 and 3.5 mm
  assert apart.tolist() == [False, False, False, True]
  points = truth._replace(
    truth=truth.truth._replace(
      labels=None, points_mm=np.array([[10.0, 10.0, 8.0]])
    )
  )
  place = np.array([[20, 20, 4], [25, 20, 4], [28, 20, 4], [33, 20, 4]])
  lesion, apart = gate_material.shown(place, points)
  assert lesion.tolist() == [7, 7, 0, 0]  # 0, 2.5, 4 and 6.5 mm
  assert apart.tolist() == [False, False, False, True]


def labelled(labels, numbers):
  truth = cohort.Truth(
    'labels', np.array(numbers), np.ones(1), labels, None, None
  )
  affine = np.diag([*SPACING, 1.0])
  return cohort.LoadedScan(
    np.ones(labels.shape, np.float32), SPACING, affine, labels >= 0, truth
  )


@pytest.mark.parametrize(
  'words',
  [
    ['gate', '--out', 'x.npz'],
    ['gate', 'cohort'],
    ['gate', 'cohort', '--out', 'x.npz', '--recall', '1.2'],
    ['gate', 'cohort', '--out', 'x.npz', '--seed', '-1'],
    ['list', '--recall', '0.9'],
    ['path', '7t', 'combined'],
  ],
  ids=lambda words: '-'.join(words).replace('--', ''),
)
def test_wrong_use_of_the_command(words, capsys):
  assert cli.main(['weights', *words]) == 2
  printed(capsys.readouterr().err)


def test_a_gate_of_a_cohort_from_the_command_line(tmp_path, capsys):
  small_cohorts.write_cohort(tmp_path / 'cohort', subjects=5)
  out = tmp_path / 'gate.npz'
  words = ['weights', 'gate', str(tmp_path / 'cohort'), '--out', str(out)]
  assert cli.main(words) == 0
  assert 'keeps' in capsys.readouterr().out
  made = gate_network.load(out)
  small_cohorts.write_cohort(tmp_path / 'fresh', subjects=1, first_seed=50)
  (scan,) = cohort.read_cohort(tmp_path / 'fresh').scans
  loaded = cohort.load_scan(scan)
  places = learned.find(
    loaded.swi, loaded.spacing_mm, loaded.mask, gates=Gates()
  )
  assert len(places.features) == len(made.loose_mean)
  chosen = learned.best(places, made)[:20]
  lesion, _ = gate_material.shown(places.place[chosen] + places.start, loaded)
  assert set(lesion) - {0} == set(loaded.truth.lesions)
