"""One person without deposits, and what a deposit does to the picture there.

Rule: everything is noise-free; whether a deposit counts is decided on an SWI
of its surroundings, made as that of the whole scan.
"""

import dataclasses
import functools

import numpy as np

from cmbjax.simulate import (
  anatomy,
  families,
  lesions,
  physics,
  reconstruction,
  tissue,
  tissue_atlas,
)
from cmbjax.simulate.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class World:
  """The noise-free head, and what deposits do to its signal locally."""

  protocol: Protocol
  extent: tissue.Extent
  head: anatomy.SimulatedHead
  maps: tissue.Maps
  tumour: tissue.Tumour | None
  drawn: tissue.Vessels
  made: reconstruction.Reconstruction

  @functools.cached_property
  def ratio(self) -> np.ndarray:
    """Fine voxels in an acquired one, along each axis."""
    protocol = self.protocol
    return np.rint(np.array(protocol.voxel_mm) / protocol.fine_mm).astype(int)

  @property
  def low_high_mm(self):
    """z range of the slab without its margins."""
    edge = self.extent.margin * self.protocol.voxel_mm[2]
    return edge, self.extent.depth_mm - edge

  @property
  def share(self) -> float:
    """Of the deposits of a whole head; a slab, made for tests, has more."""
    low, high = self.low_high_mm
    return min(1.0, 1.6 * (high - low) / 140) if self.extent.margin else 1.0

  @functools.cached_property
  def placer(self) -> lesions.Placer:
    """Where something may be put; it remembers what is taken."""
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

  def appearance(self, deposit, effect, *, visible):
    """Voxels of the acquired grid in which a deposit shows.

    Args:
      deposit: one.
      effect: of it.
      visible: least contrast, see `lesions.label_contrast`.

    Returns:
      (box of the acquired grid, bool [x, y, z], contrast), or None.
    """
    box, fine = self.window(deposit)
    without = self._local_swi(fine, None)
    with_ = self._local_swi(fine, effect)
    inside = self.core(deposit, box)
    result = lesions.label_contrast(without, with_, inside, visible=visible)
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
        multiply(signal, fine, effect, echo)
      shape = tuple(n // r for n, r in zip(signal.shape, self.ratio))
      signal = physics.crop_kspace(signal, shape)
      angle = self.made.near(signal, protocol)
      total = total + self.made.swi(abs(signal), angle, protocol, echo)
    return total / len(protocol.swi_echoes)


def build_world(streams, protocol, *, slab_mm=None, workers=1) -> World:
  """One person without any compact deposit.

  Args:
    streams: random generators by name.
    protocol: how the person is scanned.
    slab_mm: axial thickness round the ventricles; None: the whole head.
    workers: threads of the Fourier transforms.
  """
  extent = tissue.get_extent(protocol, slab_mm)
  draw_head = families.find('anatomy', protocol.families.anatomy)
  head = draw_head(
    streams('anatomy'),
    full_mm=protocol.field_of_view_mm,
    start_mm=extent.start_mm,
    depth_mm=extent.depth_mm,
  )
  if protocol.b0 is not None:
    head = dataclasses.replace(head, b0=np.array(protocol.b0, np.float32))
  tumour = _draw_tumour(streams('tumour'), head, protocol)
  maps, drawn = tissue.draw_maps(
    streams, head, protocol=protocol, extent=extent, tumour=tumour,
    workers=workers,
  )  # fmt: skip
  make = families.find('reconstruction', protocol.families.reconstruction)
  made = make(streams('reconstruction'), protocol)
  return World(protocol, extent, head, maps, tumour, drawn, made)


def _draw_tumour(rng, head, protocol) -> tissue.Tumour | None:
  if protocol.disease != 'brain tumour':
    return None
  pool = head.region[::4, ::4, ::4] == tissue_atlas.REGIONS.index(
    'white matter'
  )
  index = np.argwhere(pool)
  centre = 4.0 * index[rng.integers(len(index))]
  cavity = rng.uniform(7, 20, 3) if rng.random() < 0.6 else None
  return tissue.Tumour(
    centre, rng.uniform(35, 50), cavity, rng.uniform(0.5, 1.5),
    rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0), rng.random() < 0.25,
  )  # fmt: skip


def _sinc(x):
  """sin(pi x) / (pi x); nearly everywhere x is small."""
  square = x * x
  square *= np.float32(np.pi**2)
  value = 1 - square * (1 / 6 - square * np.float32(1 / 120))
  large = np.flatnonzero(square > 0.8)
  if large.size:
    value.reshape(-1)[large] = np.sinc(x.reshape(-1)[large])
  return value


def multiply(signal, box, effect, echo) -> None:
  """Applies an effect to a signal given on `box` of the fine grid.

  Args:
    signal: complex [x, y, z], changed in place.
    box: slices of the fine grid that it covers.
    effect: of a deposit.
    echo: index of the echo.
  """
  inner, outer = [], []
  for mine, its in zip(box, effect.box):
    start, stop = max(mine.start, its.start), min(mine.stop, its.stop)
    if start >= stop:
      return
    inner.append(slice(start - mine.start, stop - mine.start))
    outer.append(slice(start - its.start, stop - its.start))
  signal[tuple(inner)] *= effect.factors[echo][tuple(outer)]
