"""An image as it leaves an archive as pictures: the finish that is held out.

Rule: it takes the steps that no other finish takes: zero-filled matrices, a
narrow window, a median filter, and blocks of a lossy code.
"""

import numpy as np
from scipy import fft, ndimage

from cmbjax.simulate import finish
from cmbjax.simulate.scan import SimulatedScan

_BLOCK = 8  # pixels, of JPEG
_MOST_VOXELS = 40e6
_FINE_MM = 0.45  # pixels from here on are interpolated
# Steps of JPEG's table of luminance (ITU-T T.81, table K.1), as a smooth rule:
# 16 at the lowest wave, about 100 at the highest.
_STEP, _SLOPE = 14.0, 6.0


def exported(rng, scan, protocol) -> SimulatedScan:
  """Family 'exported'.

  Args:
    rng: numpy generator.
    scan: what was simulated.
    protocol: how.
  """
  del protocol
  done, before = {}, finish.contrasts(scan)
  voxel_mm = finish.spacing_of(scan.affine)
  if voxel_mm[0] >= _FINE_MM and 4 * scan.swi.size <= _MOST_VOXELS:
    done['ZeroFilled'] = True
    scan = zero_filled(scan)
  image = scan.swi
  if rng.random() < 0.3:
    done['Median'] = 3
    image = ndimage.median_filter(image, (3, 3, 1))
  usual = np.median(image[scan.brain])
  low = rng.uniform(0, 0.3) * usual
  high = np.percentile(image[scan.brain], rng.uniform(85, 99.5))
  done['Window'] = [round(float(v / usual), 2) for v in (low, high)]
  image = np.clip((image - low) / (high - low), 0, 1)
  done['Quality'] = quality = int(rng.integers(40, 91))
  image = coded(image, quality=quality)
  return finish.finished(
    scan, image, scan.brain, before=before, bare=True, done=done
  )


def zero_filled(scan) -> SimulatedScan:
  """A scan with twice the matrix in plane, voxel 0 where it was.

  Args:
    scan: on its own grid; magnitude and phase are left out.
  """
  affine = scan.affine.copy()
  affine[:3, :2] /= 2
  image = np.asarray(scan.swi, np.float32)
  for axis in (0, 1):
    size = image.shape[axis]
    spectrum = fft.rfft(image, axis=axis)
    if size % 2 == 0:  # its last wave is shared by both signs
      last = [slice(None)] * 3
      last[axis] = slice(-1, None)
      spectrum[tuple(last)] /= 2
    image = fft.irfft(spectrum, 2 * size, axis=axis) * 2
  twice = [part.repeat(2, 0).repeat(2, 1) for part in scan[3:6]]
  return scan._replace(
    magnitude=[], phase=[], swi=np.maximum(image, 0).astype(np.float32),
    brain=twice[0], lesions=twice[1], mimics=twice[2], affine=affine,
  )  # fmt: skip


def coded(image, *, quality) -> np.ndarray:
  """Slices of 0..1 [X, Y, Z] after a lossy code of blocks, 0..1.

  Args:
    image: [X, Y, Z].
    quality: 1..100, as JPEG's.
  """
  scale = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
  wave = np.arange(_BLOCK)
  step = (_STEP + _SLOPE * (wave[:, None] + wave)) * scale
  step = np.maximum(step, 1)[None, :, None, :, None].astype(np.float32)
  x, y, depth = image.shape
  more = [(0, -n % _BLOCK) for n in (x, y)]
  out = np.empty(image.shape, np.float32)
  for z in range(depth):  # one slice is in the cache
    part = np.pad(image[..., z] * np.float32(255), more, mode='edge')
    blocks = part.reshape(-1, _BLOCK, part.shape[1] // _BLOCK, _BLOCK, 1)
    waves = fft.dctn(blocks, axes=(1, 3), norm='ortho')
    waves = np.rint(waves / step) * step
    blocks = fft.idctn(waves, axes=(1, 3), norm='ortho')
    out[..., z] = blocks.reshape(part.shape)[:x, :y]
  return np.clip(np.rint(out) / np.float32(255), 0, 1)
