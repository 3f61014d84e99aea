"""Compact deposits: microbleeds, cavernomas, calcifications, tumour blood.

Rule: a deposit is a set of spheres; its field is the sum of their analytic
fields, and its effect on the signal is a factor averaged over sub-voxels, so
an object far smaller than the grid is as exact as a large one.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.simulate import anatomy, grids, physics, tissue_atlas

# Total susceptibility of a microbleed, ppm mm3: exp(N) with heavy tails,
# fitted so that diameters on the SWI match 957 real masks (see `check`).
MOMENT_MEDIAN = 0.85
MOMENT_SPREAD = 0.70
MOMENT_FREEDOM = 2.3
# Of those that readers marked on real scans (SWAN), the faintest has .61 of
# the intensity around it; `check.REAL_INTENSITY`.
MARKED = 0.39
MOMENT_RANGE = (0.05, 60.0)
# Iron is spread thinly in macrophages, the more densely the larger the bleed:
# susceptibility in ppm of a deposit of 1 ppm mm3, its spread and its growth.
# Compact spheres would be darker and longer along B0 than real ones.
CHI_MEDIAN, CHI_SPREAD, CHI_POWER = 0.060, 0.60, 0.35
CHI_RANGE = (0.02, 3.0)
# Locations of 957 real microbleeds (BOMBS scale).
REGION_SHARES = {
  'white matter': 0.398,
  'cortex': 0.334,
  'cerebellum': 0.082,
  'basal ganglia': 0.079,
  'thalamus': 0.054,
  'brainstem': 0.044,
}
# Phase of a deposit, in rad, below which its box ends.
_FAINT_RAD = 0.03


class Deposit(NamedTuple):
  """One object.

  Attributes:
    kind: 'microbleed', 'popcorn cavernoma', 'calcification', ...
    spheres: [N, 4] float32, grid mm and radius.
    chi_ppm: [N] relative to the tissue around.
    density: share of the signal that is left inside, for calcium.
  """

  kind: str
  spheres: np.ndarray
  chi_ppm: np.ndarray
  density: float = 1.0

  @property
  def moment(self) -> float:
    """Total susceptibility in ppm mm3."""
    volume = 4 / 3 * np.pi * self.spheres[:, 3] ** 3
    return float((volume * self.chi_ppm).sum())

  @property
  def centre_mm(self) -> np.ndarray:
    """Middle weighted by volume, [3]."""
    weight = self.spheres[:, 3] ** 3
    return (self.spheres[:, :3] * weight[:, None]).sum(0) / weight.sum()


class Effect(NamedTuple):
  """What a deposit does to the signal in a box of the fine grid."""

  box: tuple[slice, slice, slice]
  factors: tuple[np.ndarray, ...]  # one complex64 [x, y, z] per echo


def draw_moment(rng) -> float:
  """Total susceptibility of one microbleed in ppm mm3."""
  spread = MOMENT_SPREAD * rng.standard_t(MOMENT_FREEDOM)
  return float(np.clip(MOMENT_MEDIAN * np.exp(spread), *MOMENT_RANGE))


def draw_microbleed(rng, centre_mm, *, moment=None) -> Deposit:
  """An elongated or irregular cluster of spheres round `centre_mm`.

  Args:
    rng: numpy generator.
    centre_mm: [3] grid mm.
    moment: total susceptibility, ppm mm3; None: drawn.
  """
  moment = draw_moment(rng) if moment is None else moment
  chi = CHI_MEDIAN * moment**CHI_POWER * np.exp(rng.normal(0, CHI_SPREAD))
  chi = float(np.clip(chi, *CHI_RANGE))
  radius = (3 * moment / (4 * np.pi * chi)) ** (1 / 3)
  if rng.random() < 0.55:
    shares = rng.dirichlet(np.full(rng.integers(2, 5), 3.0))
    offsets = rng.normal(0, 1, (len(shares), 3))
    reach = 0.7 * radius * rng.random((len(shares), 1)) ** (1 / 3)
    offsets *= reach / np.sqrt((offsets**2).sum(1, keepdims=True))
  else:
    shares = np.full(3, 1 / 3)
    elongation = np.clip(rng.normal(1.2, 0.35), 1, 2.5)
    axis = rng.normal(0, 1, 3)
    axis /= np.linalg.norm(axis)
    half = radius * (1 / 3) ** (1 / 3) * (elongation - 1)
    offsets = np.outer([-half, 0, half], axis)
  radii = radius * shares ** (1 / 3)
  return _deposit('microbleed', centre_mm + offsets, radii, chi)


def draw_popcorn(rng, centre_mm) -> Deposit:
  """A type II cavernoma: packed caverns with bright cores in a dark rim."""
  size = np.exp(rng.uniform(np.log(5), np.log(18)))
  count = int(np.clip(rng.normal(4 + 0.9 * size, 3), 5, 30))
  offsets = rng.normal(0, 1, (count, 3))
  offsets /= np.sqrt((offsets**2).sum(1, keepdims=True))
  offsets *= size / 2 * rng.random((count, 1)) ** (1 / 2.2)
  offsets[:, 2] *= 0.8
  radii = rng.uniform(0.8, np.clip(size / 5, 1.2, 3.0), count)
  chi = rng.uniform(0.2, 1.5, count) * 0.6
  # Caverns with fresh or thrombosed blood carry little iron.
  chi[rng.random(count) < 0.4] *= 0.06
  return _deposit('popcorn cavernoma', centre_mm + offsets, radii, chi)


def draw_calcification(rng, centre_mm, *, radius_mm=None) -> Deposit:
  """Diamagnetic, with little signal inside.

  Args:
    rng: numpy generator.
    centre_mm: [3] grid mm.
    radius_mm: None: drawn.
  """
  radius = rng.uniform(0.5, 1.6) if radius_mm is None else radius_mm
  count = int(rng.integers(2, 6))
  offsets = rng.normal(0, 0.5 * radius, (count, 3))
  radii = radius * rng.uniform(0.6, 1.0, count) * count ** (-1 / 4)
  chi = np.full(count, -np.exp(rng.uniform(np.log(0.25), np.log(1.6))))
  density = float(rng.uniform(0.2, 0.6))
  return _deposit('calcification', centre_mm + offsets, radii, chi, density)


def draw_tumour_blood(rng, centre_mm) -> Deposit:
  """Sub-foci of haemorrhage clustered within 20 mm."""
  count = int(rng.integers(10, 41))
  offsets = np.clip(rng.normal(0, 4.5, (count, 3)), -10, 10)
  moments = np.exp(rng.uniform(np.log(0.05), np.log(2), count))
  chi = np.exp(rng.normal(-0.3, 0.4, count))
  radii = (3 * moments / (4 * np.pi * chi)) ** (1 / 3)
  return _deposit('tumour haemorrhage', centre_mm + offsets, radii, chi)


def _deposit(kind, centres, radii, chi, density=1.0) -> Deposit:
  spheres = np.column_stack([centres, radii]).astype(np.float32)
  chi = np.broadcast_to(np.asarray(chi, np.float32), len(spheres))
  return Deposit(kind, spheres, chi, density)


def effect(
  deposit: Deposit, shape, spacing_mm, *, b0, field_t, echo_times_s
) -> Effect | None:
  """Factor on the complex signal round a deposit.

  One sample per fine voxel far away, a sub-voxel average near the surface of
  a sphere (exp(i phase) and static dephasing inside).

  Args:
    shape, spacing_mm: the fine grid.
    b0: unit vector.
    echo_times_s: of all echoes.

  Returns:
    The box and its factors; None when it is outside the grid.
  """
  spacing = np.asarray(spacing_mm, np.float32)
  spheres = deposit.spheres
  phase = abs(physics.phase_per_ppm(field_t, max(echo_times_s)))
  strength = abs(deposit.moment) + 0.02
  reach = (phase * strength / (2 * np.pi * _FAINT_RAD)) ** (1 / 3)
  low = np.floor((spheres[:, :3].min(0) - reach) / spacing).astype(int)
  high = np.ceil((spheres[:, :3].max(0) + reach) / spacing).astype(int) + 1
  low, high = np.maximum(low, 0), np.minimum(high, shape)
  if (low >= high).any():
    return None
  nodes = np.stack(np.meshgrid(
    *(np.arange(a, b) * s for a, b, s in zip(low, high, spacing)),
    indexing='ij',
  ), -1).astype(np.float32)  # fmt: skip
  flat = nodes.reshape(-1, 3)
  scanned = {'b0': b0, 'field_t': field_t, 'echo_times_s': echo_times_s}
  signal = _phasor(flat, deposit, **scanned)
  near = _near(nodes, spheres, spacing)
  fine = _subvoxels(spacing, len(spheres))
  for part in np.array_split(near, max(1, len(near) * len(fine) // 2**18)):
    points = flat[part][:, None] + fine
    inner = _phasor(points, deposit, **scanned)
    for whole, sub in zip(signal, inner):
      whole[part] = sub.mean(1)
  factors = tuple(s.reshape(nodes.shape[:3]) for s in signal)
  return Effect(tuple(slice(a, b) for a, b in zip(low, high)), factors)


def _near(nodes, spheres, spacing) -> np.ndarray:
  """Flat indices of the nodes [X, Y, Z, 3] close to the surface of a sphere."""
  close = np.zeros(nodes.shape[:3], bool)
  first = nodes[0, 0, 0]
  for sphere in spheres:
    reach = 1.6 * sphere[3] + 1.7
    low = np.floor((sphere[:3] - reach - first) / spacing).astype(int)
    high = np.ceil((sphere[:3] + reach - first) / spacing).astype(int) + 1
    box = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high))
    squared = ((nodes[box] - sphere[:3]) ** 2).sum(-1)
    close[box] |= squared < reach**2
  return np.flatnonzero(close)


def _subvoxels(spacing, num_spheres) -> np.ndarray:
  """Offsets [M, 3] of sample points in a voxel, near cubic."""
  step = 0.125 if num_spheres <= 5 else 0.25
  counts = np.maximum(np.rint(spacing / step), 1).astype(int)
  axes = [((np.arange(n) + 0.5) / n - 0.5) * s for n, s in zip(counts, spacing)]
  return (
    np.stack(np.meshgrid(*axes, indexing='ij'), -1)
    .reshape(-1, 3)
    .astype(np.float32)
  )


def _phasor(points, deposit, *, b0, field_t, echo_times_s):
  """exp(i phase - TE R2') at points [..., 3], one array per echo."""
  field = np.zeros(points.shape[:-1], np.float32)
  inside = np.zeros(points.shape[:-1], np.float32)
  b0 = np.asarray(b0, np.float32)
  for (*centre, radius), chi in zip(deposit.spheres, deposit.chi_ppm):
    offset = points - np.array(centre, np.float32)
    squared = np.einsum('...i,...i->...', offset, offset)
    along = offset @ b0
    outside = squared > radius * radius
    safe = np.where(outside, squared, np.float32(1))
    value = 3 * along * along / safe - 1
    value *= np.float32(chi * radius**3 / 3) / (safe * np.sqrt(safe))
    field += np.where(outside, value, 0)
    inside += np.where(outside, 0, np.float32(abs(chi)))
  left = np.where(inside > 0, np.float32(deposit.density), np.float32(1))
  out = []
  for echo in echo_times_s:
    angle = field * np.float32(physics.phase_per_ppm(field_t, echo))
    decay = left * np.exp(
      -inside * np.float32(echo * physics.R2_PRIME * field_t)
    )
    value = np.empty(field.shape, np.complex64)
    value.real, value.imag = decay * np.cos(angle), decay * np.sin(angle)
    out.append(value)
  return out


class Placer:
  """Chooses centres: region by real shares, within it by dose and distance."""

  def __init__(
    self, head: anatomy.SimulatedHead, *, low_mm, high_mm, dose=None
  ):
    """z of centres is within low_mm..high_mm; `dose` is a 2 mm weight."""
    edge = ndimage.distance_transform_edt(head.mask[::2, ::2, ::2]) * 2
    self.edge_mm = edge  # [X, Y, Z] of the 2 mm grid, to outside the brain
    self.low_high_mm = low_mm, high_mm
    allowed = edge > 3.0
    allowed &= head.csf[::2, ::2, ::2] < 0.25
    z = 2 * np.arange(allowed.shape[2])
    allowed &= (z >= low_mm) & (z <= high_mm)
    region = head.region[::2, ::2, ::2] * allowed
    weight = np.ones(region.shape, np.float32) if dose is None else dose
    self.weight = weight
    self._pools = {}
    for name, share in REGION_SHARES.items():
      index = np.argwhere(region == tissue_atlas.REGIONS.index(name))
      if len(index) > 50:
        p = weight[tuple(index.T)].astype(float)
        self._pools[name] = (share, index, p / p.sum())
    self._taken = np.zeros((0, 4), np.float32)

  def draw(self, rng, *, radius_mm=3.0):
    """A free centre [3] in grid mm and its region; None after many tries."""
    names = list(self._pools)
    shares = np.array([self._pools[n][0] for n in names])
    for _ in range(40):
      name = names[rng.choice(len(names), p=shares / shares.sum())]
      _, index, p = self._pools[name]
      place = 2.0 * index[rng.choice(len(index), p=p)]
      place = place + rng.uniform(-1, 1, 3)
      if self.is_free(place, radius_mm=radius_mm):
        return place.astype(np.float32), name
    return None

  def is_free(self, place_mm, *, radius_mm=3.0) -> bool:
    """Whether nothing that was put is within both radii."""
    gap = np.sqrt(((self._taken[:, :3] - place_mm) ** 2).sum(1))
    return bool((gap >= self._taken[:, 3] + radius_mm).all())

  def take(self, centre_mm, *, radius_mm=3.0) -> None:
    """Nothing else will be put within both radii."""
    self._taken = np.vstack([self._taken, [*centre_mm, radius_mm]])


def dose_weight(head: anatomy.SimulatedHead, centre_mm, *, reach_mm):
  """Weight of a place by radiation dose, 2 mm grid.

  6 % of the weight everywhere, the rest where the dose is at least 30 Gy,
  which ends `reach_mm` from the tumour (Wahl et al., 2017: 88 % of
  microbleeds inside).

  Args:
    head: of the person.
    centre_mm: [3] grid mm, of the tumour.
    reach_mm: where the dose falls under 30 Gy.
  """
  shape = head.mask[::2, ::2, ::2].shape
  x, y, z = grids.grid_mm((0, 0, 0), shape, step=2.0)
  far = np.sqrt(
    (x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 + (z - centre_mm[2]) ** 2
  )
  inside = 1 / (1 + np.exp((far - reach_mm) / 3.0))
  return (0.06 + 0.94 * inside).astype(np.float32)


def label_contrast(without, with_, inside, *, visible):
  """Voxels whose contrast is beyond half-way, and the contrast itself.

  Args:
    without, with_: noise-free SWI [x, y, z] without and with the object.
    inside: bool [x, y, z], voxels near the object where its peak may lie.
    visible: least contrast relative to the surroundings.

  Returns:
    (bool [x, y, z], contrast 0..1), or None when it cannot be seen.
  """
  change = without - with_
  peak = float(change[inside].max(initial=0.0))
  around = float(np.median(without[without > 0])) if (without > 0).any() else 0
  if around <= 0 or peak < visible * around:
    return None
  dark = change >= 0.5 * peak
  labels, count = ndimage.label(dark, np.ones((3, 3, 3)))
  keep = np.zeros(count + 1, bool)
  keep[np.unique(labels[inside & dark])] = True
  keep[0] = False
  return keep[labels], min(peak / around, 1.0)
