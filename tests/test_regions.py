"""The drawn regions at known places of MNI space and beside real atlases."""

import functools

import nibabel as nib
import numpy as np
import pytest

from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import region_geometry, regions, volume
from tests.messages import says

SAME = np.eye(4)

# MNI mm from textbooks of anatomy, far from any border.
PLACES = [
  ((0, -27, -34), 'brainstem', 'infratentorial'),  # pons
  ((0, -20, -12), 'brainstem', 'infratentorial'),  # midbrain
  ((30, -62, -40), 'cerebellum', 'infratentorial'),
  ((-25, -55, -45), 'cerebellum', 'infratentorial'),
  ((26, 2, 2), 'basal ganglia', 'deep'),  # putamen
  ((-13, 14, 6), 'basal ganglia', 'deep'),  # head of the caudate
  ((11, -19, 8), 'thalamus', 'deep'),
  ((0, 26, 8), 'corpus callosum', 'deep'),  # genu
  ((2, -38, 12), 'corpus callosum', 'deep'),  # splenium
  ((26, -18, 32), 'deep white matter', 'deep'),  # corona radiata
  ((-28, 20, 20), 'deep white matter', 'deep'),
  ((38, 4, 0), 'insula', 'lobar'),
  ((40, 45, 15), 'frontal', 'lobar'),
  ((-6, 55, 10), 'frontal', 'lobar'),
  ((37, -8, 58), 'frontal', 'lobar'),  # precentral gyrus
  ((-45, -35, 52), 'parietal', 'lobar'),  # postcentral gyrus
  ((6, -65, 45), 'parietal', 'lobar'),  # precuneus
  ((58, -25, -12), 'temporal', 'lobar'),
  ((-38, 8, -34), 'temporal', 'lobar'),  # pole
  ((26, -20, -18), 'temporal', 'lobar'),  # hippocampus
  ((8, -88, 4), 'occipital', 'lobar'),  # calcarine cortex
  ((-30, -90, 5), 'occipital', 'lobar'),
]


def region_of(points_mm, world_to_mni, **how):
  """Places of points, each a lesion of one voxel."""
  points = np.reshape(points_mm, (-1, 1, 3))
  return regions.region_of_lesions(list(points), world_to_mni, **how)


@pytest.mark.parametrize(('point', 'region', 'location'), PLACES)
def test_textbook_places(point, region, location):
  place = region_of(point, SAME)[0]
  assert (place.region, place.location) == (region, location)
  side = (
    'midline' if abs(point[0]) <= 2 else 'right' if point[0] > 0 else 'left'
  )
  assert place.side == side
  mirrored = region_of(np.array(point) * [-1, 1, 1], SAME)[0]
  assert mirrored.region == region
  assert mirrored.margin_mm == pytest.approx(place.margin_mm)


def test_every_region_is_there_on_both_sides():
  atlas = regions.drawn_atlas()
  inside = atlas.labels * (atlas.outside_mm == 0)
  counts = np.bincount(inside.ravel(), minlength=14) * 8 / 1e3
  assert len(counts) == len(regions.REGIONS)
  assert (counts[1:] > 8).all()  # ml
  np.testing.assert_array_equal(inside, inside[::-1])


def test_margin_is_the_distance_to_the_next_region():
  """Against a search over all voxels of other regions."""
  atlas = regions.drawn_atlas()
  rng = np.random.default_rng(3)
  inside = np.argwhere(atlas.outside_mm == 0)
  order = np.array([regions.LOCATIONS.index(n) for n in atlas.locations])
  for index in inside[rng.choice(len(inside), 12, replace=False)]:
    here = atlas.labels[tuple(index)]
    other = np.argwhere(atlas.labels != here)
    away = 2 * np.sqrt(((other - index) ** 2).sum(1).min()) - 1
    assert atlas.to_region_mm[tuple(index)] == pytest.approx(away, abs=1.5)
    other = np.argwhere(order[atlas.labels] != order[here])
    away = 2 * np.sqrt(((other - index) ** 2).sum(1).min()) - 1
    assert atlas.to_location_mm[tuple(index)] == pytest.approx(away, abs=1.5)


def test_uncertain_near_a_border_of_another_location():
  deep = region_of((26, 2, 2), SAME, margin_mm=3.0)[0]
  assert deep.certain
  assert deep.margin_mm < deep.location_margin_mm  # external capsule first
  wide = region_of((26, 2, 2), SAME, margin_mm=25.0)[0]
  assert not wide.certain


def test_outside_of_the_brain():
  near, far, lost = region_of(
    [(20, -108, 2), (0, 0, 300), (np.nan, 0, 0)], SAME
  )
  assert near.region == 'occipital'
  for place in (far, lost):
    assert (place.region, place.location) == ('outside', 'unknown')
    assert not place.certain


def test_majority_of_the_voxels_and_ties():
  pons, putamen, lobe = (0, -27, -34), (26, 2, 2), (40, 45, 15)
  most = regions.region_of_lesions(
    [np.array([putamen, putamen, lobe]), np.array([putamen, lobe]),
     np.array([lobe, putamen, pons])], SAME
  )  # fmt: skip
  assert [p.region for p in most] == [
    'basal ganglia', 'basal ganglia', 'brainstem',
  ]  # fmt: skip
  assert not most[2].certain  # its middle is elsewhere
  assert regions.region_of_lesions([], SAME) == []


