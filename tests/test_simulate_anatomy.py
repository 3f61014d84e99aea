"""Interpolation, nuclei and regions against published places."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from cmbjax.simulate import anatomy, grids, tissue_atlas

ATLAS_LABELS = {
  'caudate': (2, 52),
  'putamen': (9, 59),
  'pallidum': (6, 7, 56, 57),
  'red nucleus': (10, 60),
  'substantia nigra': (12, 62),
  'subthalamic nucleus': (11, 61),
}


def test_refine_reproduces_a_quadratic_inside():
  x, y, z = np.meshgrid(*[np.arange(12.0)] * 3, indexing='ij')
  image = 1 + x - y + 0.5 * x * y + 0.1 * z * z
  fine = grids.refine(
    image, (17, 18, 12), step=(0.5, 0.5, 0.75), offset=(1, 1, 1)
  )
  x, y, z = np.meshgrid(
    1 + 0.5 * np.arange(17), 1 + 0.5 * np.arange(18), 1 + 0.75 * np.arange(12),
    indexing='ij',
  )  # fmt: skip
  wanted = 1 + x - y + 0.5 * x * y + 0.1 * z * z
  np.testing.assert_allclose(fine, wanted, atol=1e-4)


def test_refine_keeps_the_edge_value():
  fine = grids.refine(np.ones((4, 4, 4)), (10, 10, 4), step=(0.5, 0.5, 1))
  np.testing.assert_allclose(fine, 1, atol=1e-6)


def test_displacement_of_a_slab_is_part_of_the_whole():
  knots = anatomy.draw_knots(np.random.default_rng(3), (60, 70, 80))
  whole = anatomy.displacement(knots, (60, 70, 80), origin=(0, 0, 0))
  slab = anatomy.displacement(knots, (60, 70, 20), origin=(0, 0, 30))
  coarse = anatomy.displacement(knots, (30, 35, 40), origin=(0, 0, 0), step=2.0)
  np.testing.assert_allclose(slab, whole[..., 30:50], atol=1e-4)
  np.testing.assert_allclose(coarse, whole[:, ::2, ::2, ::2], atol=1e-4)
  assert 0.5 < whole.std() < 4.0  # mm


def test_regions_share_the_brain_sensibly():
  atlas = tissue_atlas.load()
  volume = np.bincount(atlas.region.ravel(), minlength=7) / 1000  # ml
  found = dict(zip(tissue_atlas.REGIONS, volume))
  assert 140 < found['cerebellum'] < 240
  assert 20 < found['brainstem'] < 40
  assert 10 < found['basal ganglia'] < 35
  assert 5 < found['thalamus'] < 20
  assert found['cortex'] > found['white matter'] > 400


def _centroid(image, affine, side):
  index = np.argwhere(image)
  world = index @ affine[:3, :3].T + affine[:3, 3]
  return world[world[:, 0] * side > 0].mean(0)


def test_nuclei_lie_where_the_deep_grey_atlas_has_them(real_data):
  image = nib.load(real_data('deep_grey/7TAmi_DGN_0.5_MNI_nlin_SyN.nii.gz'))
  # Every second voxel is enough for centroids.
  atlas = np.asarray(image.dataobj)[::2, ::2, ::2]
  step = image.affine @ np.diag([2, 2, 2, 1])
  ours = tissue_atlas.load()
  affine = np.eye(4)
  affine[:3, 3] = ours.origin_mm + [b.start for b in tissue_atlas.NUCLEI_BOX]
  names = [n.name for n in tissue_atlas.NUCLEI]
  for name, labels in ATLAS_LABELS.items():
    found = ours.nuclei[names.index(name)] > 127
    for side in (-1, 1):
      wanted = _centroid(np.isin(atlas, labels), step, side)
      gap = _centroid(found, affine, side) - wanted
      assert np.linalg.norm(gap) < 4.0, (name, side)


def test_regions_lie_where_the_mars_atlas_has_them(real_data):
  image = nib.load(
    real_data('mars_atlas/MARS_scale_parcellation_map_mni.nii.gz')
  )
  atlas = np.rint(np.sqrt(np.asarray(image.dataobj, np.float32)))
  ours = tissue_atlas.load()
  affine = np.eye(4)
  affine[:3, 3] = ours.origin_mm
  regions = ('brainstem', 'cerebellum', 'basal ganglia', 'thalamus')
  for label, name in enumerate(regions, start=1):
    found = ours.region == tissue_atlas.REGIONS.index(name)
    for side in (-1, 1):
      wanted = _centroid(atlas == label, image.affine, side)
      gap = _centroid(found, affine, side) - wanted
      assert np.linalg.norm(gap) < 4.0, (name, side)


def test_iron_is_highest_in_the_pallidum():
  head = anatomy.draw_head(
    np.random.default_rng(2), full_mm=(176.0, 216.0, 168.0)
  )
  place = head.from_mni(np.array([[18.4, -2, -1.2], [-18.4, -2, -1.2]]))
  pallidum = grids.sample(head.iron_ppm, place)
  white = head.from_mni(np.array([[28.0, -30, 28]]))
  assert pallidum.min() > 0.05
  assert grids.sample(head.iron_ppm, white)[0] < 0.005
  assert ndimage.label(head.mask)[1] == 1
