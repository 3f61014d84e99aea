"""Family 'folded': the templates to a head with sulci, a cortex and a falx.

Rule: all sharp edges come from level sets that are smooth on the 1 mm grid;
what is inside the head is drawn in MNI mm and carried by one warp.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.imaging import region_geometry
from cmbjax.simulate import (
  anatomy,
  grids,
  nuclei,
  small_parts,
  solids,
  tissue_atlas,
  tubes,
  vessels,
)

_FINE_KNOT_MM = 11.0  # of the person's own shape of gyri
_REGION = {name: i for i, name in enumerate(tissue_atlas.REGIONS)}
_DEEP = ('basal ganglia', 'thalamus', 'brainstem')
KINDS = (
  *nuclei.KINDS,
  *small_parts.KINDS,
  'falx',
  'tentorium',
  'superficial siderosis',
)


class Ground(NamedTuple):
  """Smooth images on the grid of the templates, [X, Y, Z] float32."""

  csf: np.ndarray  # share
  ribbon: np.ndarray  # mm from white matter, nuclei and ventricles
  white: np.ndarray  # 0.5 on the border of the cortex


class Person(NamedTuple):
  """What differs between people, beside their shape."""

  age: float  # 0 young .. 1 old
  cortex_mm: float
  shrink_mm: float  # of the white matter
  gain: float  # how wide fluid is, where the templates have some
  folia_mm: float
  siderotic: bool


@functools.lru_cache(maxsize=1)
def _load_ground() -> Ground:
  atlas = tissue_atlas.load()
  grey, white = atlas.grey, atlas.white.copy()
  csf = atlas.mask - grey - white
  deep = np.isin(atlas.region, [_REGION[name] for name in _DEEP])
  near = ndimage.zoom(atlas.ventricle_mm, 2, order=1)
  near = near[tuple(slice(0, n) for n in csf.shape)]
  near = np.pad(
    near, [(0, n - m) for n, m in zip(csf.shape, near.shape)], mode='edge'
  )
  # Between white matter and a ventricle the templates show grey, which is a
  # mixture of both.
  wall = (near < 4) & ~ndimage.binary_dilation(deep, iterations=2)
  white[wall] += grey[wall]
  # Where people differ most, fluid is a broad faint band: keep its ridges.
  csf += 0.8 * np.minimum(csf - ndimage.gaussian_filter(csf, 3.0), 0.25)
  core = (white > 0.5) | deep | (near < 1)
  ribbon = ndimage.distance_transform_edt(~core)
  ribbon -= ndimage.distance_transform_edt(core) - 0.5
  # Cortex is sharp, deep grey matter mixes with fibres.
  steep = np.where(deep, 1.0, 3.0)
  white = 0.5 + steep * (white - 0.5)
  return Ground(*(
    ndimage.gaussian_filter(v.astype(np.float32), s)
    for v, s in ((csf, 0.4), (np.clip(ribbon, -4, 12), 0.6), (white, 0.4))
  ))  # fmt: skip


class FoldedFrame(NamedTuple):
  """The place of one person: a coarse warp, ventricles, and a fine warp."""

  coarse: anatomy.HeadFrame
  fine: np.ndarray  # knots
  widening: tuple[float, float]  # of the ventricles, left and right

  @property
  def matrix(self) -> np.ndarray:
    """[3, 3] of the affine part, grid mm to MNI mm."""
    return self.coarse.matrix

  @property
  def full_mm(self) -> tuple[float, float, float]:
    """Field of view."""
    return self.coarse.full_mm

  @property
  def start_mm(self) -> float:
    """z of node 0 of a slab in the field of view."""
    return self.coarse.start_mm

  def brain(self, mni) -> np.ndarray:
    """Share of brain at MNI mm [3, X, Y, Z]."""
    return self.coarse.brain(mni)

  def coordinates(self, shape, *, origin, step=1.0) -> np.ndarray:
    """MNI mm [3, X, Y, Z] of the nodes `origin + step * index`.

    Args:
      shape: of the grid.
      origin: mm of node 0 in the full field of view.
      step: mm.
    """
    mni = self.coarse.coordinates(shape, origin=origin, step=step)
    left, right = self.widening
    side = np.clip(mni[0] / 20 + 0.5, 0, 1)
    anatomy.widen_ventricles(mni, left + (right - left) * side)
    mni += anatomy.displacement(
      self.fine, shape, origin=origin, step=step, knot_mm=_FINE_KNOT_MM
    )
    return mni


def draw_head(rng, *, full_mm, start_mm=0.0, depth_mm=None):
  """Draws one person of the family 'folded'.

  Args:
    rng: numpy generator.
    full_mm: field of view, mm.
    start_mm: z where a slab begins; 0 for the whole head.
    depth_mm: thickness in z; None for the whole head.

  Returns:
    `anatomy.SimulatedHead` with its details.
  """
  person = _draw_person(rng)
  frame, b0 = _draw_frame(rng, person, full_mm, start_mm)
  shape = (*(round(n) for n in full_mm[:2]), round(depth_mm or full_mm[2]))
  mni = frame.coordinates(shape, origin=(0, 0, start_mm))
  mask, near, images, region = _pull(mni)
  grey, white, csf, score = _layers(rng, person, mni, near, images, region)
  iron = nuclei.draw_iron(rng, mni, age=person.age)
  chi, labels = iron.chi_ppm, iron.labels
  chi *= 1 - csf
  chi += _cortical_iron(rng, person, mni, grey)
  void = np.zeros(shape, np.float32)
  _put_sheets(rng, mni, csf, void, labels, mask)
  parts = small_parts.Canvas(mni, grey, white, csf, chi, void, labels)
  small_parts.put_parts(rng, parts, age=person.age, first=len(nuclei.KINDS))
  if person.siderotic:
    _put_siderosis(rng, mni, score, chi, labels)
  for image in (grey, white, csf, void, chi):
    image *= mask
  region = _regions(near, region, grey, white, csf, mask)
  head = anatomy.SimulatedHead(
    grey, white, csf, mask, chi, region, mni, frame, np.asarray(b0, np.float32)
  )
  return small_parts.finish_head(
    rng, head, void=void, kinds=KINDS, labels=labels, age=person.age,
    trunks=tubes.carry(vessels.draw_arteries(rng), head),
  )  # fmt: skip


def _draw_person(rng) -> Person:
  age = rng.random()
  return Person(
    age=age,
    cortex_mm=rng.uniform(2.4, 3.4) - 0.3 * age,
    shrink_mm=max(0.0, rng.normal(0.9 * age - 0.2, 0.25)),
    gain=rng.uniform(1.0, 1.4) + 0.6 * age,
    folia_mm=rng.uniform(4.0, 5.5),
    siderotic=rng.random() < 0.08,
  )


def _draw_frame(rng, person, full_mm, start_mm):
  """The frame, and the direction of the main field."""
  scale = rng.uniform(0.92, 1.02) * rng.uniform(0.96, 1.04, 3)
  shear = np.eye(3) + np.triu(rng.uniform(-0.04, 0.04, (3, 3)), 1)
  matrix = np.diag(1 / scale) @ shear
  matrix = matrix @ anatomy.rotation(rng.uniform(-1, 1, 3) * (6, 5, 7))
  tilt = anatomy.rotation([rng.normal(-8, 6), rng.normal(0, 3), 0])
  coarse = anatomy.HeadFrame(
    matrix.astype(np.float32),
    anatomy.draw_knots(rng, full_mm, sd_mm=2.4), 1.0, full_mm, start_mm,
  )  # fmt: skip
  fine = anatomy.draw_knots(rng, full_mm, sd_mm=0.8, knot_mm=_FINE_KNOT_MM)
  wide = 0.9 + 0.9 * person.age * rng.random() + rng.uniform(0, 0.2)
  sides = tuple(float(wide * np.exp(rng.normal(0, 0.07))) for _ in range(2))
  return FoldedFrame(coarse, fine, sides), tilt.T @ [0.0, 0.0, 1.0]


def _pull(mni):
  """Mask, indices in the brain, and there the ground [3][N] and region."""
  atlas, ground = tissue_atlas.load(), _load_ground()
  index = mni - atlas.origin_mm.reshape(3, 1, 1, 1)
  soft = ndimage.map_coordinates(atlas.mask, index, order=1)
  mask = soft > 0.5
  near = np.flatnonzero(soft.reshape(-1) > 0.02)
  inside = index.reshape(3, -1)[:, near]
  region = ndimage.map_coordinates(atlas.region, inside, order=0)
  return mask, near, grids.trilinear(ground, inside), region


def _layers(rng, person, mni, near, images, region):
  """Shares [X, Y, Z] of grey, white, CSF, and the level set of fluid."""
  shape = mni.shape[1:]
  csf, ribbon, white = images
  noise = grids.smooth_noise(rng, shape, 1.6).reshape(-1)[near]
  slow = grids.smooth_noise(rng, shape, 9.0).reshape(-1)[near]
  cortex = np.float32(person.cortex_mm) + np.float32(0.3) * slow
  over = ribbon + np.float32(person.shrink_mm) - cortex
  # Fluid is where the templates have some, and beyond the ribbon. What they
  # have none of at all stays tissue: amygdala, hippocampus.
  score = csf * np.float32(person.gain) * (1 + np.float32(0.15) * slow)
  score += np.clip(np.float32(0.28) * over, -0.45, 0.42)
  score += np.float32(0.05) * noise - np.float32(0.05)
  place = mni.reshape(3, -1)[:, near]
  small = region == _REGION['cerebellum']
  score[small] = np.maximum(
    csf[small] * np.float32(person.gain * 0.8) - 0.05,
    _folia(person, place[:, small], ribbon[small], noise[small]),
  )
  fluid = np.clip((score - 0.5) / np.float32(0.55) + 0.5, 0, 1)
  deep = np.isin(region, [_REGION[name] for name in _DEEP])
  white = white - np.float32(0.45) * np.float32(person.shrink_mm) * ~deep
  white = white + np.where(deep, 0.04, 0.25).astype(np.float32) * noise
  white = np.clip(white, 0, 1) * (1 - fluid)
  grey = np.maximum(1 - fluid - white, 0)

  def spread(values):
    out = np.zeros(shape, np.float32)
    out.reshape(-1)[near] = values
    return out

  return [spread(values) for values in (grey, white, fluid, score)]


def _folia(person, place, ribbon, noise):
  """Level set of the fissures of the cerebellum: sheets, nearly horizontal."""
  x, y, z = place
  way = z - 0.35 * (y + 60) + 0.012 * (y + 60) ** 2 + 0.15 * abs(x)
  phase = 2 * np.pi / person.folia_mm * (way + 0.9 * noise)
  middle = (person.folia_mm / (2 * np.pi)) * np.arccos(np.cos(phase))
  # Half of them are deep; none goes into the white matter.
  deep = 1.2 + 1.6 * (np.cos(phase / 2) > 0)
  return np.clip(0.62 - 0.45 * middle, -1, 1) * (ribbon > deep)


def _put_sheets(rng, mni, csf, void, labels, mask) -> None:
  """Falx and tentorium: dark sheets in the fluid between parts of the brain."""
  x, y, z = mni
  free = csf > 0.15
  where = np.flatnonzero((abs(x) < 5) & (z > -12) & free & mask)
  px, py, pz = (a.reshape(-1)[where] for a in (x, y, z))
  bend = 0.9 * np.sin(py / 23 + rng.uniform(0, 6)) + 0.5 * np.sin(pz / 11)
  # Its free edge rises from the front of the skull and ends at the tentorium.
  edge = np.clip(14 - 0.42 * (py + 8), 4, 30) + rng.normal(0, 3)
  above = np.clip((pz - edge) / 2, 0, 1) * (py > -95)
  share = solids.sheet(px - bend, rng.uniform(0.3, 0.6)) * above
  _darken(void, labels, where, share, KINDS.index('falx') + 1)
  where = np.flatnonzero((y < -32) & (abs(x) < 60) & free & mask)
  px, py, pz = (a.reshape(-1)[where] for a in (x, y, z))
  tent = region_geometry.tentorium_mm(abs(px), py)
  share = solids.sheet(0.7 * (pz - tent), rng.uniform(0.3, 0.6))
  _darken(void, labels, where, share, KINDS.index('tentorium') + 1)


def _darken(void, labels, where, share, number) -> None:
  flat, names = void.reshape(-1), labels.reshape(-1)
  flat[where] = np.maximum(flat[where], np.float32(0.55) * share)
  names[where[share > 0.35]] = number


def _cortical_iron(rng, person, mni, grey):
  """Iron of the cortex, ppm: most in the motor and the visual cortex."""
  x, y, z = mni
  motor = np.exp(-(((y + 22 + 0.3 * (z - 50)) / 14) ** 2)) * (z > 15)
  visual = np.exp(-(((y + 82) / 16) ** 2) - (x / 18) ** 2) * (abs(z) < 25)
  level = np.float32(rng.uniform(0.005, 0.02) * (0.3 + person.age))
  patchy = 1 + np.float32(0.4) * grids.smooth_noise(rng, grey.shape, 4.0)
  most = np.maximum(motor, visual)
  return level * (1 + np.float32(1.6) * most) * np.maximum(patchy, 0) * grey


def _put_siderosis(rng, mni, score, chi, labels) -> None:
  """Iron on the surface of the brain in one to three patches."""
  shell = np.exp(-(((score - 0.5) / np.float32(0.3)) ** 2))
  for _ in range(rng.integers(1, 4)):
    turn = rng.uniform(0, 2 * np.pi)
    centre = (66 * np.cos(turn), -17 + 80 * np.sin(turn), rng.uniform(5, 60))
    box = solids.box_of(mni, centre, 30)
    if box is None:
      continue
    reach = solids.ellipsoid(
      mni[(slice(None), *box)], centre, rng.uniform(12, 26, 3)
    )
    share = shell[box] * np.clip(reach / 6, 0, 1)
    chi[box] += share * np.float32(rng.uniform(0.1, 0.3))
    labels[box][share > 0.3] = KINDS.index('superficial siderosis') + 1


def _regions(near, inside, grey, white, csf, mask):
  """Region index; cortex and white matter by the person's own shares."""
  region = np.zeros(mask.shape, np.uint8)
  region.reshape(-1)[near] = inside
  cerebrum = (region == _REGION['cortex']) | (region == _REGION['white matter'])
  region[cerebrum & (grey > white)] = _REGION['cortex']
  region[cerebrum & (grey <= white)] = _REGION['white matter']
  region[~mask | (csf > 0.6)] = 0
  return region
