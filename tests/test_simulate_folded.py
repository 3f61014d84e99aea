"""Solids against hand values; nuclei, sulci and labels of a folded head."""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.simulate import anatomy, folded, nuclei, solids, tissue_atlas

FULL_MM = (176.0, 216.0, 168.0)


@pytest.fixture(scope='module')
def head():
  return folded.draw_head(
    np.random.default_rng(4), full_mm=FULL_MM, start_mm=40.0, depth_mm=60.0
  )


def _grid(*sizes):
  return np.stack(np.meshgrid(*map(np.arange, sizes), indexing='ij')).astype(
    np.float32
  )


def test_depth_of_a_sphere_is_exact():
  points = np.array([[0, 3, 5, 9.0], [0, 4, 0, 0], [0, 0, 0, 0]], np.float32)
  depth = solids.ellipsoid(points, (0, 0, 0), (5, 5, 5))
  np.testing.assert_allclose(depth[1:], [0, 0, -4], atol=1e-4)
  assert depth[0] == 5


def test_depth_of_a_chain():
  points = np.array([[0, 5, 10, 13.0], [2, 3, 0, 0], [0, 0, 0, 0]], np.float32)
  depth = solids.chain(points, [(0, 0, 0), (10, 0, 0)], (1, 3))
  np.testing.assert_allclose(depth, [-1, -1, 3, 0], atol=1e-5)


def test_a_turned_ellipsoid_ends_where_its_axis_says():
  tip = 4 * np.array([[0.6], [0.8], [0.0]], np.float32)
  depth = solids.ellipsoid(
    tip, (0, 0, 0), (4, 2, 1), long=(0.6, 0.8, 0), middle=(0, 0, 1)
  )
  assert depth[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize('half', [0.2, 0.5, 1.4])
def test_a_thin_sheet_keeps_its_volume(half):
  at = np.linspace(-4, 4, 8001)
  volume = solids.sheet(at, half).mean() * 8
  assert volume == pytest.approx(2 * half, rel=0.02 if half >= 0.5 else 0.5)


def test_box_holds_all_near_points():
  mni = _grid(40, 50, 30)
  box = solids.box_of(mni, (20, 10, 29), 3)
  inside = mni[(slice(None), *box)]
  assert (inside.min((1, 2, 3)) <= (17, 7, 26)).all()
  assert (inside.max((1, 2, 3)) >= (23, 13, 29)).all()
  assert inside[0].size < 6000
  assert solids.box_of(mni, (200, 10, 29), 3) is None


@pytest.fixture(scope='module')
def iron():
  mni = _grid(90, 120, 90)
  mni -= np.float32([45, 85, 50]).reshape(3, 1, 1, 1)
  rngs = (np.random.default_rng(1) for _ in range(2))
  return mni, [
    nuclei.draw_iron(rng, mni, age=a) for rng, a in zip(rngs, (0, 1))
  ]


def test_nuclei_are_where_and_as_large_as_published(iron):
  mni, (found, _) = iron
  # ml of both sides: usual values of adults; thalamus and STN are too faint
  # or too small for an exact figure.
  usual = {
    'caudate': (5, 11), 'putamen': (5, 12), 'pallidum': (1.4, 4),
    'red nucleus': (0.25, 0.8), 'substantia nigra': (0.3, 1.2),
    'dentate': (0.6, 2.5),
  }  # fmt: skip
  for number, kind in enumerate(nuclei.KINDS, start=1):
    name = kind.removeprefix('nucleus: ')
    if name not in usual:
      continue
    low, high = usual[name]
    inside = found.labels == number
    assert low < inside.sum() / 1000 < high, name
    centre = tissue_atlas.NUCLEI[number - 1].centre_mm
    right = mni[:, inside & (mni[0] > 0)].mean(1)
    left = mni[:, inside & (mni[0] < 0)].mean(1)
    assert np.linalg.norm(right * (-1, 1, 1) - left) < 3.5, name
    if name != 'caudate':  # this one has a body and a tail
      assert np.linalg.norm(right - centre) < 4, name


def test_iron_grows_with_age_and_is_highest_in_the_pallidum(iron):
  _, (young, old) = iron
  number = {
    k.removeprefix('nucleus: '): i + 1 for i, k in enumerate(nuclei.KINDS)
  }

  def level(found, name):
    return np.median(found.chi_ppm[found.labels == number[name]])

  for name in ('pallidum', 'putamen', 'red nucleus'):
    assert level(old, name) == pytest.approx(3 * level(young, name), rel=0.15)
  assert level(old, 'pallidum') > 1.8 * level(old, 'putamen')


def test_shares_are_complete_and_the_brain_is_one(head):
  shares = head.grey + head.white + head.csf
  np.testing.assert_allclose(shares[head.mask], 1, atol=1e-4)
  assert shares[~head.mask].max() == 0
  assert ndimage.label(head.mask)[1] == 1
  assert min(x.min() for x in (head.grey, head.white, head.csf)) >= 0


def test_cortex_is_a_ribbon_between_fluid_and_white_matter(head):
  cortex = head.region == tissue_atlas.REGIONS.index('cortex')
  deep = ndimage.distance_transform_edt(head.csf < 0.5)[cortex]
  assert 1.0 < np.median(deep) < 2.5  # half of 2 to 4 mm and half a voxel
  assert np.quantile(deep, 0.9) < 6
  # Sulci: much of the fluid is well beneath the surface of the brain.
  under = ndimage.distance_transform_edt(head.mask)
  outer = abs(head.mni[0]) > 45
  assert (head.csf[(under > 8) & outer] > 0.5).mean() > 0.04
  rim = (under > 0) & (under < 1.5)
  assert (head.csf[rim] > 0.5).mean() > 0.8


def test_template_heads_have_far_less_fluid_in_sulci(head):
  plain = anatomy.draw_head(
    np.random.default_rng(4), full_mm=FULL_MM, start_mm=40.0, depth_mm=60.0
  )
  outer = {}
  for name, one in (('plain', plain), ('folded', head)):
    under = ndimage.distance_transform_edt(one.mask)
    place = (under > 8) & (abs(one.mni[0]) > 45)
    outer[name] = (one.csf[place] > 0.6).mean()
  assert outer['folded'] > 3 * outer['plain']


def test_the_falx_is_a_dark_sheet_in_the_midline(head):
  falx = head.details.labels == folded.KINDS.index('falx') + 1
  assert falx.sum() > 300
  assert abs(head.mni[0][falx]).max() < 6
  assert 0.2 < np.median(head.details.void[falx]) < 0.6


def test_every_structure_of_a_whole_head_has_its_kind():
  rng = np.random.default_rng(0)
  found = set()
  for _ in range(2):
    head = folded.draw_head(rng, full_mm=FULL_MM)
    numbers = np.unique(head.details.labels)
    found |= {head.details.kinds[n - 1] for n in numbers[numbers > 0]}
  rare = {'calcified pallidum', 'superficial siderosis'}
  faint = {'nucleus: thalamus'}
  assert found >= set(folded.KINDS) - rare - faint


def test_the_same_seed_gives_the_same_head(head):
  again = folded.draw_head(
    np.random.default_rng(4), full_mm=FULL_MM, start_mm=40.0, depth_mm=60.0
  )
  assert (again.grey == head.grey).all()
  assert (again.details.labels == head.details.labels).all()
  assert (again.details.spaces.radius_mm > 0).sum() > 50
  points = np.array([[80.0, 100.0, 30.0], [60.0, 90.0, 20.0]], np.float32)
  back = head.from_mni(head.to_mni(points))
  np.testing.assert_allclose(back, points, atol=0.1)
