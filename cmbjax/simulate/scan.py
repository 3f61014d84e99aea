"""One subject of one protocol: from a seed to images and their truth.

Rule: each step draws from a stream named after it, so a change in one step
leaves the others as they were, and subject n never depends on the others.
"""

import dataclasses
import zlib
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from cmbjax.imaging import phase as phase_filters
from cmbjax.simulate import anatomy, lesions, physics, tissue, vessels
from cmbjax.simulate.protocols import Protocol

VERSION = 7  # of the drawing; part of every fingerprint
_ECHOES_VERSION = 1  # of what only scans with several echoes have


def version_of(protocol: Protocol) -> int | list[int]:
  """Of the drawing of this protocol's scans."""
  if len(protocol.echo_times_s) == 1:
    return VERSION
  return [VERSION, _ECHOES_VERSION]


class Finding(NamedTuple):
  """One row of a truth table."""

  index: int
  kind: str
  region: str
  centre_mm: np.ndarray  # [3], grid mm, of the deposit
  moment: float  # ppm mm3
  contrast: float  # 0..1, noise-free, relative to the surroundings


class SimulatedScan(NamedTuple):
  """One simulated scan; arrays are [X, Y, Z] on the acquired grid."""

  magnitude: list[np.ndarray]  # per echo, float32
  phase: list[np.ndarray]  # per echo, float32 rad
  swi: np.ndarray  # float32
  brain: np.ndarray  # bool
  lesions: np.ndarray  # uint16 instances
  mimics: np.ndarray  # uint16
  lesion_rows: list[Finding]
  mimic_rows: list[Finding]
  affine: np.ndarray  # [4, 4]
  facts: dict  # what was drawn: SNR, tilt, ...


class Streams:
  """Random generators by name for one subject."""

  def __init__(self, seed: int, cohort: str, subject: int):
    self._key = [seed, zlib.crc32(cohort.encode()), subject]

  def __call__(self, name: str) -> np.random.Generator:
    return np.random.default_rng([*self._key, zlib.crc32(name.encode())])


def make_scan(
  protocol: Protocol, subject: int, *, seed: int, slab_mm: float | None = None,
  workers: int = 1,
) -> SimulatedScan:  # fmt: skip
  """Simulates subject number `subject` (1, 2, ...).

  Args:
    protocol: how it is scanned.
    seed: of the cohort.
    slab_mm: axial thickness round the ventricles; None: the whole head.
    workers: threads of the Fourier transforms.
  """
  streams = Streams(seed, protocol.name, subject)
  world = build_world(streams, protocol, slab_mm=slab_mm, workers=workers)
  shift = np.random.default_rng([seed, zlib.crc32(protocol.name.encode())])
  quantile = spread_quantile(subject, shift.random())
  found = place_lesions(streams('lesions'), world, quantile=quantile)
  others = _place_mimics(streams('mimics'), world)
  return _acquire(streams, world, found, others, workers)


def build_world(streams, protocol, *, slab_mm=None, workers=1) -> 'World':
  """One person without any compact deposit."""
  extent = tissue.get_extent(protocol, slab_mm)
  head = anatomy.draw_head(
    streams('anatomy'),
    full_mm=protocol.field_of_view_mm,
    start_mm=extent.start_mm,
    depth_mm=extent.depth_mm,
  )
  if protocol.b0 is not None:
    head = dataclasses.replace(head, b0=np.array(protocol.b0, np.float32))
  tumour = _draw_tumour(streams('tumour'), head, protocol)
  maps, drawn = tissue.draw_maps(
    streams, head, protocol, extent, tumour, workers
  )
  return World(protocol, extent, head, maps, tumour, drawn)


