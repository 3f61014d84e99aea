"""One subject of one protocol: from a seed to images and their truth.

Rule: each step draws from a stream named after it, so a change in one step
leaves the others as they were, and subject n never depends on the others.
"""

import zlib
from typing import NamedTuple

import numpy as np
from scipy import fft

from cmbjax.imaging import phase as phase_filters
from cmbjax.simulate import grids, labels, physics, placement
from cmbjax.simulate import world as world_lib
from cmbjax.simulate.protocols import Protocol

VERSION = 7  # of the drawing; part of every fingerprint
_ECHOES_VERSION = 1  # of what only scans with several echoes have


def version_of(protocol: Protocol) -> int | list[int]:
  """Of the drawing of this protocol's scans."""
  if len(protocol.echo_times_s) == 1:
    return VERSION
  return [VERSION, _ECHOES_VERSION]


class SimulatedScan(NamedTuple):
  """One simulated scan; arrays are [X, Y, Z] on the acquired grid."""

  magnitude: list[np.ndarray]  # per echo, float32
  phase: list[np.ndarray]  # per echo, float32 rad
  swi: np.ndarray  # float32
  brain: np.ndarray  # bool
  lesions: np.ndarray  # uint16 instances
  mimics: np.ndarray  # uint16
  lesion_rows: list[labels.Finding]
  mimic_rows: list[labels.Finding]
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
  world = world_lib.build_world(
    streams, protocol, slab_mm=slab_mm, workers=workers
  )
  shift = np.random.default_rng([seed, zlib.crc32(protocol.name.encode())])
  quantile = placement.spread_quantile(subject, shift.random())
  found = placement.place_lesions(streams('lesions'), world, quantile=quantile)
  others = placement.place_mimics(streams('mimics'), world)
  return _acquire(streams, world, found, others, workers)


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
      world_lib.multiply(signal, whole, item.effect, echo)
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
      total = total + world_lib.echo_swi(magnitude, local, protocol, echo)
    for factor in offset:
      signal *= factor
    magnitudes.append(magnitude)
    phases.append(np.angle(signal))
  swi = total / len(protocol.swi_echoes)
  lesions, rows = labels.paint(found, extent, keep)
  mimics, mimic_rows = labels.paint_mimics(world, others, keep)
  mimics[lesions > 0] = 0
  return SimulatedScan(
    magnitudes, phases, swi, brain, lesions, mimics, rows, mimic_rows,
    _affine(streams('position'), world), _facts(world, snr),
  )  # fmt: skip


def _brain(world) -> np.ndarray:
  protocol, extent = world.protocol, world.extent
  shape = (*extent.shape[:2], extent.shape[2] - 2 * extent.margin)
  mask = grids.refine(
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
