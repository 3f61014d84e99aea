"""What people do to a scan afterwards: resampling, masks, few grey levels.

Rule: a family takes a whole `scan.SimulatedScan` and gives one back, truth and
image on one grid; without magnitude and phase it is a finished image.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import resample
from cmbjax.imaging.swi import scale_to_unit
from cmbjax.simulate import randomised
from cmbjax.simulate.scan import SimulatedScan

_COARSE_MM = 2.0  # on which masks and smooth fields are made
_THICK_MM = 1.5  # slices from here on are interpolated by some
_FEWEST_LEVELS = 24  # of grey
_FADED = 0.08  # mean contrast of a lesion that one cannot see any more
_AROUND_MM = 3.0  # in which a lesion is compared with what is beside it
FADED = 'faded microbleed'


class Chances(NamedTuple):
  """How often each step is taken."""

  resample: float
  strip: float
  flatten: float


def leave(rng, scan, protocol) -> SimulatedScan:
  """Family 'none': the scan as it is.

  Args:
    rng: numpy generator.
    scan: what was simulated.
    protocol: how.
  """
  del rng, protocol
  return scan


def treated(rng, scan, protocol, *, chances) -> SimulatedScan:
  """Steps in the order in which people take them.

  Args:
    rng: numpy generator.
    scan: what was simulated.
    protocol: how.
    chances: of the large steps; the small ones have their own.
  """
  done, before = {}, contrasts(scan)
  if rng.random() < chances.resample:
    scan, done['ResampledMm'] = _resample(rng, scan, protocol)
  voxel_mm = spacing_of(scan.affine)
  image, brain = scan.swi, scan.brain
  if rng.random() < chances.flatten:
    done['FlattenedMm'] = sigma = round(rng.uniform(8, 35), 1)
    image = flattened(image, brain, voxel_mm, sigma_mm=sigma)
  if rng.random() < chances.strip:
    done['Stripped'] = True
    brain = brain & strip_mask(rng, brain, voxel_mm)
    image = np.where(brain, image, 0)
  if rng.random() < 0.2:
    done['Denoised'] = share = round(rng.uniform(0.5, 1.2), 2)
    image = denoised(image, brain, share=share)
  if rng.random() < 0.25:
    done['SmoothedMm'] = sigma = round(rng.uniform(0.2, 0.5), 2)
    image = ndimage.gaussian_filter(image, sigma / voxel_mm)
  image = scale_to_unit(image, brain)
  if rng.random() < 0.5:
    done['Gamma'] = gamma = round(rng.uniform(0.6, 1.5), 2)
    image = image ** np.float32(gamma)
  if rng.random() < 0.3:
    done['GreyLevels'] = levels = int(rng.integers(_FEWEST_LEVELS, 128))
    image = np.rint(image * (levels - 1)) / np.float32(levels - 1)
  bare = rng.random() < 0.5
  return finished(scan, image, brain, before=before, bare=bare, done=done)


resampled = functools.partial(treated, chances=Chances(1.0, 0.35, 0.2))
stripped = functools.partial(treated, chances=Chances(0.2, 1.0, 0.35))
flattened_scan = functools.partial(treated, chances=Chances(0.2, 0.5, 1.0))


def finished(scan, image, brain, *, before, bare, done) -> SimulatedScan:
  """A scan of which one image is left, and the truth inside its brain.

  A lesion that cannot be seen any more becomes a mimic of the kind `FADED`.

  Args:
    scan: as it was, on the same grid.
    image: [X, Y, Z], the one that is left.
    brain: bool [X, Y, Z], what is left of the brain.
    before: `contrasts` of the scan before anything was done.
    bare: nothing is known of the scanner any more.
    done: for the sidecar.
  """
  lesions = np.where(brain, scan.lesions, 0)
  mimics, rows = scan.mimics.copy(), list(scan.mimic_rows)
  made = scan._replace(
    magnitude=[], phase=[], swi=np.asarray(image, np.float32), brain=brain,
    lesions=lesions, mimics=mimics, mimic_rows=rows,
    facts=scan.facts | {'Finish': done}, bare=bool(bare),
  )  # fmt: skip
  now = contrasts(made)
  for row in scan.lesion_rows:
    left = now.get(row.index, 1.0)
    # What was hardly visible from the start is for the placement to judge.
    if left < _FADED and left < before[row.index] / 2:
      rows.append(row._replace(index=len(rows) + 1, kind=FADED))
      mimics[lesions == row.index] = len(rows)
      lesions[lesions == row.index] = 0
  return made


def contrasts(scan) -> dict[int, float]:
  """Label -> 1 - mean of a lesion over the median of the brain beside it.

  Args:
    scan: its SWI and lesions are used.
  """
  out = {}
  near = np.ceil(_AROUND_MM / spacing_of(scan.affine)).astype(int)
  boxes = ndimage.find_objects(scan.lesions)
  for index, box in enumerate(boxes, start=1):
    if box is None:
      continue
    wide = tuple(
      slice(max(0, b.start - n), b.stop + n) for b, n in zip(box, near)
    )
    image, label = scan.swi[wide], scan.lesions[wide]
    beside = image[scan.brain[wide] & (label == 0)]
    if beside.size and np.median(beside) > 0:
      out[index] = float(1 - image[label == index].mean() / np.median(beside))
  return out


def spacing_of(affine) -> np.ndarray:
  """Voxel sizes [3] in mm."""
  return np.sqrt((affine[:3, :3] ** 2).sum(0))


def _resample(rng, scan, protocol):
  """To 1 mm, to another isotropic voxel, or to twice as many slices."""
  old = spacing_of(scan.affine)
  iso = np.full(3, rng.choice([1.0, round(rng.uniform(0.9, 1.3), 2)]))
  halved = old * (1, 1, 0.5)
  double = rng.random() < 0.25 and old[2] >= _THICK_MM
  double = double and not randomised.is_held_out(protocol.field_t, halved)
  new = halved if double else iso
  turn = np.zeros(3) if double else rng.normal(0, 4, 3) * (rng.random() < 0.5)
  order = int(rng.choice([1, 3]))
  made = on_grid(scan, new_mm=new, turn_deg=turn, order=order)
  return made, [round(float(v), 3) for v in new]


def on_grid(scan, *, new_mm, turn_deg=(0, 0, 0), order=1) -> SimulatedScan:
  """A finished scan on another grid round the same middle.

  Images are taken at points, without a filter before, as registration tools
  do it; a lesion between all points keeps the voxel nearest to it.

  Args:
    scan: on its own grid; magnitude and phase are left out.
    new_mm: voxel sizes.
    turn_deg: about x, y and z, of the new grid against the old one.
    order: of the spline.
  """
  from scipy.spatial.transform import Rotation

  old = spacing_of(scan.affine)
  size = np.array(scan.swi.shape)
  shape = tuple(np.maximum(np.floor(size * old / new_mm + 1e-3), 1).astype(int))
  turn = Rotation.from_euler('xyz', turn_deg, degrees=True).as_matrix()
  matrix = turn * new_mm / old[:, None]  # new index to old index
  offset = (size - 1) / 2 - matrix @ ((np.array(shape) - 1) / 2)
  if not np.any(turn_deg):
    matrix = np.diag(matrix)  # axis by axis is much faster

  def move(image, order):
    return ndimage.affine_transform(
      image, matrix, offset, shape, order=order, mode='constant'
    )

  affine = np.eye(4)
  full = np.diag(matrix) if np.ndim(matrix) == 1 else matrix
  affine[:3, :3] = scan.affine[:3, :3] @ full
  affine[:3, 3] = scan.affine[:3, :3] @ offset + scan.affine[:3, 3]
  lesions = move(scan.lesions, 0)
  back = np.linalg.inv(full)
  for index in set(np.unique(scan.lesions)) - set(np.unique(lesions)):
    middle = np.argwhere(scan.lesions == index).mean(0)
    place = np.rint(back @ (middle - offset)).astype(int)
    if (place >= 0).all() and (place < shape).all():
      lesions[tuple(place)] = index
  mimics = move(scan.mimics, 0)
  mimics[lesions > 0] = 0
  image = np.maximum(move(scan.swi, order), 0)  # a cubic one overshoots
  brain = move(scan.brain.astype(np.float32), 1) > 0.5
  return scan._replace(
    magnitude=[], phase=[], swi=image, brain=brain, lesions=lesions,
    mimics=mimics, affine=affine,
  )  # fmt: skip


def flattened(image, brain, voxel_mm, *, sigma_mm) -> np.ndarray:
  """An image over its own smooth brightness, which keeps its median.

  Args:
    image: [X, Y, Z].
    brain: bool [X, Y, Z], where brightness counts.
    voxel_mm: voxel sizes.
    sigma_mm: of the Gaussian.
  """
  factors = _factors(voxel_mm, 2 * _COARSE_MM)
  sigma = sigma_mm / (np.array(factors) * voxel_mm)
  total, weight = (
    ndimage.gaussian_filter(resample.block_mean(part, factors), sigma)
    for part in (image * brain, brain)
  )
  usual = np.float32(np.median(image[brain]))
  field = total / np.maximum(weight, 1e-3)
  field = np.maximum(field, 0.2 * usual)  # far outside there is only air
  return image * (usual / resample.stretch(field, factors, image.shape))


def denoised(image, brain, *, share) -> np.ndarray:
  """An image without much of its noise, edges kept: a local Wiener filter.

  Args:
    image: [X, Y, Z].
    brain: bool [X, Y, Z], where the noise is measured.
    share: of the noise variance that is taken away.

  Source: Lim, Two-dimensional Signal and Image Processing, 1990, eq. 9.26.
  """
  mean = ndimage.uniform_filter(image, 3)
  spread = ndimage.uniform_filter(image * image, 3) - mean * mean
  noise = share * np.median(spread[brain])
  gain = np.maximum(spread - noise, 0) / np.maximum(spread, noise)
  return mean + gain * (image - mean)


def strip_mask(rng, brain, voxel_mm) -> np.ndarray:
  """What a tool took for brain: bool [X, Y, Z], up to 3 mm off at its edge.

  Args:
    rng: numpy generator.
    brain: bool [X, Y, Z].
    voxel_mm: voxel sizes.
  """
  factors = _factors(voxel_mm, _COARSE_MM)
  step = np.array(factors) * voxel_mm
  smooth = ndimage.gaussian_filter(
    resample.block_mean(brain, factors), 2.5 / step
  )
  noise = rng.standard_normal(smooth.shape, np.float32)
  noise = ndimage.gaussian_filter(noise, 8 / step)
  # Of a Gaussian edge of 2.5 mm; 0.1 and 0.9 are 3.2 mm on either side.
  level = rng.uniform(0.2, 0.75) + 0.1 * noise / noise.std()
  level = np.clip(level, 0.1, 0.9)
  return resample.stretch(smooth - level, factors, brain.shape) > 0


def _factors(voxel_mm, wanted_mm):
  """Voxels in a block of about `wanted_mm`."""
  return [max(1, round(float(wanted_mm / v))) for v in voxel_mm]
