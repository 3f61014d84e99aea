"""Families of microbleeds: iron, sizes, places, people with few or none."""

import dataclasses
import types

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.simulate import check as check_lib
from cmbjax.simulate import (
  cohort,
  families,
  lesions,
  placement,
  protocols,
  randomised,
  scan,
  spots,
)
from cmbjax.simulate import world as world_lib
from tests.messages import says

NEW = ('speckled', 'walked')
PROTOCOL = protocols.get_protocol('btumor_3t')


@pytest.fixture(scope='module')
def world():
  small = dataclasses.replace(PROTOCOL, disease='small vessel disease')
  return world_lib.build_world(
    scan.Streams(9010, small.name, 1), small, slab_mm=24.0
  )


def fresh(world):
  """The same person with nothing put anywhere."""
  return dataclasses.replace(world)


def of_family(world, name, **values):
  chosen = families.CLASSIC._replace(lesions=name)
  protocol = dataclasses.replace(world.protocol, families=chosen, **values)
  return dataclasses.replace(world, protocol=protocol)


@pytest.mark.parametrize('name', NEW)
def test_a_deposit_is_small_round_its_place_and_paramagnetic(name):
  rng = np.random.default_rng(0)
  draw = families.find('lesions', name).draw
  moments = []
  for _ in range(400):
    deposit = draw(rng, np.array([50.0, 60.0, 70.0]))
    assert deposit.kind == 'microbleed'
    assert (deposit.chi_ppm > 0).all()
    assert (deposit.spheres[:, 3] > 0).all()
    assert 1 <= len(deposit.spheres) <= 120
    far = np.linalg.norm(deposit.spheres[:, :3] - (50, 60, 70), axis=1)
    size = (3 * deposit.moment / (4 * np.pi * 0.01)) ** (1 / 3)
    assert far.max() < 2.5 * size
    moments.append(deposit.moment)
  # Iron of real microbleeds: half a ppm mm3 to a few, and a long tail.
  assert 0.7 < np.median(moments) < 2.0
  assert np.quantile(moments, 0.95) > 3 * np.median(moments)


@pytest.mark.parametrize('name', NEW)
def test_the_same_stream_gives_the_same_deposit(name):
  draw = families.find('lesions', name).draw
  one, again = (draw(np.random.default_rng(3), np.zeros(3)) for _ in range(2))
  np.testing.assert_array_equal(one.spheres, again.spheres)
  np.testing.assert_array_equal(one.chi_ppm, again.chi_ppm)


@pytest.mark.parametrize('name', NEW)
def test_sizes_are_those_of_real_microbleeds(world, name):
  """Middle quartiles of diameters within 20 %, as so few leave 8 %."""
  someone = of_family(world, name, mean_lesions=70.0)
  placed = placement.place_lesions(
    np.random.default_rng(2), someone, quantile=0.99
  )
  voxel = np.prod(PROTOCOL.voxel_mm)
  assert len(placed) > 30
  found = [(6 * p.voxels.sum() * voxel / np.pi) ** (1 / 3) for p in placed]
  ratio = np.quantile(found, (0.25, 0.5, 0.75)) / np.array(
    check_lib.REAL_DIAMETER_MM[1:4]
  )
  np.testing.assert_allclose(ratio, 1, atol=0.2)


def test_large_ones_have_a_core_of_patches_or_a_ring():
  """Iron of the outer half of the radius, over that of the inner half."""
  draw = families.find('lesions', 'speckled').draw
  rng = np.random.default_rng(4)
  spread = []
  while len(spread) < 60:
    deposit = draw(rng, np.zeros(3))
    if len(deposit.spheres) > 45:
      spread.append(deposit.chi_ppm.std() / deposit.chi_ppm.mean())
  assert np.quantile(spread, 0.8) > 1.0


def test_lesions_beside_veins_are_near_one(world):
  rng = np.random.default_rng(5)
  veins = world.drawn.veins
  alive = np.isfinite(veins.radius_mm)
  points, radius = veins.points_mm[alive], veins.radius_mm[alive]
  gaps = []
  for _ in range(30):
    place = spots.beside_vein(rng, world)
    gaps.append((np.linalg.norm(points - place, axis=1) - radius).min())
  assert max(gaps) <= spots.VEIN_MM[1] + 0.3  # points are 0.5 mm apart
  assert 0.5 < np.median(gaps) < 2.5


def test_lesions_at_the_rim_are_right_under_the_surface(world):
  rng = np.random.default_rng(6)
  depth = ndimage.distance_transform_edt(world.head.mask)
  found = [spots.at_rim(rng, world) for _ in range(60)]
  places = np.array([place for place in found if place is not None])
  assert len(places) > 30
  measured = ndimage.map_coordinates(depth, places.T, order=1)
  assert measured.min() > 1.0
  assert measured.max() < 5.0
  fluid = world.head.csf[tuple(np.rint(places).astype(int).T)]
  assert (fluid < 0.5).all()


