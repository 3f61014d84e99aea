"""Candidate stages by name: built in, and written by a user."""

import sys

import numpy as np
import pytest

from cmbjax import plugins
from cmbjax.candidates import detector, stages
from cmbjax.candidates.detector import Gates
from cmbjax.data import built, cohort, examples
from cmbjax.errors import InputError
from tests import small_cohorts
from tests.messages import says
from tests.test_detector import ball, slab

SPACING = (0.5, 0.5, 2.0)
SPOTS = '''
import numpy as np
from scipy import ndimage

def spots(swi, spacing_mm, mask):
  """Dark spots of about 3 mm: maxima of a Laplacian of Gaussian."""
  sigma = [3 / 8**0.5 / side for side in spacing_mm]
  brain = np.where(mask, swi, np.median(swi[mask]))
  response = ndimage.gaussian_laplace(brain, sigma)
  highest = ndimage.maximum_filter(response, size=(7, 7, 3))
  place = np.argwhere(mask & (response == highest) & (response > 0.02))
  return place, response[tuple(place.T)]

def loose(swi, spacing_mm, mask, *, jobs=None):
  """The built-in stage with a gate of one's own."""
  from cmbjax.candidates.detector import Gates, propose
  return propose(swi, spacing_mm, mask, gates=Gates(min_score=1e-3), jobs=jobs)

def places(swi, spacing_mm, mask):
  return [[20, 20, 8], [20.4, 20, 8], [2, 3, 1]]

def writes(swi, spacing_mm, mask):
  swi[0] = 0

number = 3
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
  """A module of a user, beside the config."""
  (tmp_path / 'my_spots.py').write_text(SPOTS)
  monkeypatch.setattr(plugins, 'home', tmp_path)
  yield tmp_path
  sys.modules.pop('my_spots', None)


def whole(image):
  return np.ones(image.shape, bool)


def propose(name, image, mask=None):
  mask = whole(image) if mask is None else mask
  return stages.propose(image, SPACING, mask, gates=Gates(generator=name))


def test_the_built_in_stage_is_that_of_the_chain():
  image, _ = slab(5, num_blobs=5, num_tubes=20)
  one = detector.propose(image, SPACING, whole(image))
  other = propose('frst', image)
  assert len(one) > 5
  np.testing.assert_array_equal(one.centre, other.centre)
  np.testing.assert_array_equal(one.score, other.score)
  assert stages.code('frst') == ''


def test_an_own_stage_finds_the_balls_of_a_slab(own):
  image, centres = slab(3)
  found = propose('my_spots:spots', image)
  kept = found.centre[found.kept]
  away = np.linalg.norm((kept[:, None] - centres) * SPACING, axis=2)
  assert (away.min(0) < 3).mean() > 0.9
  assert (np.diff(found.score) <= 0).all()
  assert set(stages.MEASURES) <= set(found.features)


def test_places_become_centres_with_regions_and_measures(own):
  """A ball of 2 mm radius; one neighbour in 0.2 mm, and nothing far away."""
  image = ball(2.0, spacing=SPACING)
  mask = whole(image)
  mask[:5] = False
  found = propose('my_spots:places', image, mask)
  assert found.centre.tolist() == [[20, 20, 8], [20, 20, 8], [2, 3, 1]]
  assert found.reason == ['', 'same as a better one', detector.OUTSIDE]
  assert found.kept.tolist() == [True, False, False]
  np.testing.assert_array_equal(found.score, found.features['contrast'])
  volume = (image < 0.5).sum() * np.prod(SPACING)
  assert found.features['volume_mm3'][0] == pytest.approx(volume)
  assert (image[tuple(found.regions[0].T)] < 0.6).all()


def test_places_of_an_own_stage_merge_as_the_gates_say(own):
  gates = Gates(generator='my_spots:places', merge_mm=0.0)
  image = ball(2.0, spacing=SPACING)
  found = stages.propose(image, SPACING, whole(image), gates=gates)
  assert found.reason == ['', '', '']


@pytest.mark.parametrize(
  ('spacing', 'gap', 'kept'),
  [
    ((0.5, 0.5, 2.0), (0, 0, 1), 2),  # 2 mm: not nearer than 2 mm
    ((0.5, 0.5, 1.0), (0, 0, 1), 1),  # 1 mm
    ((0.5, 0.5, 2.0), (3, 0, 0), 1),  # 1.5 mm
    ((1.0, 1.0, 1.5), (3, 0, 0), 2),  # 3 mm
  ],
)
def test_merging_is_in_millimetres(spacing, gap, kept):
  """Voxels apart say nothing: 3 voxels are 1.5 mm here and 3 mm there."""
  image = np.ones((40, 40, 12), np.float32)
  place = np.array([[20, 20, 6], np.add([20, 20, 6], gap)])
  found = detector.measure(
    image, spacing, whole(image), place, score=[2, 1], gates=Gates(merge_mm=2)
  )
  assert found.kept.sum() == kept
  assert found.kept[0]


@pytest.mark.parametrize(('side_mm', 'kept'), [(0.5, 2), (0.4, 1)])
def test_the_built_in_stage_merges_in_millimetres(side_mm, kept):
  """Two dark spots 4 voxels apart: 2 mm are two, 1.6 mm are one."""
  image = np.ones((44, 44, 9), np.float32)
  for x in (20, 24):
    image[x - 1 : x + 2, 20, 4] = image[x, 19:22, 4] = 0.3
    image[x, 20, 4] = 0.1
  gates = Gates(peak_mm=0.1, min_score=0.0, merge_mm=2.0)
  spacing_mm = (side_mm, side_mm, 2.0)
  found = detector.propose(image, spacing_mm, whole(image), gates=gates)
  assert sorted(found.centre[:, 0].tolist()) == [20, 24]
  assert found.kept.sum() == kept


def test_candidates_of_the_own_stage_are_taken_as_they_are(own):
  image, _ = slab(5, num_blobs=5, num_tubes=20)
  found = propose('my_spots:loose', image)
  wanted = detector.propose(
    image, SPACING, whole(image), gates=Gates(min_score=1e-3)
  )
  assert found.kept.sum() == wanted.kept.sum() > 0
  np.testing.assert_array_equal(found.centre, wanted.centre)


@pytest.mark.parametrize(
  ('returned', 'why'),
  [
    (None, 'NoneType'),
    (np.zeros((3, 2)), '(3, 2)'),
    ([[1, 2, 99]], ''),
    ([[1, 2, np.nan]], ''),
    (([[1, 2, 3]], [1, 2]), ''),
    (([[1, 2, 3]], [np.nan]), ''),
    (np.zeros((5000, 3)), '4,000'),
  ],
)
def test_what_is_no_candidate_is_one_sentence(monkeypatch, returned, why):
  monkeypatch.setattr(stages, 'find', lambda name: lambda *scan: returned)
  with says(InputError, f'config.candidates a:b {why}'):
    propose('a:b', np.ones((20, 20, 8), np.float32))


@pytest.mark.parametrize('error', [KeyError('x'), SystemExit(0)])
def test_a_stage_that_fails_is_one_sentence(monkeypatch, error):
  """One that ended Python ended the study, with exit code 0."""

  def stage(swi, spacing_mm, mask):
    raise error

  monkeypatch.setattr(stages, 'find', lambda name: stage)
  with says(InputError, f'a:b {type(error).__name__}'):
    propose('a:b', np.ones((20, 20, 8), np.float32))


def test_columns_of_other_lengths_are_one_sentence(monkeypatch):
  image, _ = slab(5, num_blobs=5, num_tubes=20)
  good = propose('frst', image)
  for change in (
    {'reason': good.reason[1:]},
    {'features': {'contrast': good.score}},
    {'centre': good.centre + 0.5},
    {'centre': good.centre + 999},
  ):
    bad = detector.Candidates(**vars(good) | change)
    monkeypatch.setattr(stages, 'find', lambda name, b=bad: lambda *scan: b)
    with says(InputError, 'a:b'):
      propose('a:b', image)


def test_nothing_found_is_an_empty_table(monkeypatch):
  monkeypatch.setattr(stages, 'find', lambda name: lambda *scan: ([], []))
  found = propose('a:b', np.ones((20, 20, 8), np.float32))
  assert len(found) == 0
  assert found.centre.shape == (0, 3)


def test_the_image_cannot_be_changed(own):
  with says(ValueError):
    propose('my_spots:writes', ball(2.0, spacing=SPACING))


def test_unknown_stages_are_named(own):
  with says(InputError):
    stages.find('dog')
  with says(InputError, '--candidates'):
    stages.find('my_spots:cat', key='--candidates')
  with says(InputError):
    stages.find('my_spots:number')


def test_a_build_with_an_own_stage(own):
  """Its own fingerprint, its candidates in the data, and its name beside."""
  small_cohorts.write_cohort(own / 'c', subjects=2, simulated=True)
  plain = examples.build('small', own / 'c', own / 'd')
  folder = examples.build(
    'small', own / 'c', own / 'd', candidates='my_spots:spots'
  )
  assert folder != plain
  assert built.metadata(folder)['candidates'] == 'my_spots:spots'
  assert built.metadata(plain)['candidates'] == 'frst'
  found = examples.load(folder)
  scan = cohort.read_cohort(own / 'c').scans[0]
  loaded = cohort.load_scan(scan)
  wanted = stages.propose(
    loaded.swi,
    loaded.spacing_mm,
    loaded.mask,
    gates=Gates(generator='my_spots:spots'),
  )
  mine = found.centre[found.scan == scan.name]
  np.testing.assert_array_equal(mine, wanted.centre[wanted.kept])
  assert found.label.sum() >= 5
  with says(InputError, 'my_spots:spots'):
    examples.load_as('x', folder, config='native', candidates='frst')
  examples.load_as('x', folder, config='native', candidates='my_spots:spots')
  (own / 'my_spots.py').write_text(SPOTS.replace('0.02', '0.01'))
  sys.modules.pop('my_spots')
  with says(InputError):
    examples.load_as('x', folder, config='native', candidates='my_spots:spots')
  examples.load_as('x', folder, config='native')


def test_the_record_of_weights_has_the_name_and_the_code(own):
  assert stages.facts('frst') == {'candidates': 'frst', 'candidates_code': ''}
  found = stages.facts('my_spots:spots')
  assert found['candidates'] == 'my_spots:spots'
  assert len(found['candidates_code']) == 16
  (own / 'my_spots.py').write_text(SPOTS.replace('0.02', '0.01'))
  sys.modules.pop('my_spots')
  other = stages.facts('my_spots:spots')['candidates_code']
  assert other != found['candidates_code']


def test_other_code_of_an_own_stage_is_another_build(own):
  small_cohorts.write_cohort(own / 'c', subjects=1)
  how = {'candidates': 'my_spots:spots'}
  first = examples.build('small', own / 'c', own / 'd', **how)
  assert examples.build('small', own / 'c', own / 'd', **how) == first
  (own / 'my_spots.py').write_text(SPOTS.replace('> 0.02', '> 0.01'))
  sys.modules.pop('my_spots')
  assert examples.build('small', own / 'c', own / 'd', **how) != first
