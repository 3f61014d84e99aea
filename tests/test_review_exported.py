"""What an export is to those who read it: names of images, regions."""

import numpy as np
import pytest

from cmbjax.data import cohort
from cmbjax.errors import InputError
from cmbjax.imaging import registration, volume
from cmbjax.reconstruct import scan_image
from cmbjax.review.cases import case as cases
from cmbjax.review.cases import sources
from cmbjax.review.export import cohort as export
from cmbjax.review.export import located
from cmbjax.review.log.items import AFTER, MODEL, Item
from tests import readings, small_cohorts, test_registration
from tests.lesion_data import read_table
from tests.messages import says


def test_a_magnitude_stays_one(tmp_path):
  one = small_cohorts.phantom(5)
  image = tmp_path / 'scans/sub-07/anat/sub-07_part-mag_T2starw.nii.gz'
  small_cohorts.save(image, one.swi.astype(np.int16), one.affine)
  (case,) = sources.find(tmp_path / 'scans').cases
  assert case.is_magnitude
  ijk = tuple(map(int, one.lesion_voxels[0]))
  index = int(np.ravel_multi_index(ijk, one.swi.shape, order='F'))
  drawn = {'set': [index], 'tool': {'name': 'brush', 'mm': 1}}
  new = readings.action('add', ijk=list(ijk), **drawn)
  readings.read_case(tmp_path / 'r', 'ann', case, None, extra=[new])
  out = export.write_cohort([case], tmp_path / 'r', 'ann', tmp_path / 'c')
  assert sorted(p.name for p in (out / 'sub-07/anat').iterdir()) == [
    'sub-07_part-mag_T2starw.json',
    'sub-07_part-mag_T2starw.nii.gz',
  ]
  (scan,) = cohort.read_cohort(out).scans
  assert scan_image.load_image(scan.files).made == 'magnitude'
  (again,) = sources.find(out).cases
  assert again.is_magnitude
  assert len(cases.load(again).candidates) == 1
  (row,) = read_table(
    small_cohorts.label_path(out, 'sub-07', ending='seg-cmb_dseg.tsv')
  )
  assert row['region'] == 'unknown'  # a phantom is no brain
  assert export.describe(out) == []


@pytest.fixture(scope='module')
def head(tmp_path_factory):
  """A head, its mask on the disk, world to MNI mm, and the linear indices of
  places in MNI mm."""
  true = test_registration.place(turn=(6, 3, -4))
  array, mask, affine = test_registration.draw(true)
  path = tmp_path_factory.mktemp('head') / 'mask.nii.gz'
  image = volume.from_array(array, affine)
  volume.save(path, mask, image)

  def at(mni):
    world = np.linalg.inv(true) @ (*mni, 1)
    ijk = np.rint(image.to_index(world[None, :3])).astype(int)[0]
    return np.array([np.ravel_multi_index(ijk, mask.shape, order='F')])

  return image, path, true, at


def item(number, origin=AFTER, **more):
  return Item(number, origin, (0, 0, 0), **more)


def test_additions_are_named_by_where_they_lie(head, monkeypatch):
  image, path, true, at = head
  overlaps = [0.95, registration.LEAST_OVERLAP - 0.01]  # the second is bad

  def register(array, mask, affine):
    assert array.shape == mask.shape
    return registration.Registration(true, overlaps.pop(0), 0.1)

  monkeypatch.setattr(registration, 'register', register)
  asked = [
    (item(1), at((10, -18, 8))),  # thalamus
    (item(2), at((-45, 30, 30))),  # frontal lobe
    (item(3), at((25, -65, -38))),  # cerebellum
    (item(4, region='lobar'), at((10, -18, 8))),  # as the reader said
    (item(5, MODEL), at((10, -18, 8))),  # as the detection said
  ]
  found = located.locate(asked, image, path)
  assert found == {1: 'deep', 2: 'lobar', 3: 'infratentorial'}
  after = [located.named(one, found).region for one, _ in asked]
  assert after == ['deep', 'lobar', 'infratentorial', 'lobar', 'unknown']
  assert asked[0][0].region == 'unknown'  # the record stays as it was
  assert located.locate(asked, image, path) == {}
  assert not overlaps


def test_places_that_cannot_be_known_stay_unknown(head, tmp_path):
  image, _, _, at = head
  asked = [(item(1), at((10, -18, 8)))]
  noise = np.random.default_rng(0).random((20, 20, 20), np.float32)
  small = volume.from_array(noise, np.eye(4))
  assert located.locate(asked, small, None) == {}
  volume.save(tmp_path / 'm.nii.gz', noise > 0, small)
  with says(InputError):
    located.locate(asked, image, tmp_path / 'm.nii.gz')
