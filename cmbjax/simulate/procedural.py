"""Family 'procedural': a head that comes from no template.

Rule: the brain is made of four solids in mm that roughly agree with MNI;
sulci are sheets over the zeros of a noise with one wavelength, drawn on a
sphere round each solid.
"""

from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from cmbjax.simulate import (
  anatomy,
  grids,
  inner_parts,
  solids,
  tissue_atlas,
  tubes,
  vessels,
)

_REGION = {name: i for i, name in enumerate(tissue_atlas.REGIONS)}
KINDS = (*inner_parts.KINDS, 'falx', 'tentorium', 'superficial siderosis')
_PARTS = ('cerebrum', 'temporal', 'cerebellum', 'stem')
# Two parts meet in a sheet of fluid, down to this depth in mm below; what is
# not here has grown together.
_MEET = {(0, 1): 9.0, (0, 2): 99.0, (1, 2): 99.0, (1, 3): 99.0, (2, 3): 5.0}
# Centre and semi-axes of the spheres that sulci are drawn on.
_ROUND = (
  ((0, -17, 10), (70, 88, 62)), ((46, -14, -24), (18, 40, 20)),
)  # fmt: skip
_SPHERE_MM = 70.0  # radius on which the noise is sampled
_CUBE, _CUBE_MM = 80, 2.0  # nodes of its grid, and their distance
_COARSE = 2  # nodes of 1 mm between those of the grid of the solids


class Build(NamedTuple):
  """What one person is built from."""

  size: np.ndarray  # factors of the semi-axes, one per part
  bumps: np.ndarray  # knots of the unevenness of the surface
  age: float  # 0 young .. 1 old
  wave_mm: float  # of the noise: two gyri
  cortex_mm: float
  gap_mm: float  # half the width of a sulcus
  fluid_mm: float  # over the convexity


class OwnFrame(NamedTuple):
  """The place of one person in the field of view, and the outer shape."""

  matrix: np.ndarray  # [3, 3], grid mm to own mm
  knots: np.ndarray
  full_mm: tuple[float, float, float]
  start_mm: float  # z of node 0 of a slab in the field of view
  plan: Build

  def coordinates(self, shape, *, origin, step=1.0) -> np.ndarray:
    """Own mm, nearly MNI, [3, X, Y, Z] of the nodes `origin + step * index`.

    Args:
      shape: of the grid.
      origin: mm of node 0 in the full field of view.
      step: mm.
    """
    middle = (np.asarray(self.full_mm, np.float32) - 1) / 2
    place = [
      a - m for a, m in zip(grids.grid_mm(origin, shape, step=step), middle)
    ]
    own = np.stack([
      c + sum(r * p for r, p in zip(row, place))
      for c, row in zip(anatomy.CENTRE_MNI_MM, self.matrix)
    ]).astype(np.float32)  # fmt: skip
    own += anatomy.displacement(self.knots, shape, origin=origin, step=step)
    return own

  def brain(self, mni) -> np.ndarray:
    """Share of brain at own mm [3, X, Y, Z]."""
    return solids.soft(depths(mni, self.plan).max(0), 2.0)


def draw_head(rng, *, full_mm, start_mm=0.0, depth_mm=None):
  """Draws one person of the family 'procedural'.

  Args:
    rng: numpy generator.
    full_mm: field of view, mm.
    start_mm: z where a slab begins; 0 for the whole head.
    depth_mm: thickness in z; None for the whole head.

  Returns:
    `anatomy.SimulatedHead` with its details.
  """
  plan = _draw_plan(rng)
  frame, b0 = _draw_frame(rng, plan, full_mm, start_mm)
  shape = (*(round(n) for n in full_mm[:2]), round(depth_mm or full_mm[2]))
  own = frame.coordinates(shape, origin=(0, 0, start_mm))
  drawn = _draw_solids(own, plan)
  mask = drawn.parts.max(0) > 0
  tissue = _draw_tissue(rng, plan, own, drawn, mask)
  chi = np.zeros(shape, np.float32)
  void, labels = np.zeros_like(chi), np.zeros(shape, np.uint8)
  body = inner_parts.Body(own, *tissue[:3], chi, void, labels, tissue.region)
  inner_parts.draw_inside(rng, body, age=plan.age)
  _put_membranes(rng, own, drawn, tissue, void, labels)
  _put_siderosis(rng, plan, own, tissue, chi, labels)
  for image in (*tissue[:3], chi, void):
    image *= mask
  labels[~mask] = 0
  tissue.region[~mask | (tissue.csf > 0.6)] = 0
  head = anatomy.SimulatedHead(
    *tissue[:3], mask, chi, tissue.region, own, frame, b0
  )
  return inner_parts.complete(
    rng, head, void=void, labels=labels, kinds=KINDS, age=plan.age,
    arteries=tubes.carry(vessels.draw_arteries(rng), head),
  )  # fmt: skip