def test_depth_is_the_distance_to_the_nearest_voxel_outside():
  mask = np.zeros((30, 30, 30), bool)
  mask[5:25, 5:25, 5:25] = True  # its border is at 4.5 and 24.5
  head = types.SimpleNamespace(mask=mask)
  assert spots.depth_mm(head, np.array([7.5, 15.0, 15.0])) == pytest.approx(3)
  assert spots.depth_mm(head, np.array([15.0, 22.5, 15.0])) == pytest.approx(2)
  assert spots.depth_mm(head, np.array([15.0, 15.0, 15.0])) == 6.0


def test_lesions_in_the_cortex_are_in_grey_matter(world):
  rng = np.random.default_rng(7)
  places = np.array([spots.in_cortex(rng, world) for _ in range(40)])
  grey = world.head.grey[tuple(np.rint(places).astype(int).T)]
  assert np.mean(grey) > 0.55
  regions = {spots.region_of(world, place) for place in places}
  assert regions <= {'cortex', 'cerebellum', 'white matter', 'outside'}


def test_places_are_free_inside_and_in_the_slab(world):
  someone, rng = fresh(world), np.random.default_rng(8)
  low, high = someone.low_high_mm
  shares = {'region': 0.1, 'vein': 0.3, 'rim': 0.3, 'cortex': 0.3}
  places = []
  for _ in range(60):
    spot = spots.draw(rng, someone, radius_mm=3.0, shares=shares)
    assert spot[1] == spots.region_of(someone, spot[0]) != 'outside'
    assert low - 1 <= spot[0][2] <= high + 1
    someone.placer.take(spot[0])
    places.append(spot[0])
  gaps = np.sqrt(((np.array(places)[:, None] - np.array(places)) ** 2).sum(-1))
  assert gaps[np.triu_indices(60, 1)].min() >= 6.0 - 1e-3


def test_some_people_of_new_families_have_none_to_two(world):
  counts = []
  someone = of_family(world, 'walked', mean_lesions=40.0)
  for seed in range(40):
    people = fresh(someone)
    object.__setattr__(people, 'appearance', lambda *_, **__: ((), None, 1.0))
    object.__setattr__(people, 'effect', lambda *_: True)
    rng = np.random.default_rng(seed)
    counts.append(len(placement.place_lesions(rng, people, quantile=0.6)))
  few = np.mean([count <= 2 for count in counts])
  assert 0.02 < few < 0.35  # 0.15 is expected
  assert max(counts) > 5
  assert len({count for count in counts if count > 2}) == 1


def test_nobody_has_a_lesion_where_none_is_expected(world):
  for name in families.KINDS['lesions']:
    someone = of_family(
      world, name, mean_lesions=0.0, disease='cavernous malformation'
    )
    rng = np.random.default_rng(0)
    assert placement.place_lesions(rng, someone, quantile=0.999) == []


def test_a_cohort_without_lesions(tmp_path):
  folder = cohort.simulate(
    'ccm_3t', subjects=1, out=tmp_path, seed=9011, slab_mm=8.0, lesions=0,
    jobs=1,
  )  # fmt: skip
  truth = folder / 'derivatives' / 'truth' / 'sub-CCM001' / 'anat'
  labels = volume.load(truth / 'sub-CCM001_seg-cmb_dseg.nii.gz').array
  assert not labels.any()
  table = (truth / 'sub-CCM001_seg-cmb_dseg.tsv').read_text().splitlines()
  assert len(table) == 1
  people = (folder / 'participants.tsv').read_text()
  assert people.splitlines()[1:] == ['sub-CCM001\t0']
  with says(InputError, 'another number lesions sub-CCM001'):
    cohort.simulate(
      'ccm_3t', subjects=1, out=tmp_path, seed=9011, slab_mm=8.0, jobs=1
    )


@pytest.mark.parametrize('lesions', [-1.0, float('nan'), 1e9])
def test_impossible_numbers_of_lesions_are_refused(tmp_path, lesions):
  with says(InputError, 'lesions'):
    cohort.simulate('ccm_3t', subjects=1, out=tmp_path, seed=1, lesions=lesions)


def test_the_number_of_lesions_is_the_only_change():
  usual = randomised.protocol_of('randomised', 3, seed=1)
  none = randomised.protocol_of('randomised', 3, seed=1, lesions=0)
  assert none == dataclasses.replace(usual, mean_lesions=0.0)


def test_what_no_reader_marked_is_no_lesion(world):
  """Each family asks for its own contrast before a deposit counts."""
  asked = []
  for name in families.KINDS['lesions']:
    people = fresh(of_family(world, name, mean_lesions=3.0))
    object.__setattr__(
      people, 'appearance', lambda *_, visible: asked.append(visible)
    )
    rng = np.random.default_rng(0)
    assert placement.place_lesions(rng, people, quantile=0.9) == []
  assert set(asked) == {0.25, lesions.MARKED}
