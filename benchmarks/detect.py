"""Seconds per step of the candidate stage on a scan of 480 x 480 x 72 voxels.

  python benchmarks/detect.py

A made-up head of 0.5 x 0.5 x 2 mm (dark balls and tubes in noise, not a
simulated scan). Every figure is the smallest of several runs. Blob detectors
of scikit-image run beside it where that package is installed.
"""

import argparse
import os
import time

import numpy as np
from scipy import ndimage

from cmbjax.candidates import (
  blobness,
  detector,
  growing,
  learned,
  peaks,
  radial_symmetry,
  segmentation,
)

SHAPE, SPACING = (480, 480, 72), (0.5, 0.5, 2.0)


def make_head(seed: int, *, num_balls: int = 60, num_tubes: int = 900):
  """Image [X, Y, Z], brain mask and ball centres [n, 3] in voxels."""
  rng = np.random.default_rng(seed)
  axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
  half = (68 / 0.5, 86 / 0.5, 62 / 2)  # mm of a brain
  away = sum(((a - n / 2) / h) ** 2 for a, n, h in zip(axes, SHAPE, half))
  mask = away <= 1
  image = np.where(mask, np.float32(0.7), np.float32(0.1))
  inside = np.argwhere(away <= 0.85)
  for _ in range(num_tubes):
    at = inside[rng.integers(len(inside))] * np.array(SPACING)
    step = rng.normal(size=3)
    radius = rng.uniform(0.3, 0.8)
    for _ in range(rng.integers(15, 50)):
      step /= np.linalg.norm(step)
      _darken(image, at, radius, 0.25)
      at, step = at + 0.4 * step, step + rng.normal(0, 0.1, 3)
  centres = inside[rng.choice(len(inside), num_balls, replace=False)]
  for centre in centres:
    _darken(image, centre * np.array(SPACING), rng.uniform(0.8, 2.2), 0.1)
  image = ndimage.gaussian_filter(image, (0.6, 0.6, 0.3))
  image += 0.025 * rng.standard_normal(SHAPE, np.float32)
  return np.clip(image, 0, 1), mask, centres


def _darken(image, at, radius, value):
  low = np.maximum(np.ceil((at - radius) / SPACING), 0).astype(int)
  high = np.minimum((at + radius) // SPACING + 1, SHAPE).astype(int)
  part = tuple(slice(a, b) for a, b in zip(low, high))
  axes = np.ogrid[part]
  away = sum((a * s - c) ** 2 for a, s, c in zip(axes, SPACING, at))
  image[part][away <= radius**2] = value


def smallest(function, repeats: int):
  """The result and the least seconds of several calls."""
  best = np.inf
  for _ in range(repeats):
    start = time.perf_counter()
    result = function()
    best = min(best, time.perf_counter() - start)
  return result, best


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  swi, mask, centres = make_head(args.seed)
  print(
    f'{SHAPE} voxels of {SPACING} mm, {mask.sum():,} in the brain, '
    f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}'
  )
  steps(swi, mask, centres, args.repeats)
  peers(swi, mask, centres, args.repeats)


def steps(swi, mask, centres, repeats):
  """Each step alone, then the whole of it."""
  gates = detector.Gates()
  image, seconds = smallest(
    lambda: detector.flatten(swi, SPACING, mask, gates=gates), repeats
  )
  report('flatten (whole grid, no cropping)', seconds)
  response, seconds = smallest(
    lambda: radial_symmetry.radial_symmetry(image, SPACING, mask=mask),
    repeats,
  )
  report('radial symmetry, 4 radii (no cropping)', seconds)
  peak, seconds = smallest(
    lambda: peaks.find(
      image,
      response,
      SPACING,
      mask,
      gates=gates,
      least=gates.min_response,
    ),
    repeats,
  )
  report(f'{len(peak)} peaks', seconds)
  regions, seconds = smallest(
    lambda: growing.grow(image, mask, peak, SPACING), repeats
  )
  report(f'growing {len(peak)} regions', seconds)
  _, seconds = smallest(
    lambda: growing.shapes(regions, SPACING, growth_mm=gates.growth_mm),
    repeats,
  )
  report('shapes', seconds)
  _, seconds = smallest(
    lambda: blobness.blobness_at(image, peak, SPACING), repeats
  )
  report('blobness and roundness at the peaks', seconds)
  found, seconds = smallest(
    lambda: detector.propose(swi, SPACING, mask), repeats
  )
  kept = found.centre[found.kept]
  report(f'ALL of it: {len(found)} candidates, {len(kept)} kept', seconds)
  print(f'  {share(kept, centres):.3f} of the balls found')
  other, seconds = smallest(
    lambda: learned.propose(swi, SPACING, mask), repeats
  )
  report(f'instead, the learned stage: {other.kept.sum()} kept', seconds)
  found_of = share(other.centre[other.kept], centres)
  print(f'  {found_of:.3f} of the balls found')
  _, seconds = smallest(
    lambda: segmentation.segment(swi, SPACING, mask, kept), repeats
  )
  report(f'outlining {len(kept)} lesions', seconds)


def peers(swi, mask, centres, repeats):
  """Blob detectors of scikit-image on the same slices, if installed."""
  try:
    from skimage import feature
  except ImportError:
    print('scikit-image is not installed: its blob detectors are skipped')
    return
  dark = np.where(mask, 0.7 - swi, 0)
  sigmas = {'min_sigma': 1.0, 'max_sigma': 3.2, 'num_sigma': 4}
  for name in ('blob_log', 'blob_dog', 'blob_doh'):
    more = dict(sigmas)
    if name == 'blob_dog':
      del more['num_sigma']
    detector = getattr(feature, name)
    for threshold in (0.2, 0.1) if name != 'blob_doh' else (0.02, 0.01):
      found, seconds = smallest(
        lambda d=detector, t=threshold, m=more: _slices(dark, d, t, m), 1
      )
      report(f'skimage {name}, threshold {threshold}: {len(found)}', seconds)
      print(f'  {share(found, centres):.3f} of the balls found')


def _slices(dark, detector, threshold, more):
  found = [
    (*blob[:2], z)
    for z in range(dark.shape[2])
    for blob in detector(dark[..., z], threshold=threshold, **more)
  ]
  return np.array(found).reshape(-1, 3)


def share(found, centres) -> float:
  """Share of the centres with something within 3 mm."""
  if not len(found):
    return 0.0
  away = (found[:, None] - centres[None]) * np.array(SPACING)
  return float((np.linalg.norm(away, axis=2).min(0) <= 3).mean())


def report(what: str, seconds: float):
  print(f'{seconds:8.3f} s  {what}')


if __name__ == '__main__':
  main()