def _draw_plan(rng) -> Build:
  age = rng.random()
  return Build(
    size=rng.uniform(0.94, 1.05, (4, 3)),
    bumps=rng.normal(0, 1, (6, 4)),
    age=age,
    wave_mm=rng.uniform(17, 23),
    cortex_mm=rng.uniform(2.3, 3.4),
    gap_mm=rng.uniform(0.3, 0.6) + 0.7 * age * rng.random(),
    fluid_mm=rng.uniform(0.8, 1.6) + 2.0 * age * rng.random(),
  )


def _draw_frame(rng, plan, full_mm, start_mm):
  """The frame, and the direction of the main field."""
  turn = anatomy.rotation(rng.normal(0, 1, 3) * (3.5, 2.5, 4))
  matrix = (np.diag(rng.uniform(0.97, 1.06, 3)) @ turn).astype(np.float32)
  knots = anatomy.draw_knots(rng, full_mm, sd_mm=1.5)
  tilt = anatomy.rotation([rng.normal(-8, 6), rng.normal(0, 3), 0])
  b0 = (tilt.T @ [0.0, 0.0, 1.0]).astype(np.float32)
  return OwnFrame(matrix, knots, full_mm, start_mm, plan), b0


def depths(own, plan: Build) -> np.ndarray:
  """Depth in mm [4, ...] beneath the surface of each part at [3, ...]."""
  x, y, z = own
  both = np.stack([abs(x), y, z])
  top, side, small, stem = plan.size
  cerebrum = solids.ellipsoid(own, (0, -17, 10), top * (70, 89, 64))
  # Flat below: the orbits in front, the tentorium behind.
  floor = z + 24 + np.where(y < -30, -0.28 * (y + 30), 0)
  cerebrum = np.minimum(cerebrum, floor.astype(np.float32))
  temporal = solids.ellipsoid(
    both, (45, -13, -24), side * (40, 19, 21), long=(0.1, 1, -0.1),
    middle=(1, 0, 0),
  )  # fmt: skip
  cerebellum = np.maximum(
    solids.ellipsoid(both, (25, -64, -38), small * (28, 29, 22)),
    solids.ellipsoid(own, (0, -66, -36), small * (14, 26, 22)),
  )
  down = [(0, -18, -4), (0, -24, -22), (0, -30, -38), (0, -40, -80)]
  trunk = solids.chain(own, down, np.array([14, 15, 15, 8]) * stem[0])
  uneven = 0.0
  for row in plan.bumps:
    wave = row[:3] / np.linalg.norm(row[:3]) * (2 * np.pi / 38)
    phase = sum(np.float32(w) * p for w, p in zip(wave, own))
    uneven = uneven + np.sin(phase + np.float32(9 * row[3]))
  found = np.stack([cerebrum, temporal, cerebellum, trunk])
  return found + np.float32(0.6) * uneven


class Solids(NamedTuple):
  """Depths on the 1 mm grid, which every second node is enough for."""

  parts: np.ndarray  # [4, X, Y, Z] mm
  apart: dict  # of two parts that meet: [X, Y, Z] mm from where they do


def _draw_solids(own, plan) -> Solids:
  step = _COARSE
  coarse = depths(own[:, ::step, ::step, ::step], plan)

  def refine(image):
    return grids.refine(image, own.shape[1:], step=(1 / step,) * 3)

  apart = {}
  for a, b in _MEET:
    difference = coarse[a] - coarse[b]
    slope = np.sqrt(sum(g * g for g in np.gradient(difference, step)))
    # Where two surfaces run side by side there is no sheet between them.
    apart[a, b] = refine(difference / np.maximum(slope, 0.5))
  return Solids(np.stack([refine(part) for part in coarse]), apart)


