"""Iron-rich nuclei of one person: shapes, levels by age, labels.

Rule: shapes are in MNI mm and drawn for each side by itself, so that partners
agree in place but not in every voxel.
"""

from typing import NamedTuple

import numpy as np

from cmbjax.simulate import solids, tissue_atlas

# Iron in ppm beside that of the nuclei of `tissue_atlas`: pulvinar.
_PULVINAR = ((14.5, -28.0, 6.0), (6.0, 5.0, 5.0), 0.045)
# Middle line of the caudate, right side, MNI mm, and its radius: head, body,
# tail down to the temporal horn.
_CAUDATE = (
  (11, 17, -4), (13, 15, 6), (15, 3, 17), (18, -12, 22), (23, -27, 21),
  (29, -38, 10), (31, -32, -2),
)  # fmt: skip
_CAUDATE_MM = (4.0, 6.0, 4.0, 3.0, 2.0, 1.4, 1.0)
_NAMES = (*(n.name for n in tissue_atlas.NUCLEI), 'pulvinar')
KINDS = tuple(f'nucleus: {name}' for name in _NAMES)


class Iron(NamedTuple):
  """What nuclei add to a head, [X, Y, Z] of its 1 mm grid."""

  chi_ppm: np.ndarray  # float32
  labels: np.ndarray  # uint8, 1 + index in `KINDS`


def draw_iron(rng, mni, *, age: float) -> Iron:
  """All nuclei of both sides.

  Args:
    rng: numpy generator.
    mni: [3, X, Y, Z] MNI mm of each node.
    age: 0 young .. 1 old; iron grows with it.
  """
  chi = np.zeros(mni.shape[1:], np.float32)
  labels = np.zeros(mni.shape[1:], np.uint8)
  for number, name in enumerate(_NAMES, start=1):
    person = np.exp(rng.normal(0, 0.15)), rng.uniform(0.88, 1.14)
    for side in (-1, 1):
      _put_nucleus(rng, chi, labels, mni, name, number, side, person, age)
  return Iron(chi, labels)


def _put_nucleus(rng, chi, labels, mni, name, number, side, person, age):
  """One nucleus of one side: `person` is (factor of level, of size)."""
  shift = rng.normal(0, 0.6, 3)
  size = person[1] * rng.uniform(0.94, 1.06, 3)
  noise = rng.normal(0, 1, (4, 4))
  level = person[0] * np.exp(rng.normal(0, 0.10))
  centre, reach, usual = _place(name)
  box = solids.box_of(mni, (side * centre[0], *centre[1:]), reach + 4)
  if box is None:
    return
  x, y, z = mni[(slice(None), *box)]
  points = np.stack([side * x - shift[0], y - shift[1], z - shift[2]])
  depth, weight = _SHAPES.get(name, _plain)(points, name, size, noise)
  share = solids.soft(depth + np.float32(0.35) * _bumps(points, noise))
  # From half in the young to half more in the old; most in the basal ganglia.
  grown = level * usual * (0.5 + 1.0 * age)
  part = chi[box]
  np.maximum(part, share * weight * np.float32(grown), out=part)
  view = labels[box]
  view[(share > 0.5) & (usual > 0.03) & (weight > 0.3)] = number


def _bumps(points, noise):
  """Unevenness of a surface: four plane waves of 5 to 12 mm."""
  total = 0.0
  for row in noise:
    length = np.clip(8 + 2 * row[3], 5, 12)
    wave = row[:3] / np.linalg.norm(row[:3]) * (2 * np.pi / length)
    phase = sum(np.float32(w) * p for w, p in zip(wave, points))
    total = total + np.sin(phase + np.float32(10 * row[3]))
  return total / 1.4


def _place(name):
  """Centre and reach, mm, of the right side, and usual iron in ppm."""
  if name == 'pulvinar':
    centre, axes, chi = _PULVINAR
    return np.array(centre), np.array(axes), chi
  if name == 'caudate':
    path = np.array(_CAUDATE, float)
    low, high = path.min(0), path.max(0)
    return (low + high) / 2, (high - low) / 2 + max(_CAUDATE_MM), 0.044
  nucleus = _atlas(name)
  return (
    np.array(nucleus.centre_mm),
    np.full(3, max(nucleus.semi_axes_mm)),
    nucleus.chi_ppm,
  )


def _atlas(name) -> tissue_atlas.Nucleus:
  return tissue_atlas.NUCLEI[_NAMES.index(name)]


def _plain(points, name, size, noise):
  """Ellipsoid of the atlas: depth, and weight of its iron."""
  if name == 'pulvinar':
    centre, axes, _ = _PULVINAR
    return solids.ellipsoid(points, centre, size * axes), 1.0
  nucleus = _atlas(name)
  axes = size * nucleus.semi_axes_mm
  depth = solids.ellipsoid(
    points, nucleus.centre_mm, axes, long=nucleus.long, middle=nucleus.middle
  )
  return depth, 1.0


def _caudate(points, name, size, noise):
  radii = np.array(_CAUDATE_MM) * size[0]
  return solids.chain(points, _CAUDATE, radii), 1.0


def _putamen(points, name, size, noise):
  depth, _ = _plain(points, name, size, noise)
  # Iron begins at the back and outside, with pencils of fibres between.
  behind = np.clip((6 - points[1]) / 24, 0, 1)
  pencils = 1 + np.float32(0.12) * _bumps(points[[1, 2, 0]], noise)
  return depth, (0.6 + 0.9 * behind) * pencils


def _pallidum(points, name, size, noise):
  depth, _ = _plain(points, name, size, noise)
  # Medullary laminae: sheets parallel to the outer side, with little iron.
  across = points[0] + 0.75 * points[1] - 16.9
  lamina = solids.sheet(across + 0.6 * noise[0, 0], 0.35)
  return depth, 1 - np.float32(0.6) * lamina


def _nigra(points, name, size, noise):
  depth, _ = _plain(points, name, size, noise)
  # A crescent that holds the red nucleus, in stripes.
  hollow = solids.ellipsoid(points, (6.5, -20.5, -9.0), (6.0, 5.0, 6.5))
  stripes = np.sin(points[1] * 1.5 + points[0] * 0.8 + noise[0, 1])
  return np.minimum(depth + 0.6, -hollow), 1 + np.float32(0.3) * stripes


def _dentate(points, name, size, noise):
  """A folded band like a crumpled purse, open toward the midline."""
  depth, _ = _plain(points, name, size, noise)
  centre = _atlas(name).centre_mm
  x, y, z = (p - np.float32(c) for p, c in zip(points, centre))
  turn = np.arctan2(z, x + 0.3 * y)
  folds = np.sin(9 * turn + 0.5 * y + noise[0, 2])
  band = 0.9 - abs(depth - 1.6 - np.float32(1.0) * folds)
  open_side = np.clip((x + 4.5) / 2.0, -2, 1)
  return np.minimum(band, open_side), 1.1


_SHAPES = {
  'caudate': _caudate,
  'putamen': _putamen,
  'pallidum': _pallidum,
  'substantia nigra': _nigra,
  'dentate': _dentate,
}
