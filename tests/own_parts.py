"""Parts that a user might bring, for tests: named as 'tests.own_parts:NAME'."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from scipy import ndimage

from cmbjax.data import augment


def augmenter(key, patch, strength):
  """No turns: the crop alone."""
  del key, strength
  return augment.centre_crop(patch)


def focal(logits, label):
  """Lin et al. 2017, with gamma 2."""
  return optax.sigmoid_focal_loss(logits, label.astype(jnp.float32), gamma=2.0)


class Small(nn.Module):
  """A network that obeys (x, train) alone."""

  width: int = 4

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(self.width, (3, 3, 3), strides=2)(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
    x = nn.Dropout(0.2, deterministic=not train)(x.mean((1, 2, 3)))
    return nn.Dense(1)(x)


def share_above_half(y, score, subject):
  """Share above one half."""
  del y, subject
  return float(np.mean(score > 0.5))


def dark_spots(swi, spacing_mm, mask):
  """A candidate stage: dark voxels that are the darkest within 2 mm."""
  size = [2 * round(2 / side) + 1 for side in spacing_mm]
  lowest = swi == ndimage.minimum_filter(swi, size)
  dark = swi < 0.6 * np.median(swi[mask]) if mask.any() else mask
  return np.argwhere(lowest & dark & mask)


class Wired(nn.Module):
  """Takes all that the package offers a network."""

  convolution: str = ''
  bn_momentum: float = 0.0
  dtype: object = None

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(2, (3, 3, 3), strides=4, name='body')(x)
    x = nn.BatchNorm(not train, momentum=self.bn_momentum, name='norm')(x)
    return nn.Dense(1, name='head')(nn.relu(x).mean((1, 2, 3)))