class Layers(NamedTuple):
  """Shares and regions on the 1 mm grid, [X, Y, Z]."""

  grey: np.ndarray
  white: np.ndarray
  csf: np.ndarray
  pial_mm: np.ndarray  # depth beneath the nearest fluid outside of the brain
  region: np.ndarray  # uint8


def _draw_tissue(rng, plan, own, drawn, mask) -> Layers:
  """Cortex, white matter and fluid: all by the distance from fluid."""
  where = np.flatnonzero(mask)
  place = own.reshape(3, -1)[:, where]
  inside = drawn.parts.reshape(4, -1)[:, where]
  apart = {p: a.reshape(-1)[where] for p, a in drawn.apart.items()}
  part, deep = inside.argmax(0), inside.max(0)
  pial = np.minimum(deep - plan.fluid_mm, _between(inside, apart, plan))
  pial = np.minimum(pial, _midline(place, part, plan))
  fine, slow = (
    grids.smooth_noise(rng, mask.shape, sigma).reshape(-1)[where]
    for sigma in (1.4, 6.0)
  )
  waves = _draw_waves(rng, plan)
  for number in (0, 1):
    some = np.flatnonzero((part == number) & (deep < 32))
    away = _sulci(plan, waves, place[:, some], slow[some], number)
    pial[some] = np.minimum(pial[some], away)
  some = np.flatnonzero(part == 2)
  pial[some] = np.minimum(pial[some], _fan(plan, place[:, some], deep[some]))
  pial += np.float32(0.15) * fine
  thick = np.where(part == 2, 1.3, plan.cortex_mm).astype(np.float32)
  fluid = solids.soft(-pial)
  grey = solids.soft(thick + np.float32(0.25) * fine - pial)
  # The stem has no cortex, but grey matter among its fibres.
  grey = np.where(part == 3, np.float32(0.3) + np.float32(0.12) * fine, grey)
  grey = np.clip(grey, 0, 1) * (1 - fluid)
  region = np.where(grey > 0.5, _REGION['cortex'], _REGION['white matter'])
  region[part == 2] = _REGION['cerebellum']
  region[part == 3] = _REGION['brainstem']

  def spread(values, kind=np.float32):
    out = np.zeros(mask.shape, kind)
    out.reshape(-1)[where] = values
    return out

  return Layers(
    spread(grey), spread(1 - fluid - grey), spread(fluid), spread(pial),
    spread(region, np.uint8),
  )  # fmt: skip


def _between(inside, apart, plan):
  """Distance from the sheets of fluid in which two parts meet."""
  deep = inside.max(0)
  out = np.full(deep.shape, 99, np.float32)
  for (a, b), floor in _MEET.items():
    gap = abs(apart[a, b]) - np.float32(plan.gap_mm + 0.3)
    # Only where both of them are and no third one has filled the place.
    both = np.minimum(inside[a], inside[b]) > -1
    both &= np.maximum(inside[a], inside[b]) >= deep - 0.01
    away = np.maximum(gap, deep - np.float32(floor))
    out = np.where(both, np.minimum(out, away), out)
  return out


def _midline(place, part, plan):
  """Distance from the fissure between the hemispheres."""
  # Callosum, thalami and what is below hold both sides together.
  joined = solids.ellipsoid(place, (0, -14, 3), (30, 43, 25))
  gap = np.maximum(abs(place[0]) - np.float32(plan.gap_mm + 0.2), joined)
  return np.where(part == 0, gap, np.float32(99))


