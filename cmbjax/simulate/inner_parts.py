"""What is inside a procedural head: ventricles, nuclei, plexus, fluid spaces.

Rule: everything is a chain of spheres in own mm, made uneven by noise; none
of it is shared with the family that comes from the templates.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from cmbjax.simulate import anatomy, grids, solids, tissue_atlas, tubes


class Body(NamedTuple):
  """Images of one head, [X, Y, Z], changed in place; `own` [3, X, Y, Z]."""

  own: np.ndarray
  grey: np.ndarray
  white: np.ndarray
  csf: np.ndarray
  chi: np.ndarray
  void: np.ndarray
  labels: np.ndarray
  region: np.ndarray


class Chain(NamedTuple):
  """A nucleus of the right side."""

  path: tuple[tuple[float, float, float], ...]
  radii_mm: tuple[float, ...]
  flat: float  # how many times thinner across, along x
  chi_ppm: float
  grey: float
  region: str


# Rounded places and sizes of adults; iron as in Marques et al., 2021.
_BG, _TH, _BS, _CB = 'basal ganglia', 'thalamus', 'brainstem', 'cerebellum'
_NUCLEI = {
  'thalamus': Chain(
    ((7, -8, 8), (11, -18, 8), (15, -27, 6)), (6, 8, 6), 1.0, 0.02, 0.7, _TH
  ),
  'caudate': Chain(
    ((12, 16, 2), (14, 8, 13), (17, -8, 20), (24, -30, 18)), (7, 5.5, 3.5, 2),
    1.2, 0.045, 1.0, _BG,
  ),
  'putamen': Chain(
    ((22, 14, -2), (26, 4, 2), (29, -8, 3), (31, -16, 2)), (9, 11, 9, 5), 2.0,
    0.042, 1.0, _BG,
  ),
  'pallidum': Chain(
    ((15, 4, -3), (18, -2, -1), (22, -8, 1)), (4, 6, 4), 1.5, 0.13, 0.8, _BG
  ),
  'subthalamic nucleus': Chain(
    ((9, -15, -8), (13, -11, -5)), (2.2, 2.0), 1.3, 0.11, 0.8, _BS
  ),
  'red nucleus': Chain(
    ((5, -20, -11), (5.5, -18, -7)), (3.2, 3.0), 1.0, 0.10, 0.8, _BS
  ),
  'substantia nigra': Chain(
    ((5, -14, -16), (9, -17, -13), (13, -21, -10)), (1.6, 2.4, 1.5), 1.0, 0.11,
    0.8, _BS,
  ),
  'geniculate body': Chain(
    ((22, -26, -4), (24, -24, -3)), (2.2, 2.0), 1.0, 0.06, 0.9, _TH
  ),
}  # fmt: skip
KINDS = (
  *(f'nucleus: {name}' for name in _NUCLEI),
  'nucleus: dentate',
  'choroid plexus',
  'pineal',
)
_LATERAL = (
  ((9, 30, 0), (12, 18, 14), (13, -8, 20), (22, -36, 14), (26, -52, 8)),
  (3.5, 5.0, 5.0, 7.0, 3.5),
)
_TEMPORAL = (((24, -40, 8), (33, -28, -8), (32, -12, -18)), (4.0, 2.2, 1.2))
_THIRD = ((0, -4, 0), (0, -16, 2), (0, -27, -2), (0, -32, -12), (0, -42, -28))
_THIRD_MM = (5.0, 7.0, 3.0, 1.2, 5.0)
_SPACE = 'perivascular space'


def draw_inside(rng, body: Body, *, age: float) -> None:
  """Draws all of it, the ventricles first.

  Args:
    rng: numpy generator.
    body: of the head.
    age: 0 young .. 1 old.
  """
  noise = grids.smooth_noise(rng, body.grey.shape, 2.2)
  _put_ventricles(rng, body, noise, age)
  for number, chain in enumerate(_NUCLEI.values(), start=1):
    person = np.exp(rng.normal(0, 0.2)) * (0.4 + 1.2 * age)
    for side in (-1, 1):
      _put_nucleus(rng, body, noise, chain, number, side, person)
  for side in (-1, 1):
    _put_dentate(rng, body, side, 0.15 * (0.4 + 1.2 * age))
    _put_plexus(rng, body, side)
  gland = np.array([0, -27, 2]) + rng.normal(0, 1.2, (7, 3))
  _put_beads(rng, body, gland, 2.2, 'pineal')


def _put_ventricles(rng, body, noise, age) -> None:
  wide = 0.75 + 0.8 * age * rng.random() + rng.uniform(0, 0.25)
  for side in (-1, 1):
    own = wide * np.exp(rng.normal(0, 0.1))
    for path, radii in (_LATERAL, _TEMPORAL):
      path = np.array(path) + rng.normal(0, 0.8, (len(path), 3))
      _put_fluid(body, noise, path * (side, 1, 1), np.array(radii) * own, 1.0)
  path = np.array(_THIRD) + (0, 1, 1) * rng.normal(0, 0.7, (5, 3))
  # A slit: as thin as it is high.
  _put_fluid(body, noise, path, np.array(_THIRD_MM) * wide**0.5, 3.5 / wide)


def _depth(body, path, radii, flat, margin=4.0):
  """Box and depth of a chain that is `flat` times thinner along x."""
  middle = (path.min(0) + path.max(0)) / 2
  reach = (path.max(0) - path.min(0)) / 2 + radii.max() + margin
  box = solids.box_of(body.own, middle, reach)
  if box is None:
    return None, None
  x, y, z = body.own[(slice(None), *box)]
  centre = np.float32(middle[0])
  points = np.stack([centre + (x - centre) * np.float32(flat), y, z])
  path = (path - (centre, 0, 0)) * (flat, 1, 1) + (centre, 0, 0)
  # Depth across is squeezed as well; half-way is near enough.
  return box, solids.chain(points, path, radii) / np.float32(flat**0.5)


def _put_fluid(body, noise, path, radii, flat) -> None:
  box, depth = _depth(body, path, radii, flat)
  if box is None:
    return
  share = solids.soft(depth + np.float32(0.4) * noise[box])
  _mix(body, box, share, grey=0.0, fluid=1.0)


def _mix(body, box, share, *, grey, fluid=0.0) -> None:
  """Tissue with this share of grey matter and fluid takes the place."""
  for image, wanted in (
    (body.grey, grey), (body.white, 1 - grey - fluid), (body.csf, fluid)
  ):  # fmt: skip
    image[box] += share * np.float32(wanted) - share * image[box]


def _put_nucleus(rng, body, noise, chain, number, side, person) -> None:
  path = np.array(chain.path, float) * (side, 1, 1)
  path += rng.normal(0, 0.5, path.shape) + rng.normal(0, 0.8, 3)
  radii = np.array(chain.radii_mm) * rng.uniform(0.88, 1.1, len(path))
  box, depth = _depth(body, path, radii, chain.flat)
  if box is None:
    return
  mottled = noise[box]
  share = solids.soft(depth + np.float32(0.5) * mottled, 1.2)
  share = share * (1 - body.csf[box])
  _mix(body, box, share, grey=chain.grey)
  level = person * chain.chi_ppm * np.exp(rng.normal(0, 0.08))
  iron = share * np.float32(level) * (1 + np.float32(0.2) * mottled)
  np.maximum(body.chi[box], iron, out=body.chi[box])
  inside = share > 0.5
  if chain.chi_ppm > 0.03:
    body.labels[box][inside] = number
  index = tissue_atlas.REGIONS.index(chain.region)
  body.region[box][inside] = index


def _put_dentate(rng, body, side, level) -> None:
  """A wavy ribbon, bent round the white matter: beads on a closed line."""
  turn = np.linspace(0.35, 2 * np.pi - 0.35, 40)
  wavy = 1 + 0.22 * np.sin(rng.integers(6, 10) * turn + rng.uniform(0, 6))
  centre = np.array([15 * side, -57, -34]) + rng.normal(0, 0.8, 3)
  line = np.stack([
    -side * 5.5 * wavy * np.cos(turn), 7 * wavy * np.sin(turn),
    2.0 * np.sin(turn + rng.uniform(0, 6)),
  ], 1)  # fmt: skip
  line = np.concatenate([line - (0, 0, 1.6), 0.8 * line[::-1] + (0, 0, 1.6)])
  box, depth = _depth(body, centre + line, np.full(len(line), 1.1), 1.0)
  if box is None:
    return
  share = solids.soft(depth)
  _mix(body, box, share, grey=0.8)
  iron = share * np.float32(level * rng.uniform(0.85, 1.15))
  np.maximum(body.chi[box], iron, out=body.chi[box])
  body.labels[box][share > 0.5] = KINDS.index('nucleus: dentate') + 1


def _put_plexus(rng, body, side) -> None:
  """Beads of tissue along the floor of a ventricle, most in the atrium."""
  path = np.array((*_LATERAL[0][2:4], _TEMPORAL[0][0]), float)
  count = rng.integers(14, 30)
  way = rng.beta(2, 1.2, count) * 1.99
  low = way.astype(int)
  part = (way - low)[:, None]
  place = path[low] * (1 - part) + path[low + 1] * part
  place += rng.normal(0, 1.3, place.shape) - (0, 0, 1.5)
  _put_beads(rng, body, place * (side, 1, 1), 1.5, 'choroid plexus')


def _put_beads(rng, body, centres, radius_mm, kind) -> None:
  """Balls of tissue with blood or calcium, each with its own share of it."""
  for centre in centres:
    box = solids.box_of(body.own, centre, radius_mm + 3)
    if box is None:
      continue
    size = radius_mm * rng.uniform(0.4, 1.1)
    share = solids.soft(
      solids.ellipsoid(body.own[(slice(None), *box)], centre, (size,) * 3)
    )
    _mix(body, box, share, grey=1.0)
    body.chi[box] += share * np.float32(rng.normal(0.02, 0.08))
    if rng.random() < 0.2:
      body.chi[box] -= share * np.float32(0.3)
      body.void[box] = np.maximum(body.void[box], np.float32(0.5) * share)
    body.labels[box][share > 0.5] = KINDS.index(kind) + 1


def complete(rng, head, *, arteries, void, labels, kinds, age):
  """The head with fluid spaces and its details.

  Args:
    rng: numpy generator.
    head: the person.
    arteries: tubes in grid mm.
    void, labels, kinds: of `anatomy.Details`.
    age: 0 young .. 1 old.
  """
  count = rng.integers(5, 20 + int(60 * age))
  side = rng.choice((-1, 1), (count, 1))
  deep = rng.random((count, 1)) < 0.35
  start = np.where(
    deep,
    rng.uniform((16, -8, -8), (30, 14, 4), (count, 3)),
    rng.uniform((18, -60, 26), (36, 34, 46), (count, 3)),
  )
  way = rng.normal(0, 0.35, (count, 3)) + np.where(deep, (0, 0, 1), (0.8, 0, 1))
  length = rng.integers(6, 30, count)  # steps
  step = np.arange(length.max())[None, :, None] * tubes.STEP_MM
  points = start[:, None] + step * tubes.unit(way)[:, None]
  points = (points * np.stack([side, 1 + 0 * side, 1 + 0 * side], -1)).astype(
    np.float32
  )
  alive = np.arange(length.max()) < length[:, None]
  radius = np.where(alive, rng.uniform(0.2, 0.7, (count, 1)), np.nan)
  points[~alive] = np.nan
  spaces = tubes.Tubes(
    points, radius.astype(np.float32), np.full(count, _SPACE)
  )
  details = anatomy.Details(
    void=void,
    fluid=float(np.exp(rng.uniform(np.log(0.55), np.log(1.8)))),
    inflow=rng.uniform(0.2, 1.5),
    flow_r2s=rng.uniform(30, 200),
    arteries=arteries,
    spaces=tubes.carry(spaces, head),
    kinds=kinds,
    labels=labels,
  )
  return dataclasses.replace(head, details=details)
