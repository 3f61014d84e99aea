"""A head from no template: solids, sulci, nuclei, frame."""

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.simulate import (
  anatomy,
  families,
  procedural,
  skull,
  tissue_atlas,
)

FULL_MM = (176.0, 216.0, 168.0)


@pytest.fixture(scope='module')
def head():
  return procedural.draw_head(np.random.default_rng(3), full_mm=FULL_MM)


def test_no_template_is_read(monkeypatch):
  def refuse():
    raise AssertionError('a template was read')

  monkeypatch.setattr(tissue_atlas, 'load', refuse)
  head = procedural.draw_head(
    np.random.default_rng(8), full_mm=FULL_MM, start_mm=70.0, depth_mm=20.0
  )
  assert head.mask.shape == (176, 216, 20)


def test_shares_are_complete_and_the_brain_is_one(head):
  shares = head.grey + head.white + head.csf
  np.testing.assert_allclose(shares[head.mask], 1, atol=1e-3)
  assert min(x.min() for x in (head.grey, head.white, head.csf)) > -1e-3
  labels, _ = ndimage.label(head.mask)
  assert np.bincount(labels[head.mask]).max() > 0.999 * head.mask.sum()


def test_volumes_are_those_of_people(head):
  litres = [x[head.mask].sum() / 1e6 for x in (head.grey, head.white, head.csf)]
  for value, low, high in zip(litres, (0.5, 0.4, 0.12), (0.85, 0.8, 0.5)):
    assert low < value < high
  volume = np.bincount(head.region.ravel(), minlength=7) / 1000
  found = dict(zip(tissue_atlas.REGIONS, volume))
  assert 70 < found['cerebellum'] < 190
  assert 12 < found['brainstem'] < 40
  assert 9 < found['basal ganglia'] < 35
  assert 4 < found['thalamus'] < 20


def test_sulci_have_fluid_down_to_their_floor(head):
  under = ndimage.distance_transform_edt(head.mask)
  high = (head.mni[2] > 15) & (abs(head.mni[0]) > 30)
  fluid = head.csf > 0.5
  assert fluid[high & (under > 8) & (under < 14)].mean() > 0.03
  cortex = head.region == tissue_atlas.REGIONS.index('cortex')
  away = ndimage.distance_transform_edt(~fluid)[cortex]
  assert 1.0 < np.median(away) < 2.5  # half of 2 to 4 mm and half a voxel


def test_waves_have_their_wavelength():
  plan = procedural._draw_plan(np.random.default_rng(0))
  wave, slope, _ = procedural._draw_waves(np.random.default_rng(1), plan)
  # A plane wave of unit variance has this mean square of its slope.
  wanted = (2 * np.pi / plan.wave_mm) ** 2
  found = sum((g**2).mean() for g in np.gradient(wave, procedural._CUBE_MM))
  assert found == pytest.approx(wanted, rel=0.3)
  assert (slope > 0).all()


def test_iron_is_highest_in_pallidum_and_midbrain(head):
  kinds = head.details.kinds
  level = {
    name: np.median(
      head.iron_ppm[head.details.labels == kinds.index(f'nucleus: {name}') + 1]
    )
    for name in ('pallidum', 'red nucleus', 'putamen', 'dentate')
  }
  assert min(level[n] for n in ('pallidum', 'dentate')) > level['putamen']
  assert level['red nucleus'] > 1.5 * level['putamen']


def test_every_structure_has_its_kind():
  found = set()
  for seed in range(2):
    head = procedural.draw_head(np.random.default_rng(seed), full_mm=FULL_MM)
    numbers = np.unique(head.details.labels)
    found |= {head.details.kinds[n - 1] for n in numbers[numbers > 0]}
  faint = {'nucleus: thalamus'}
  assert found >= set(procedural.KINDS) - {'superficial siderosis'} - faint


def test_coordinates_go_there_and_back(head):
  points = np.array([[80.0, 100.0, 90.0], [60.0, 90.0, 70.0]], np.float32)
  back = head.from_mni(head.to_mni(points))
  np.testing.assert_allclose(back, points, atol=0.05)


def test_a_slab_has_the_outline_of_the_whole(head):
  slab = procedural.draw_head(
    np.random.default_rng(3), full_mm=FULL_MM, start_mm=60.0, depth_mm=40.0
  )
  whole = head.mask[:, :, 60:100]
  assert (slab.mask == whole).mean() > 0.999
  np.testing.assert_allclose(slab.mni, head.mni[..., 60:100], atol=1e-3)


def test_the_skull_fits_the_brain(head):
  plan = skull.draw_plan(np.random.default_rng(0), head)
  start, step = skull.PAD, round(skull.STEP_MM)
  size = tuple(n // step for n in head.mask.shape)
  box = tuple(slice(start, start + n) for n in size)
  coarse = head.mask[::step, ::step, ::step]
  assert (plan.brain[box] == coarse).mean() > 0.995


def test_the_last_family_of_anatomy_is_this_one():
  assert families.find('anatomy', 'procedural') is procedural.draw_head
  assert list(families.KINDS['anatomy'])[-1] == 'procedural'
  assert families.find('anatomy', 'template') is anatomy.draw_head
