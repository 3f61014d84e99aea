"""One subject of one protocol: from a seed to images and their truth.

Rule: each step draws from a stream named after it, so a change in one step
leaves the others as they were, and subject n never depends on the others.
"""

import zlib
from typing import NamedTuple

import numpy as np

from cmbjax.simulate import families, grids, labels, physics, placement
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

  magnitude: list[np.ndarray]  # per echo, float32; [] where not kept
  phase: list[np.ndarray]  # per echo, float32 rad; [] where not kept
  swi: np.ndarray  # float32
  brain: np.ndarray  # bool
  lesions: np.ndarray  # uint16 instances
  mimics: np.ndarray  # uint16
  lesion_rows: list[labels.Finding]
  mimic_rows: list[labels.Finding]
  affine: np.ndarray  # [4, 4]
  facts: dict  # what was drawn: SNR, tilt, ...
  bare: bool = False  # the sidecar says nothing of the scanner


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
  scan = _acquire(streams, world, found, others, workers)
  finish = families.find('finish', protocol.families.finish)
  return finish(streams('finish'), scan, protocol)


def _acquire(streams, world, found, others, workers) -> SimulatedScan:
  """Signal of the whole head to images and labels."""
  protocol, extent = world.protocol, world.extent
  rng = streams('receiver')
  brain = _brain(world)
  snr = rng.uniform(*protocol.snr)
  draw = families.find('receiver', protocol.families.receiver)
  receiver = draw(rng, protocol, extent)
  keep = slice(extent.margin, extent.shape[2] - extent.margin)
  magnitudes, phases, total = [], [], 0.0
  for echo in range(len(protocol.echo_times_s)):
    signal = world.signal(echo)
    whole = tuple(slice(0, n) for n in signal.shape)
    for item in (*found, *others):
      world_lib.multiply(signal, whole, item.effect, echo)
    signal = physics.crop_kspace(signal, extent.shape, workers=workers)
    signal = np.ascontiguousarray(signal[:, :, keep])
    for factor in receiver.bias:
      signal *= factor
    if echo == 0:  # one receiver: the noise of all echoes is equally strong
      sigma = np.median(abs(signal[brain])) / snr
    name = f'noise {echo}' if echo else 'noise'
    signal += receiver.noise(streams(name), signal.shape, sigma)
    signal = receiver.encode(streams('motion'), signal, protocol, workers)
    magnitude = abs(signal)
    if echo in protocol.swi_echoes:
      local = world.made.phase(signal, protocol)
      total = total + world.made.swi(magnitude, local, protocol, echo)
    for factor in receiver.offset:
      signal *= factor
    magnitudes.append(magnitude)
    phases.append(np.angle(signal))
  swi = total / len(protocol.swi_echoes)
  if not world.made.keeps_phase:
    magnitudes, phases = [], []
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
