"""A scanner of its own for every subject, so that networks learn no scanner.

Rule: a protocol is a pure function of seed and subject number, and never one
of those that are kept to test with: no drawn voxel has all three edges within
20 % of 1 x 1 x 4 mm (`clinical_15t`) or of 0.7 mm (`isotropic_3t`), whatever
its field and echoes, and 1.5 T never goes with slices of 4 mm or more.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy import fft

from cmbjax.errors import InputError
from cmbjax.imaging.phase import HOMODYNE_SIGMA_MM
from cmbjax.simulate import families as generators
from cmbjax.simulate.protocols import PROTOCOLS, Protocol, get_protocol
from cmbjax.simulate.scan import Streams

NAME, PREFIX = 'randomised', 'RND'
HELD_OUT_MM = ((1.0, 1.0, 4.0), (0.7, 0.7, 0.7))
_NEAR = 0.2  # of an edge
_THICK_15T_MM = 4.0

IN_PLANE_MM = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.06, 1.1)
SLICE_MM = (0.8, 1.0, 1.06, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0)
# What many hospitals scan with, as far as the field allows it.
USUAL_MM = (
  (0.5, 0.5, 2.0),
  (0.8, 0.8, 3.0),
  (0.8, 0.8, 1.5),
  (1.0, 1.0, 1.5),
  (1.0, 1.0, 1.0),
  (1.06, 1.06, 1.06),
)
_USUAL_SHARE = 0.35
_FLATNESS = (0.8, 6.5)  # slice over edge in plane
_HEAD_MM = (176.0, 216.0, 168.0)
_FINE_VOXELS = 36e6  # what fits into the memory of one process
_ECHO_VOXELS = 72e6  # fine voxels times echoes: the time
_TISSUES = ('grey', 'white', 'csf', 'vein')


class Scanner(NamedTuple):
  """What is usual at one field."""

  share: float  # of the subjects
  volume_mm3: tuple[float, float]  # of the voxel
  echo_ms: tuple[float, float]  # that makes the SWI; the last of several
  repetition_ms: tuple[float, float]
  flip_deg: tuple[float, float]


SCANNERS = {
  1.5: Scanner(0.30, (0.8, 4.0), (30, 55), (45, 80), (14, 25)),
  3.0: Scanner(0.45, (0.2, 3.5), (15, 40), (26, 52), (11, 21)),
  7.0: Scanner(0.25, (0.12, 1.2), (8, 22), (24, 52), (10, 21)),
}
# Share of the subjects and expected microbleeds, lowest and highest.
DISEASES = {
  'brain tumour': (0.4, (10, 35)),
  'cavernous malformation': (0.25, (15, 50)),
  'small vessel disease': (0.35, (4, 25)),
}
# First echo in ms of several, by field.
_FIRST_ECHO_MS = {1.5: (5, 9), 3.0: (4, 7), 7.0: (2.5, 4.5)}


@dataclasses.dataclass(frozen=True)
class Drawn(Protocol):
  """A protocol that one subject alone has, with its own tissue contrasts.

  Attributes:
    relaxation: tissue, and factors of its density, T1 and R2*.
    chi_factor: of the susceptibility of grey matter, white matter and CSF.
    b0: unit vector of the main field in the grid frame, 0 to 25 degrees off.
  """

  relaxation: tuple[tuple[str, tuple[float, float, float]], ...] = ()
  chi_factor: float = 1.0
  b0: tuple[float, float, float] | None = None

  @property
  def facts(self) -> dict:
    """What the sidecar tells beside the usual."""
    return {
      'AcquiredVoxelMm': list(self.voxel_mm),
      'EchoTimes': list(self.echo_times_s),
      'Disease': self.disease,
      'ExpectedMicrobleeds': self.mean_lesions,
      'HomodyneSigmaMm': self.homodyne_sigma_mm,
      'ReceiveBias': self.bias,
      'AcquiredKSpace': list(self.resolution),
      'SusceptibilityFactor': self.chi_factor,
      'RelaxationFactors': {name: list(f) for name, f in self.relaxation},
    }


def protocol_of(
  cohort: str,
  number: int,
  *,
  seed: int,
  families: str = '',
  lesions: float | None = None,
) -> Protocol:
  """Protocol of one subject: its own in `randomised`, else the cohort's.

  Args:
    cohort: its name.
    number: of the subject, from 1.
    seed: of the cohort.
    families: of generators, see `families.draw`; '': 'classic', and 'trained'
      for 'randomised'.
    lesions: expected number, of the cohort by default; 0: no person has any.

  Raises:
    InputError: no such cohort or families.
  """
  own = cohort == NAME
  protocol = (
    draw_protocol(number, seed=seed) if own else _protocol_named(cohort)
  )
  rng = Streams(seed, cohort, number)('families')
  chosen = families or ('trained' if own else 'classic')
  protocol = dataclasses.replace(
    protocol, families=generators.draw(rng, chosen)
  )
  if lesions is None:
    return protocol
  return dataclasses.replace(protocol, mean_lesions=float(lesions))


def _protocol_named(cohort: str) -> Protocol:
  if cohort not in PROTOCOLS:
    allowed = ', '.join((*PROTOCOLS, NAME))
    raise InputError(f'cohort {cohort!r} is unknown; choose one of {allowed}.')
  return get_protocol(cohort)


def draw_protocol(number: int, *, seed: int) -> Drawn:
  """How subject `number` (1, 2, ...) is scanned."""
  rng = Streams(seed, NAME, number)('protocol')
  field = _choose(rng, {f: s.share for f, s in SCANNERS.items()})
  scanner = SCANNERS[field]
  shapes = shapes_of(field)
  if rng.random() < _USUAL_SHARE:
    shapes = [voxel for voxel in shapes if voxel in USUAL_MM]
  voxel = shapes[rng.integers(len(shapes))]
  echoes = _draw_echoes(rng, field, voxel)
  repetition = max(rng.uniform(*scanner.repetition_ms), echoes[-1] + 7)
  disease = _choose(rng, {name: d[0] for name, d in DISEASES.items()})
  grid = _grid(voxel)
  return Drawn(
    name=NAME,
    prefix=PREFIX,
    field_t=field,
    voxel_mm=voxel,
    fine_mm=grid.fine_mm,
    field_of_view_mm=grid.field_of_view_mm,
    echo_times_s=tuple(round(e / 1000, 4) for e in echoes),
    repetition_time_s=round(repetition / 1000, 4),
    flip_deg=round(rng.uniform(*scanner.flip_deg), 1),
    manufacturer=('GE', 'Philips', 'Siemens')[rng.integers(3)],
    homodyne_sigma_mm=_round(HOMODYNE_SIGMA_MM[field] * _spread(rng, 1.25)),
    snr=(_draw_snr(rng, field, voxel, len(echoes)),) * 2,
    bias=_round(rng.uniform(0.08, 0.25) + 0.025 * field),
    resolution=(_round(rng.uniform(0.85, 1)), _round(rng.uniform(0.7, 1))),
    mean_lesions=_round(rng.uniform(*DISEASES[disease][1])),
    disease=disease,
    **_draw_contrasts(rng),
  )


def shapes_of(field_t: float) -> list[tuple[float, float, float]]:
  """Voxels in mm that a field may have, in a fixed order."""
  low, high = SCANNERS[field_t].volume_mm3
  out = []
  for edge in IN_PLANE_MM:
    for thick in SLICE_MM:
      voxel = (edge, edge, thick)
      usual = low <= edge * edge * thick <= high
      usual &= _FLATNESS[0] <= thick / edge <= _FLATNESS[1]
      if usual and not is_held_out(field_t, voxel) and _grid(voxel).affordable:
        out.append(voxel)
  return out


def is_held_out(field_t: float, voxel_mm) -> bool:
  """Whether a voxel is too like those of the protocols kept for tests."""
  if field_t == 1.5 and voxel_mm[2] >= _THICK_15T_MM:
    return True
  return any(
    all(abs(a / b - 1) <= _NEAR + 1e-6 for a, b in zip(voxel_mm, held))
    for held in HELD_OUT_MM
  )


class _Grid(NamedTuple):
  fine_mm: tuple[float, float, float]
  field_of_view_mm: tuple[float, float, float]
  fine_voxels: int

  @property
  def affordable(self) -> bool:
    return self.fine_voxels <= _FINE_VOXELS


def _grid(voxel_mm) -> _Grid:
  """Fine grid, and a field of view round the head that suits the FFT."""
  ratio = [1 if edge <= 0.8 else 2 for edge in voxel_mm[:2]]
  ratio.append(math.ceil(voxel_mm[2] / 1.25))
  count = [
    2 * fft.next_fast_len(math.ceil(length / edge / 2))
    for length, edge in zip(_HEAD_MM, voxel_mm)
  ]
  return _Grid(
    tuple(edge / r for edge, r in zip(voxel_mm, ratio)),
    tuple(n * edge for n, edge in zip(count, voxel_mm)),
    math.prod(count) * math.prod(ratio),
  )


def _draw_echoes(rng, field_t: float, voxel_mm) -> list[float]:
  """Echo times in ms: one, or two to five evenly spaced ones."""
  low, high = SCANNERS[field_t].echo_ms
  several, count = rng.random() < 0.35, int(rng.integers(2, 6))
  last, first = rng.uniform(low, high), rng.uniform(*_FIRST_ECHO_MS[field_t])
  count = min(count, int(_ECHO_VOXELS // _grid(voxel_mm).fine_voxels))
  if not several or count < 2:
    return [last]
  return np.linspace(first, last, count).tolist()


def _draw_snr(rng, field_t: float, voxel_mm, echoes: int) -> float:
  """20 at 3 T and 0.5 mm3; less than physics grants, as protocols differ."""
  usual = 20 * (math.prod(voxel_mm) / 0.5) ** (1 / 3) * (field_t / 3) ** 0.3
  usual *= 0.8 if echoes > 1 else 1.0
  return round(float(np.clip(usual * _spread(rng, 1.5), 9, 50)), 1)


def _draw_contrasts(rng) -> dict:
  """Factors of tissue values, 0.9 to 1.1, and a direction of B0."""
  factors = rng.uniform(0.9, 1.1, (len(_TISSUES), 3)).round(3).tolist()
  tilt, turn = np.deg2rad(rng.uniform(0, 25)), rng.uniform(0, 2 * np.pi)
  side = math.sin(tilt)
  return {
    'relaxation': tuple((n, tuple(f)) for n, f in zip(_TISSUES, factors)),
    'chi_factor': _round(rng.uniform(0.9, 1.1)),
    'b0': (side * math.cos(turn), side * math.sin(turn), math.cos(tilt)),
  }


def _choose(rng, shares: dict):
  """A key, by its share."""
  edges = np.cumsum(list(shares.values()))
  return list(shares)[int(np.searchsorted(edges, rng.random() * edges[-1]))]


def _spread(rng, factor: float) -> float:
  """From 1 / factor to factor, even on a logarithmic scale."""
  return float(factor ** rng.uniform(-1, 1))


def _round(value: float) -> float:
  return round(float(value), 3)