def _draw_waves(rng, plan):
  """Noise of one wavelength, its slope, and a slow noise, on a cube."""
  k = [fft.fftfreq(_CUBE, _CUBE_MM)] * 2 + [fft.rfftfreq(_CUBE, _CUBE_MM)]
  kx, ky, kz = np.meshgrid(*k, indexing='ij', sparse=True)
  k = np.sqrt(kx * kx + ky * ky + kz * kz) * plan.wave_mm
  spectrum = fft.rfftn(rng.standard_normal((_CUBE,) * 3, np.float32))
  wave = fft.irfftn(spectrum * np.exp(-(((k - 1) / 0.2) ** 2)))
  wave = (wave / wave.std()).astype(np.float32)
  slope = np.sqrt(sum(g * g for g in np.gradient(wave, _CUBE_MM)))
  slow = grids.smooth_noise(rng, wave.shape, 9.0 / _CUBE_MM)
  return wave, np.maximum(slope, 0.5 * slope.mean()), slow


def _sulci(plan, waves, place, bend, number):
  """Distance from the sulci of the cerebrum (0) or a temporal lobe (1)."""
  centre, axes = _ROUND[number]
  side = np.where(place[0] < 0, -1, 1) if number else 1
  offset = np.stack([
    (p - s * c) / a
    for p, s, c, a in zip(place, (side, 1, 1), centre, axes)
  ])  # fmt: skip
  radius = np.maximum(np.sqrt((offset**2).sum(0)), 0.1)
  # Depth beneath that round surface: what is flat below has no own sulci.
  deep = (1 - radius) * np.float32(axes[2])
  # The same noise, another part of it, on a sphere as small as the lobe.
  index = offset / radius * ((_SPHERE_MM if number == 0 else 30.0) / _CUBE_MM)
  index = (index + _CUBE / 2).astype(np.float32)
  # Sulci wind on their way down.
  index += np.float32(0.05) * bend * np.maximum(deep, 0)
  if number:
    index[0] += side * 20
  wave, slope, slow = (
    ndimage.map_coordinates(w, index, order=1, mode='wrap') for w in waves
  )
  away = abs(wave) / slope - np.float32(plan.gap_mm) * (1 + 0.3 * slow)
  floor = (19 if number == 0 else 9) + np.float32(6) * slow
  return np.maximum(away, deep - floor).astype(np.float32)


def _fan(plan, place, deep):
  """Distance from the fissures of the cerebellum: a fan round its middle."""
  x, y, z = place
  across, up = y + 28, z + 6
  radius = np.sqrt(across**2 + up**2)
  count = 76
  turn = count * np.arctan2(up, -across) + 0.06 * abs(x) + 0.8 * np.sin(x / 7)
  pitch = 2 * np.pi * np.maximum(radius, 20) / count
  away = pitch / (2 * np.pi) * np.arccos(np.cos(turn)) - np.float32(0.25)
  floor = np.where(np.cos(turn / 2) > 0, 9, 4)
  return np.maximum(away, deep - floor).astype(np.float32)


def _put_membranes(rng, own, drawn, tissue, void, labels) -> None:
  """Falx and tentorium, where there is fluid for them."""
  x, y, z = own
  thick = rng.uniform(0.25, 0.55)
  low = 8 + 0.3 * abs(y - rng.uniform(-20, 0))
  falx = solids.sheet(x, thick) * np.clip((z - low) / 3, 0, 1)
  falx *= drawn.parts.argmax(0) == 0
  tent = solids.sheet(drawn.apart[0, 2], thick)
  tent *= np.minimum(drawn.parts[0], drawn.parts[2]) > -1
  for name, share in (('falx', falx), ('tentorium', tent)):
    share = share * np.minimum(2 * tissue.csf, 1)
    np.maximum(void, np.float32(0.5) * share, out=void)
    labels[share > 0.35] = KINDS.index(name) + 1


def _put_siderosis(rng, plan, own, tissue, chi, labels) -> None:
  """Iron on both banks of a few sulci, in some people."""
  if rng.random() > 0.1:
    return
  centre = rng.normal(0, 1, 3)
  centre = np.array([0, -17, 10]) + centre / np.linalg.norm(centre) * 68
  near = sum((p - np.float32(c)) ** 2 for p, c in zip(own, centre))
  near = np.exp(-near / np.float32(2 * rng.uniform(9, 18) ** 2))
  shell = np.exp(-((tissue.pial_mm / np.float32(0.8)) ** 2)) * near
  chi += shell * np.float32(rng.uniform(0.1, 0.35))
  labels[shell > 0.35] = KINDS.index('superficial siderosis') + 1