def own_atlas(folder, table=None):
  labels = np.zeros((20, 20, 20), np.int16)
  labels[:10], labels[10:] = 1, 7
  affine = np.diag([-4.0, 4, 4, 1])  # stored from right to left
  affine[:3, 3] = (38, -60, -40)
  nib.save(nib.Nifti1Image(labels, affine), folder / 'mine.nii.gz')
  if table is not None:
    (folder / 'mine.tsv').write_text(table)
  return folder / 'mine.nii.gz'


def test_a_map_of_ones_own(tmp_path):
  table = 'index\tname\tlocation\n1\tRight half\tlobar\n7\tLeft half\tdeep\n'
  atlas = regions.load_atlas(own_atlas(tmp_path, table))
  right, left, border = region_of(
    [(20, 0, 0), (-20, 0, 0), (1, 0, 0)], SAME, atlas=atlas
  )
  assert (right.region, right.location) == ('Right half', 'lobar')
  assert (left.region, left.location) == ('Left half', 'deep')
  assert right.margin_mm == pytest.approx(20, abs=2)
  assert right.certain
  assert not border.certain


def test_beyond_a_map_eight_mm_are_mm(tmp_path):
  """Voxels of 4 mm end at 40 mm: 6 mm beyond, and 10."""
  atlas = regions.load_atlas(own_atlas(tmp_path))
  near, far = region_of([(46, 0, 0), (50, 0, 0)], SAME, atlas=atlas)
  assert (near.region, far.region) == ('label 1', 'outside')


def test_a_map_without_names(tmp_path):
  atlas = regions.load_atlas(own_atlas(tmp_path))
  place = region_of((-20, 0, 0), SAME, atlas=atlas)[0]
  assert (place.region, place.location) == ('label 7', 'unknown')
  assert place.certain  # of its region


@pytest.mark.parametrize(
  'table',
  [
    'a,b\n1,2\n',
    'index\tname\nx\tA\n',
    'index\tname\n1\n',
    'index\tname\tlocation\n1\tA\tcortical\n',
  ],
)
def test_bad_tables_are_refused(tmp_path, table):
  with says(InputError):
    regions.load_atlas(own_atlas(tmp_path, table))


def test_bad_maps_are_refused(tmp_path):
  with pytest.raises(NoInputError):
    regions.load_atlas(tmp_path / 'none.nii')
  with pytest.raises(NoInputError):
    regions.load_atlas(own_atlas(tmp_path), tmp_path / 'none.tsv')
  for values in (0.5, 0.0):
    image = nib.Nifti1Image(np.full((4, 4, 4), values, np.float32), SAME)
    nib.save(image, tmp_path / 'bad.nii')
    with says(InputError, 'bad.nii'):
      regions.load_atlas(tmp_path / 'bad.nii')


def test_agreement_with_the_mars_atlas(real_data):
  path = real_data('mars_atlas/MARS_scale_parcellation_map_mni.nii.gz')
  image = volume.load(path)
  labels = np.rint(np.sqrt(np.maximum(image.array, 0))).astype(int)
  index = np.argwhere(labels)[::3]
  theirs = labels[tuple(index.T)]
  atlas = regions.drawn_atlas()
  at, _ = regions._nearest(image.to_world(index), atlas)
  ours = atlas.labels[at].astype(int)
  least = dict(zip(regions.REGIONS[1:], (
    0.88, 0.94, 0.70, 0.84, 0.55, 0.50, 0.58, 0.68, 0.89, 0.83, 0.83, 0.81,
    0.56,
  )))  # fmt: skip
  for number, name in enumerate(regions.REGIONS[1:], 1):
    both = ((ours == number) & (theirs == number)).sum()
    dice = 2 * both / ((ours == number).sum() + (theirs == number).sum())
    assert dice > least[name], (name, dice)
  location = np.array([regions.LOCATIONS.index(n) for n in atlas.locations])
  same = location[ours] == location[theirs]
  assert same.mean() > 0.91
  assert same[atlas.to_location_mm[at] >= 3].mean() > 0.96


@pytest.mark.parametrize(
  ('numbers', 'region'),
  [
    ((2, 52), 'basal ganglia'),  # caudate
    ((6, 56), 'basal ganglia'),  # external pallidum
    ((7, 57), 'basal ganglia'),
    ((9, 59), 'basal ganglia'),  # putamen
    ((10, 60), 'brainstem'),  # red nucleus
    ((12, 62), 'brainstem'),  # substantia nigra
  ],
)
def test_iron_nuclei_lie_in_their_region(real_data, numbers, region):
  path = real_data('deep_grey/7TAmi_DGN_0.5_MNI_nlin_SyN.nii.gz')
  for number in numbers:
    assert region_of(_centres(path)[number], SAME)[0].region == region


@pytest.mark.parametrize(
  ('number', 'name'),
  [(52, 'caudate'), (59, 'putamen'), (56, 'pallidum')],
)
def test_drawn_nuclei_are_where_they_are(real_data, number, name):
  path = real_data('deep_grey/7TAmi_DGN_0.5_MNI_nlin_SyN.nii.gz')
  ours = region_geometry.nuclei()[name]
  assert np.linalg.norm(_centres(path)[number] - ours) < 4.0


@functools.lru_cache(maxsize=1)
def _centres(path) -> dict[int, np.ndarray]:
  """Centre in MNI mm of each label."""
  image = volume.load(path)
  index = np.argwhere(image.array)
  label = image.array[tuple(index.T)].astype(int)
  mm = image.to_world(index)
  return {n: mm[label == n].mean(0) for n in np.unique(label)}
