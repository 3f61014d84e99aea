"""Plexus, pineal, calcium, arteries and fluid along vessels of one person.

Rule: each is drawn in MNI mm into the images of a `Canvas`, and gets a label.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from cmbjax.simulate import anatomy, solids, tubes

KINDS = ('choroid plexus', 'pineal', 'calcified pallidum')
# Right side, MNI mm, and radii: glomus in the atrium, along the floor of the
# body to the foramen, and into the temporal horn.
_PLEXUS = (
  (30, -32, -4), (28, -40, 4), (23, -40, 12), (17, -32, 15), (11, -18, 16),
  (6, -4, 14), (2, 3, 10),
)  # fmt: skip
_PLEXUS_MM = (0.8, 1.6, 3.2, 1.8, 1.1, 0.9, 0.6)
_PINEAL = (0.0, -27.0, 3.0)
_CALCIFIED = (17.0, -3.0, -2.0)  # pallidum, inner part
# Where small arteries begin and end, right side: lenticulostriate, and those
# of the insula.
_MIDDLE = ((15, 2, -15), (31, 2, -17))


class Canvas(NamedTuple):
  """Images of one head, [X, Y, Z], changed in place."""

  mni: np.ndarray
  grey: np.ndarray
  white: np.ndarray
  csf: np.ndarray
  chi: np.ndarray
  void: np.ndarray
  labels: np.ndarray


def put_parts(rng, canvas: Canvas, *, age: float, first: int) -> None:
  """Draws plexus, pineal gland and calcified pallidum.

  Args:
    rng: numpy generator.
    canvas: of the head.
    age: 0 young .. 1 old; calcium comes with it.
    first: label of the first of `KINDS`, less one.
  """
  for side in (-1, 1):
    path = np.array(_PLEXUS) * (side, 1, 1) + rng.normal(0, 0.8, (7, 3))
    radii = np.array(_PLEXUS_MM) * rng.uniform(0.7, 1.3)
    _put_tissue(
      rng, canvas, lambda p, path=path, radii=radii: solids.chain(
        p, path, radii
      ), path.mean(0), 24, first + 1, in_fluid=True,
    )  # fmt: skip
  centre = np.array(_PINEAL) + rng.normal(0, 0.8, 3)
  axes = np.array([2.6, 4.0, 2.4]) * rng.uniform(0.7, 1.3, 3)
  _put_tissue(
    rng, canvas, lambda p: solids.ellipsoid(p, centre, axes), centre, 6,
    first + 2, in_fluid=False,
  )  # fmt: skip
  if rng.random() < 0.05 + 0.25 * age:
    amount = rng.uniform(0.3, 1.0)
    for side in (-1, 1):
      _calcify(rng, canvas, side, amount, first + 3)


def _put_tissue(rng, canvas, depth_at, centre, reach, number, *, in_fluid):
  """Grey tissue with dark grains of blood and calcium."""
  box = solids.box_of(canvas.mni, centre, reach)
  if box is None:
    return
  depth = depth_at(canvas.mni[(slice(None), *box)])
  grain = rng.standard_normal(depth.shape, np.float32)
  share = solids.soft(depth + np.float32(0.4) * grain)
  if in_fluid:
    share = np.minimum(share, canvas.csf[box])
  for image, wanted in ((canvas.grey, 1), (canvas.white, 0), (canvas.csf, 0)):
    image[box] += share * (wanted - image[box])
  chi, void = canvas.chi[box], canvas.void[box]
  chi += share * np.float32(rng.uniform(0.03, 0.10)) * grain
  # Grains of calcium take signal away.
  calcium = share * np.clip(grain - np.float32(rng.uniform(0.8, 2.5)), 0, 1)
  void[...] = np.maximum(void, np.float32(0.6) * calcium)
  chi -= np.float32(0.5) * calcium
  canvas.labels[box][share > 0.4] = number


def _calcify(rng, canvas, side, amount, number) -> None:
  """Grains of calcium in the inner part of a pallidum."""
  centre = np.array(_CALCIFIED) * (side, 1, 1) + rng.normal(0, 0.8, 3)
  box = solids.box_of(canvas.mni, centre, 9)
  if box is None:
    return
  points = canvas.mni[(slice(None), *box)]
  depth = solids.ellipsoid(points, centre, rng.uniform(2.0, 4.5, 3))
  grain = rng.standard_normal(depth.shape, np.float32)
  share = solids.soft(depth, 3.0) * np.clip(grain - 0.2, 0, 1)
  share *= np.float32(amount)
  canvas.chi[box] -= np.float32(0.6) * share
  canvas.void[box] = np.maximum(canvas.void[box], np.float32(0.6) * share)
  canvas.labels[box][share > 0.3] = number


def finish_head(rng, head, *, trunks, void, kinds, labels, age):
  """The head with its small arteries, fluid along vessels, and details.

  Args:
    rng: numpy generator.
    head: the person.
    trunks: large arteries, grid mm.
    void, kinds, labels: of `anatomy.Details`.
    age: 0 young .. 1 old.
  """
  arteries = tubes.carry(_draw_small_arteries(rng), head)
  spaces = tubes.carry(_draw_spaces(rng, age), head)
  # Ventricles differ from tissue: darker, or brighter by pulsation.
  dark = rng.random() < 0.5
  fluid = rng.uniform(0.45, 0.8) if dark else rng.uniform(1.15, 1.7)
  details = anatomy.Details(
    void=void, fluid=fluid,
    inflow=rng.uniform(0.4, 2.0), flow_r2s=float(np.exp(rng.uniform(3, 5.4))),
    arteries=tubes.stack([trunks, arteries]), spaces=spaces, kinds=kinds,
    labels=labels,
  )  # fmt: skip
  return dataclasses.replace(head, details=details)


def _draw_small_arteries(rng) -> tubes.Tubes:
  """Lenticulostriate arteries and branches in the insula, MNI mm."""
  start, stop = (np.array(p, float) for p in _MIDDLE)
  parts = []
  for side in (-1, 1):
    for _ in range(rng.integers(3, 9)):
      root = start + rng.uniform(0.1, 0.9) * (stop - start)
      end = (rng.uniform(18, 30), rng.uniform(-10, 8), rng.uniform(4, 18))
      bend = (rng.uniform(24, 31), root[1] - 1, -4)
      line = np.array([root, bend, end]) * (side, 1, 1)
      parts.append(_curve(line, rng.uniform(0.18, 0.4), 'lenticulostriate'))
    for _ in range(rng.integers(2, 6)):
      y = rng.uniform(-30, 8)
      line = [(36, 2, -14), (41, (y + 2) / 2, -4), (40, y, rng.uniform(0, 14))]
      line = np.array(line) * (side, 1, 1) + rng.normal(0, 1.5, (3, 3))
      parts.append(_curve(line, rng.uniform(0.4, 0.8), 'insular branch'))
  return tubes.stack(parts)


def _draw_spaces(rng, age) -> tubes.Tubes:
  """Fluid along vessels: basal ganglia, and white matter of the convexity."""
  many = rng.gamma(1.5, 0.4 + 0.6 * age)
  parts = []
  for _ in range(4 + int(12 * many)):
    side = rng.choice((-1, 1))
    root = np.array([rng.uniform(14, 28), rng.uniform(-6, 12), -10])
    way = np.array([rng.normal(0, 2), rng.normal(0, 2), rng.uniform(5, 14)])
    line = np.array([root, root + way / 2, root + way]) * (side, 1, 1)
    parts.append(_curve(line, 0.2 + rng.gamma(1.5, 0.12), _SPACE))
  for _ in range(4 + int(40 * many)):
    side = rng.choice((-1, 1))
    root = np.array([
      rng.uniform(20, 30), rng.uniform(-60, 30), rng.uniform(26, 36)
    ])  # fmt: skip
    way = (root - (12, -15, 0)) * (0.7, 0.25, 0) + (0, 0, rng.uniform(2, 16))
    way *= rng.uniform(5, 16) / np.linalg.norm(way)
    line = np.array([root, root + way / 2, root + way])
    line[1] += rng.normal(0, 0.8, 3)
    parts.append(
      _curve(line * (side, 1, 1), 0.15 + rng.gamma(1.5, 0.09), _SPACE)
    )
  return tubes.stack(parts)


_SPACE = 'perivascular space'


def _curve(line, radius, kind) -> tubes.Tubes:
  """A tube along the parabola from the first to the last of three points."""
  first, bend, last = line
  length = np.linalg.norm(bend - first) + np.linalg.norm(last - bend)
  t = np.linspace(0, 1, max(3, round(length / tubes.STEP_MM)))[:, None]
  points = (1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * last
  wide = radius * (1 - 0.4 * t[:, 0])
  return tubes.Tubes(
    points[None].astype(np.float32), wide[None].astype(np.float32),
    np.array([kind]),
  )  # fmt: skip