def _draw_tumour(rng, head, protocol) -> tissue.Tumour | None:
  if protocol.disease != 'brain tumour':
    return None
  pool = head.region[::4, ::4, ::4] == anatomy.REGIONS.index('white matter')
  index = np.argwhere(pool)
  centre = 4.0 * index[rng.integers(len(index))]
  cavity = rng.uniform(7, 20, 3) if rng.random() < 0.6 else None
  return tissue.Tumour(
    centre, rng.uniform(35, 50), cavity, rng.uniform(0.5, 1.5),
    rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0), rng.random() < 0.25,
  )  # fmt: skip


class World:
  """The noise-free head, and what deposits do to its signal locally."""

  def __init__(self, protocol, extent, head, maps, tumour, drawn):
    self.protocol, self.extent = protocol, extent
    self.head, self.maps = head, maps
    self.tumour, self.drawn = tumour, drawn
    self.placer = self._placer()
    self.ratio = np.rint(np.array(protocol.voxel_mm) / protocol.fine_mm).astype(
      int
    )

  @property
  def low_high_mm(self):
    """z range of the slab without its margins."""
    edge = self.extent.margin * self.protocol.voxel_mm[2]
    return edge, self.extent.depth_mm - edge

  def _placer(self):
    tumour, dose = self.tumour, None
    if tumour is not None:
      dose = lesions.dose_weight(
        self.head, tumour.centre_mm, reach_mm=tumour.reach_mm
      )
    low, high = self.low_high_mm
    placer = lesions.Placer(self.head, low_mm=low, high_mm=high, dose=dose)
    if tumour is not None and tumour.cavity_mm is not None:
      reach = float(tumour.cavity_mm.mean()) + 1
      placer.take(tumour.centre_mm, radius_mm=reach)
    return placer

  def effect(self, deposit):
    """Factors of a deposit on the fine grid, or None outside of it."""
    return lesions.effect(
      deposit, self.extent.fine_shape, self.protocol.fine_mm, b0=self.head.b0,
      field_t=self.protocol.field_t, echo_times_s=self.protocol.echo_times_s,
    )  # fmt: skip

  def signal(self, echo, box=(slice(None),) * 3):
    """Complex signal [x, y, z] of one echo on the fine grid."""
    time = np.float32(self.protocol.echo_times_s[echo])
    rate = np.float32(physics.phase_per_ppm(self.protocol.field_t, time))
    parts = [image[box] for image in self.maps]
    out = np.empty(parts[0].shape, np.complex64)
    # Piece by piece: what is computed stays in the cache.
    for first in range(0, len(out), 4):
      piece = slice(first, first + 4)
      density, r2s, field, spread = (part[piece] for part in parts)
      size = density * np.exp(-time * r2s)
      size *= _sinc(spread * (rate / np.float32(2 * np.pi)))
      angle = rate * field
      out.real[piece] = size * np.cos(angle)
      out.imag[piece] = size * np.sin(angle)
    return out

  def appearance(self, deposit, effect):
    """Voxels of the acquired grid in which a deposit shows.

    Returns:
      (box of the acquired grid, bool [x, y, z], contrast), or None.
    """
    box, fine = self.window(deposit)
    without = self._local_swi(fine, None)
    with_ = self._local_swi(fine, effect)
    inside = self.core(deposit, box)
    result = lesions.label_contrast(without, with_, inside)
    return None if result is None else (box, *result)

  def window(self, deposit):
    """Box of the acquired and of the fine grid round a deposit.

    As wide as the high-pass reaches in plane.
    """
    voxel = np.array(self.protocol.voxel_mm)
    wide = 3 * self.protocol.homodyne_sigma_mm + 2.5
    margin_mm = np.array([wide, wide, 8.0])
    spheres = deposit.spheres
    low = np.floor((spheres[:, :3].min(0) - margin_mm) / voxel).astype(int)
    high = np.ceil((spheres[:, :3].max(0) + margin_mm) / voxel).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, self.extent.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    fine = tuple(slice(a * r, b * r) for a, b, r in zip(low, high, self.ratio))
    return box, fine

  def core(self, deposit, box):
    """Voxels within 1.5 mm of a sphere: there the contrast must peak."""
    axes = [
      np.arange(b.start, b.stop) * v
      for b, v in zip(box, self.protocol.voxel_mm)
    ]
    x, y, z = np.meshgrid(*axes, indexing='ij', sparse=True)
    thick = self.protocol.voxel_mm[2]
    core = False
    for cx, cy, cz, radius in deposit.spheres:
      flat = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
      core = core | (
        (flat < radius + 1.5) & (abs(z - cz) < radius + 0.6 * thick)
      )
    return core

  def _local_swi(self, fine, effect):
    protocol = self.protocol
    total = 0.0
    for echo in protocol.swi_echoes:
      signal = self.signal(echo, fine)
      if effect is not None:
        _multiply(signal, fine, effect, echo)
      shape = tuple(n // r for n, r in zip(signal.shape, self.ratio))
      signal = physics.crop_kspace(signal, shape)
      sigma = [protocol.homodyne_sigma_mm / v for v in protocol.voxel_mm[:2]]
      low = ndimage.gaussian_filter(signal, (*sigma, 0))
      angle = np.angle(signal * low.conj())
      total = total + echo_swi(abs(signal), angle, protocol, echo)
    return total / len(protocol.swi_echoes)


def _sinc(x):
  """sin(pi x) / (pi x); nearly everywhere x is small."""
  square = x * x
  square *= np.float32(np.pi**2)
  value = 1 - square * (1 / 6 - square * np.float32(1 / 120))
  large = np.flatnonzero(square > 0.8)
  if large.size:
    value.reshape(-1)[large] = np.sinc(x.reshape(-1)[large])
  return value


def _multiply(signal, box, effect, echo) -> None:
  """Applies an effect to a signal given on `box` of the fine grid."""
  inner, outer = [], []
  for mine, its in zip(box, effect.box):
    start, stop = max(mine.start, its.start), min(mine.stop, its.stop)
    if start >= stop:
      return
    inner.append(slice(start - mine.start, stop - mine.start))
    outer.append(slice(start - its.start, stop - its.start))
  signal[tuple(inner)] *= effect.factors[echo][tuple(outer)]


def echo_swi(magnitude, phase_hp, protocol, echo):
  """SWI of one echo; short echoes mask at the same frequency as 16 ms."""
  threshold = np.pi
  if len(protocol.echo_times_s) > 1:
    threshold *= min(1.0, protocol.echo_times_s[echo] / 0.016)
  weight = phase_hp / np.float32(threshold)
  weight += 1
  np.clip(weight, 0, 1, out=weight)
  weight *= weight
  weight *= weight
  weight *= magnitude
  return weight


class PlacedDeposit(NamedTuple):
  deposit: lesions.Deposit
  effect: lesions.Effect
  region: str
  box: tuple[slice, slice, slice]
  voxels: np.ndarray
  contrast: float


def lesion_count(quantile: float, mean: float, *, dispersion=1.2) -> int:
  """Quantile of the negative binomial distribution of counts."""
  chance = dispersion / (dispersion + mean)
  share = below = chance**dispersion
  count = 0
  while below < quantile and count < 20 * mean + 20:
    share *= (count + dispersion) / (count + 1) * (1 - chance)
    below += share
    count += 1
  return count


def spread_quantile(number: int, shift: float) -> float:
  """Van der Corput's sequence, base 2, shifted: fills 0..1 evenly.

  So the first few subjects of a cohort already have its usual mean, though
  subject n depends on nothing but n.
  """
  value, step = 0.0, 0.5
  while number:
    value += step * (number & 1)
    number, step = number >> 1, step / 2
  return (value + shift) % 1.0


def place_lesions(rng, world, *, quantile) -> list[PlacedDeposit]:
  """Visible microbleeds, drawn until their number is reached.

  Args:
    quantile: 0..1, of the subject within the counts of its cohort.
  """
  protocol = world.protocol
  low, high = world.low_high_mm
  # A slab has its share, and some more: it is there to be tested with.
  share = min(1.0, 1.6 * (high - low) / 140) if world.extent.margin else 1.0
  placed = []
  count = max(lesion_count(quantile, protocol.mean_lesions * share), 1)
  if protocol.disease == 'cavernous malformation':
    for _ in range(max(1, round(rng.integers(1, 6) * share))):
      _try(rng, world, lesions.draw_popcorn, placed, radius_mm=9.0)
  for _ in range(4 * count):
    if len(placed) >= count:
      break
    _try(rng, world, lesions.draw_microbleed, placed, radius_mm=3.0)
  return placed


def _try(rng, world, draw, placed, *, radius_mm) -> None:
  """Draws one deposit and keeps it when it can be seen."""
  spot = world.placer.draw(rng, radius_mm=radius_mm)
  if spot is None:
    return
  deposit = draw(rng, spot[0])
  effect = world.effect(deposit)
  seen = effect and world.appearance(deposit, effect)
  if seen:
    world.placer.take(spot[0], radius_mm=radius_mm)
    placed.append(PlacedDeposit(deposit, effect, spot[1], *seen))


def _place_mimics(rng, world) -> list[PlacedDeposit]:
  """Calcifications and tumour blood; labelled where they show."""
  low, high = world.low_high_mm
  found = []

  def put(deposit, region):
    z = deposit.centre_mm[2]
    if not low <= z <= high:
      return
    effect = world.effect(deposit)
    if effect is not None:
      box, _ = world.window(deposit)
      core = world.core(deposit, box)
      found.append(PlacedDeposit(deposit, effect, region, box, core, 0.0))

  fixed = [((0, -26, 3), 2.4), ((18, -42, 12), 1.6), ((-18, -42, 12), 1.6)]
  for place, radius in fixed:
    if rng.random() < 0.75:
      jitter = rng.normal(0, 1.2, 3)
      centre = world.head.from_mni((np.array(place) + jitter)[None])[0]
      radius *= rng.uniform(0.5, 1.2)
      deposit = lesions.draw_calcification(rng, centre, radius_mm=radius)
      put(deposit, 'outside')
  if rng.random() < 0.4:
    place = np.array([[0, rng.uniform(0, 50), rng.uniform(45, 70)]])
    centre = world.head.from_mni(place)[0]
    put(lesions.draw_calcification(rng, centre), 'outside')
  for _ in range(rng.integers(1, 6)):
    spot = world.placer.draw(rng)
    if spot is not None:
      world.placer.take(spot[0])
      put(lesions.draw_calcification(rng, spot[0]), spot[1])
  tumour = world.tumour
  if tumour is not None and tumour.bloody:
    centre = tumour.centre_mm
    if tumour.cavity_mm is not None:  # what was not resected, beside it
      away = rng.normal(0, 1, 3)
      centre = centre + away / np.linalg.norm(away) * (tumour.cavity_mm + 4)
    put(lesions.draw_tumour_blood(rng, centre), 'outside')
  return found


def _acquire(streams, world, found, others, workers) -> SimulatedScan:
  """Signal of the whole head to images and labels."""
  protocol, extent = world.protocol, world.extent
  rng = streams('receiver')
  brain = _brain(world)
  snr = rng.uniform(*protocol.snr)
  bias, offset = _receive(rng, protocol, extent)
  keep = slice(extent.margin, extent.shape[2] - extent.margin)
  magnitudes, phases, total = [], [], 0.0
  for echo in range(len(protocol.echo_times_s)):
    signal = world.signal(echo)
    whole = tuple(slice(0, n) for n in signal.shape)
    for item in (*found, *others):
      _multiply(signal, whole, item.effect, echo)
    signal = physics.crop_kspace(signal, extent.shape, workers=workers)
    signal = np.ascontiguousarray(signal[:, :, keep])
    for factor in bias:
      signal *= factor
    if echo == 0:  # one receiver: the noise of all echoes is equally strong
      sigma = np.median(abs(signal[brain])) / snr
    name = f'noise {echo}' if echo else 'noise'
    signal += physics.complex_noise(streams(name), signal.shape, sigma)
    signal = _encode(streams('motion'), signal, protocol, workers)
    magnitude = abs(signal)
    if echo in protocol.swi_echoes:
      local = phase_filters.homodyne(
        signal, protocol.voxel_mm, sigma_mm=protocol.homodyne_sigma_mm
      )
      total = total + echo_swi(magnitude, local, protocol, echo)
    for factor in offset:
      signal *= factor
    magnitudes.append(magnitude)
    phases.append(np.angle(signal))
  swi = total / len(protocol.swi_echoes)
  labels, rows = _paint(found, extent, keep)
  mimics, mimic_rows = _paint_mimics(world, others, keep)
  mimics[labels > 0] = 0
  return SimulatedScan(
    magnitudes, phases, swi, brain, labels, mimics, rows, mimic_rows,
    _affine(streams('position'), world), _facts(world, snr),
  )  # fmt: skip


def _brain(world) -> np.ndarray:
  protocol, extent = world.protocol, world.extent
  shape = (*extent.shape[:2], extent.shape[2] - 2 * extent.margin)
  mask = anatomy.refine(
    world.head.mask.astype(np.float32), shape, step=protocol.voxel_mm,
    offset=(0, 0, extent.margin * protocol.voxel_mm[2]),
  )  # fmt: skip
  return mask > 0.5


def _receive(rng, protocol, extent):
  """Bias field and smooth phase of the combined coils.

  Exponentials of second-order polynomials, each as three factors that
  broadcast to [X, Y, Z] without the margins of a slab.
  """
  shape = extent.shape
  z = np.arange(extent.margin, shape[2] - extent.margin, dtype=np.float32)
  z = (z * protocol.voxel_mm[2] + extent.start_mm) * 2
  x, y, z = np.meshgrid(
    *(np.linspace(-1, 1, n, dtype=np.float32) for n in shape[:2]),
    z / np.float32(protocol.field_of_view_mm[2]) - 1,
    indexing='ij', sparse=True,
  )  # fmt: skip

  def polynomial(scale):
    w = rng.uniform(-1, 1, 9).astype(np.float32) * np.float32(scale)
    return (
      w[0] * x + w[1] * x * x + w[2] * x * y,
      w[3] * y + w[4] * y * y + w[5] * y * z,
      w[6] * z + w[7] * z * z + w[8] * x * z,
    )

  bias = [np.exp(part) for part in polynomial(protocol.bias)]
  offset = [np.exp(1j * part) for part in polynomial(1.5)]
  offset[0] = offset[0] * np.exp(1j * rng.uniform(-np.pi, np.pi))
  return bias, [part.astype(np.complex64) for part in offset]


def _encode(rng, signal, protocol, workers):
  """What k-space does to an image [X, Y, Z]; lines are encoded along x.

  Translations between lines (0 to 3), a pulsation ghost of 0 to 3 %, and the
  outer part that is not acquired along x and y.
  """
  spectrum = fft.fft2(signal, axes=(0, 1), workers=workers, overwrite_x=True)
  kx, ky = (np.fft.fftfreq(n).astype(np.float32) for n in signal.shape[:2])
  line = np.fft.fftshift(np.arange(len(kx)))  # order of acquisition
  weight = np.ones(spectrum.shape[:2], np.complex64)
  for _ in range(rng.integers(1, 4) if rng.random() < 0.4 else 0):
    start = rng.uniform(0.05, 0.95) * len(kx)
    shift = rng.normal(0, 0.25, 2) / protocol.voxel_mm[:2]
    ramp = np.exp(-2j * np.pi * (shift[0] * kx[:, None] + shift[1] * ky))
    weight *= np.where((line >= start)[:, None], ramp, 1)
  ghost = rng.uniform(0, 0.03) * np.exp(2j * np.pi * rng.random())
  beat = np.cos(2 * np.pi * rng.uniform(0.1, 0.5) * line)
  weight *= (1 + ghost * beat)[:, None]
  for axis, share in enumerate(protocol.resolution):
    far = 2 * abs((kx, ky)[axis])
    edge = np.clip((share - far) / 0.04 + 0.5, 0, 1)
    weight *= edge[:, None] if axis == 0 else edge
  spectrum *= weight[..., None].astype(np.complex64)
  return fft.ifft2(spectrum, axes=(0, 1), workers=workers, overwrite_x=True)


def _paint(found, extent, keep):
  """Instance labels of what was placed, and their rows."""
  labels = np.zeros(extent.shape, np.uint16)
  rows = []
  for item in found:
    view = labels[item.box]
    fresh = item.voxels & (view == 0)
    inside = np.zeros(extent.shape[2], bool)
    inside[keep] = True
    fresh &= inside[item.box[2]]
    if not fresh.any():
      continue
    view[fresh] = len(rows) + 1
    rows.append(
      Finding(
        len(rows) + 1, item.deposit.kind, item.region, item.deposit.centre_mm,
        item.deposit.moment, item.contrast,
      )
    )  # fmt: skip
  return np.ascontiguousarray(labels[:, :, keep]), rows


def _paint_mimics(world, others, keep):
  """Objects first, then one label per kind of vessel, then the rim."""
  protocol, extent = world.protocol, world.extent
  labels, rows = _paint(others, extent, keep)
  veins, arteries, rim = world.drawn
  tubes = vessels.stack([veins, arteries])
  kinds = sorted(set(tubes.kind.tolist()))
  trace = vessels.trace(tubes, kinds, extent.shape, protocol.voxel_mm)
  trace = trace[:, :, keep]
  fresh = (trace > 0) & (labels == 0)
  labels[fresh] = trace[fresh] + len(rows)
  artery = set(arteries.kind.tolist())
  count = len(rows)
  if rim is not None:
    free = rim[:, :, keep] & (labels == 0)
    labels[free] = count + len(kinds) + 1
  for number, kind in enumerate(kinds, start=1):
    place = 'artery' if kind in artery else 'vein'
    rows.append(
      Finding(count + number, f'{place}: {kind}', '', np.full(3, np.nan), 0, 0)
    )
  if rim is not None:
    number, place = len(rows) + 1, world.tumour.centre_mm
    rows.append(Finding(number, 'resection rim', '', place, 0, 0))
  return labels, rows


def _affine(rng, world) -> np.ndarray:
  """Acquired voxel to world mm, in which the main field is along z."""
  from scipy.spatial.transform import Rotation

  protocol, extent = world.protocol, world.extent
  turn, _ = Rotation.align_vectors([[0, 0, 1]], [world.head.b0])
  affine = np.eye(4)
  affine[:3, :3] = turn.as_matrix() * protocol.voxel_mm
  start = extent.start_mm + extent.margin * protocol.voxel_mm[2]
  corner = np.array([0, 0, start]) - np.array(protocol.field_of_view_mm) / 2
  affine[:3, 3] = turn.as_matrix() @ corner + rng.normal(0, 5, 3)
  return affine


def _facts(world, snr) -> dict:
  tumour = world.tumour
  tilt = np.rad2deg(np.arccos(np.clip(world.head.b0[2], -1, 1)))
  facts = {'SNR': round(float(snr), 2), 'TiltDegrees': round(float(tilt), 2)}
  facts['ResectionCavity'] = bool(
    tumour is not None and tumour.cavity_mm is not None
  )
  facts['TumourHaemorrhage'] = bool(tumour is not None and tumour.bloody)
  return facts
