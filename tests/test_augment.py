"""The augmentation against numpy's quarter turns and scipy's rotation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cmbjax.data import augment
from cmbjax.errors import InputError
from tests.messages import says

PATCH = np.random.default_rng(0).random((24, 24, 12)).astype(np.float32)
STILL = {
  'flips': np.zeros(3, bool),
  'shift': np.zeros(2, np.int32),
  'angle': np.float32(0),
}

AUGMENT = jax.jit(augment.augment)


def crop(patch):
  return patch[4:20, 4:20, 2:10]


@jax.jit
def _transform(draws):
  return augment.transform(PATCH, **draws)


def transform(**draws):
  return np.asarray(_transform(STILL | draws))


def test_the_candidate_sits_at_8_8_4_of_the_crop():
  patch = np.zeros((2, 24, 24, 12))
  patch[:, 12, 12, 6] = 1
  assert np.argwhere(augment.centre_crop(patch)).tolist() == [
    [0, 8, 8, 4],
    [1, 8, 8, 4],
  ]


@pytest.mark.parametrize('turns', [-1, 0, 1, 2, 3])
def test_quarter_turns_are_exact(turns):
  expected = crop(np.rot90(PATCH, turns, axes=(0, 1)))
  scipys = ndimage.rotate(PATCH, 90 * turns, axes=(0, 1), order=1)
  np.testing.assert_allclose(crop(scipys), expected, atol=1e-6)
  angle = np.float32(np.pi / 2 * turns)
  np.testing.assert_array_equal(transform(angle=angle), expected)


@pytest.mark.parametrize('degrees', [-171.5, -33, 5, 45, 100, 179])
def test_other_angles_are_those_of_scipy(degrees):
  expected = ndimage.rotate(
    PATCH.astype(float),
    degrees,
    axes=(0, 1),
    order=1,
    reshape=False,
    mode='nearest',
  )
  np.testing.assert_allclose(
    transform(angle=np.deg2rad(np.float32(degrees))), crop(expected), atol=1e-5
  )


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_flips_are_exact(axis):
  flips = np.arange(3) == axis
  expected = crop(np.flip(PATCH, axis))
  np.testing.assert_array_equal(transform(flips=flips), expected)


@pytest.mark.parametrize('axis', [0, 1])
def test_a_shift_is_one_voxel(axis):
  shift = (np.arange(2) == axis).astype(np.int32)
  expected = crop(np.roll(PATCH, -1, axis))
  np.testing.assert_array_equal(transform(shift=shift), expected)


def test_flip_then_shift_then_rotate():
  expected = np.rot90(
    np.roll(np.flip(PATCH, (0, 2)), (-1, -1), (0, 1)), 1, axes=(0, 1)
  )
  found = transform(
    flips=np.array([True, False, True]),
    shift=np.array([1, 1]),
    angle=np.float32(np.pi / 2),
  )
  np.testing.assert_array_equal(found, crop(expected))


def test_mirror_images_are_the_eight_of_numpy_and_of_the_flips():
  images = list(augment.mirrored(PATCH[None]))
  assert len(images) == 8
  np.testing.assert_array_equal(images[0][0], PATCH)
  for image, axes in zip(images[1:], [(2,), (1,), (1, 2), (0,), (0, 2)]):
    np.testing.assert_array_equal(image[0], np.flip(PATCH, axes))
  assert len({image.tobytes() for image in images}) == 8
  with_channels = jnp.stack([PATCH, PATCH + 1], -1)[None]
  (*_, last) = augment.mirrored(with_channels)
  np.testing.assert_array_equal(last[0, ..., 1], np.flip(PATCH) + 1)
  np.testing.assert_allclose(
    augment.centre_crop(last[0, ..., 0]),
    transform(flips=np.ones(3, bool)),
    atol=1e-6,
  )


def test_vmap_and_jit_change_nothing():
  keys = jax.random.split(jax.random.key(1), 5)
  patches = jnp.stack([jnp.asarray(PATCH) + n for n in range(5)])
  single = jnp.stack([AUGMENT(k, p) for k, p in zip(keys, patches)])
  batch = jax.jit(jax.vmap(augment.augment))(keys, patches)
  assert batch.shape == (5, 16, 16, 8)
  assert batch.dtype == jnp.float32
  np.testing.assert_allclose(batch, single, atol=1e-5)


def test_half_precision_patches_give_float32():
  seen = AUGMENT(jax.random.key(0), PATCH.astype(np.float16))
  assert seen.dtype == jnp.float32


def test_all_draws_come_as_often_as_they_should():
  keys = jax.random.split(jax.random.key(2), 1000)
  grid = np.indices((24, 24, 12)).astype(np.float32)  # x, y, z of each voxel
  run = jax.jit(jax.vmap(augment.augment, in_axes=(0, None)))
  x, y, z = (np.asarray(run(keys, part)) for part in grid)
  assert 0.45 < (z[:, 0, 0, 0] == 9).mean() < 0.55
  assert 0.45 < (z[:, 0, 0, 0] == 2).mean() < 0.55
  # The step from one voxel to the next tells flips and angle.
  along = np.stack(
    [x[:, 8, 8, 0] - x[:, 7, 8, 0], y[:, 8, 8, 0] - y[:, 7, 8, 0]]
  )
  across = np.stack(
    [x[:, 8, 8, 0] - x[:, 8, 7, 0], y[:, 8, 8, 0] - y[:, 8, 7, 0]]
  )
  mirrored = along[0] * across[1] - along[1] * across[0]
  np.testing.assert_allclose(np.abs(mirrored), 1, atol=1e-4)
  assert 0.45 < (mirrored < 0).mean() < 0.55
  angle = np.arctan2(along[1], along[0])
  counts, _ = np.histogram(angle, 8, (-np.pi, np.pi))
  assert counts.min() > 85  # 125 expected, sd 10
  assert counts.max() < 165
  # The middle of the crop is moved by the shift alone.
  middle = np.abs(x[:, 7:9, 7:9, 0].mean((1, 2)) - 11.5)
  assert 0.45 < np.isclose(middle, 1, atol=1e-4).mean() < 0.55
  assert 0.45 < np.isclose(middle, 0, atol=1e-4).mean() < 0.55


def test_strength_scales_all_draws():
  """0 is the crop alone; 1 is the default; between, angles are smaller."""
  patch = np.random.default_rng(3).random((24, 24, 12)).astype(np.float32)
  for seed in range(4):
    key = jax.random.key(seed)
    np.testing.assert_array_equal(
      augment.augment(key, patch, 0.0), augment.centre_crop(patch)
    )
    np.testing.assert_array_equal(
      augment.augment(key, patch, 1.0), augment.augment(key, patch)
    )
  keys = jax.random.split(jax.random.key(9), 64)
  far = [
    float(
      jnp.abs(
        jax.vmap(augment.augment, (0, None, None))(keys, patch, strength)
        - augment.centre_crop(patch)
      ).mean()
    )
    for strength in (0.02, 0.2, 1.0)
  ]
  assert far[0] < far[1] < far[2]


NAMES = ('swi', 'phase', 'wide', 'mirror', 'place')
MANY = np.random.default_rng(5).random((*PATCH.shape, 7)).astype(np.float32)
MANY = np.float32(0.3) + np.float32(0.4) * MANY
LOOK = jax.jit(augment.find('appearance', NAMES))


def test_appearance_at_no_strength_is_the_crop():
  found = LOOK(jax.random.key(0), MANY, 0.0)
  expected = augment.centre_crop(MANY[None])[0]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_appearance_changes_what_shows_the_swi_alone():
  """The others are moved as ever, and with the same draws."""
  for seed in range(4):
    key = jax.random.key(seed)
    found = np.asarray(LOOK(key, MANY, 1.0))
    moved = np.asarray(AUGMENT(jax.random.split(key, 6)[0], MANY))
    same = [1, 4, 5, 6]  # phase, place
    np.testing.assert_allclose(found[..., same], moved[..., same], atol=1e-6)
    for changed in (0, 2, 3):
      assert np.abs(found[..., changed] - moved[..., changed]).max() > 0.01
    assert found.min() >= 0
    assert found.max() <= 1


def test_appearance_is_one_look_for_all_images_of_the_swi():
  """Without noise, equal images stay equal; a wide one is blurred less."""
  patch = np.stack([PATCH, PATCH, PATCH], -1)
  run = jax.jit(augment.find('appearance', ('swi', 'wide', 'mirror')))
  for seed in range(4):
    swi, wide, other = np.moveaxis(run(jax.random.key(seed), patch, 1.0), -1, 0)
    # Noise of .05 at most, drawn apart.
    assert np.abs(swi - other).std() < 0.08
    assert np.corrcoef(swi.ravel(), other.ravel())[0, 1] > 0.8
    assert wide.std() > 0.9 * swi.std()


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_blur_is_that_of_scipy(axis):
  width = np.array([0.0, 0.5, 1.4], np.float32)
  image = np.stack([PATCH] * 3, -1)
  found = np.asarray(augment._blurred(image, axis, width))
  np.testing.assert_allclose(found[..., 0], PATCH, atol=1e-6)
  for n in (1, 2):
    expected = ndimage.gaussian_filter1d(
      PATCH, width[n], axis, mode='nearest', radius=3
    )
    np.testing.assert_allclose(found[..., n], expected, atol=1e-5)


def test_appearance_under_vmap_and_by_strength():
  keys = jax.random.split(jax.random.key(3), 32)
  swi = PATCH[..., None]
  run = jax.jit(jax.vmap(augment.appearance, (0, None, None)))
  few, many = (
    np.abs(
      run(keys, swi, strength).mean((1, 2, 3, 4)) - PATCH[4:20, 4:20].mean()
    )
    for strength in (0.1, 1.0)
  )
  assert 2 * few.mean() < many.mean() < 0.2
  single = jax.jit(augment.appearance)(keys[0], swi, 1.0)
  np.testing.assert_allclose(run(keys, swi, 1.0)[0], single, atol=1e-5)
  assert single.shape == (16, 16, 8, 1)
  with says(InputError, 'patch'):
    augment.appearance(keys[0], MANY, 1.0, channels=('swi', 'wide'))


def brighter(key, patch, strength):
  return augment.centre_crop(patch) + strength


def uncropped(key, patch, strength):
  return patch


def test_an_own_augmentation_by_name():
  assert augment.find('chen2018') is augment.augment
  assert augment.find('tests.test_augment:brighter').__name__ == 'brighter'
  for name in (
    'chen',
    'tests.test_augment:uncropped',
    'tests.test_augment:crop',
  ):
    with says(InputError, f'config.train.augmenter {name}'):
      augment.find(name)
