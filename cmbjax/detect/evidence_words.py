"""What speaks for and against a microbleed at each place, in words.

Rule: words are made from numbers of the image that are in the table too; the
verdict is the networks', and the sentence says so.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cmbjax.candidates import detector
from cmbjax.detect import surroundings
from cmbjax.detect.result import (
  DEFINITE,
  REJECTED,
  UNKNOWN,
  Lesion,
  Signs,
)
from cmbjax.imaging import dipole, symmetry, template, volume

MOST_REJECTED = 40  # as many as a page shows

PARAMAGNETIC, DIAMAGNETIC = 'paramagnetic', 'diamagnetic'
# Of simulated 3T lesions with phase, 1 in 20 has a field against its sign of
# this size and more; of calcifications, 3 in 4 have one of theirs.
_LEAST_FIELD = 0.15
_CLEAR_FIELD = 0.3
# 1 in 20 simulated lesions is so; 1 in 4 pieces of cortical veins.
TUBULAR, ONE_END = 0.5, 0.75
_SURROUNDED, _RIM = 0.8, 0.15  # of what is round a spot
_ROUND = 0.25
# In a ball of 6 mm every fourth lesion would have a partner by chance.
_PARTNER_MM = 4.0
_MIDLINE_MM = 5.0  # nearer than this a spot and its mirror image may be one
_ALIKE = 1.5  # factor between the contrasts of partners
_FLUID, _FLUID_MM = 0.4, 3.0
# Iron-rich nuclei, MNI mm of the right side and the radius of each: Keuken et
# al., NeuroImage 94:40, 2014; dentate: Dimitrova et al., NeuroImage 30:12,
# 2006.
NUCLEI = {
  'red nucleus': ((5.5, -20.5, -7.5), 3.5),
  'substantia nigra': ((10.0, -18.0, -11.0), 4.0),
  'subthalamic nucleus': ((10.5, -13.5, -7.5), 3.0),
  'dentate nucleus': ((15.0, -57.0, -34.0), 6.0),
  'pallidum': ((19.0, -4.0, 0.0), 6.0),
}
_NUCLEUS_MM = 3.0  # registration


class ScanArrays(NamedTuple):
  """What the evidence is taken from; slice axis last.

  Attributes:
    unit: [X, Y, Z] SWI in 0..1.
    mask: bool [X, Y, Z], the brain.
    image: the grid.
    phase: [X, Y, Z] high-passed, any unit, veins negative; None: none was
      read, or its sign is a guess.
    world_to_mni: [4, 4]; None: not known.
    plane: between the halves of the brain; None: not known.
  """

  unit: np.ndarray
  mask: np.ndarray
  image: volume.Volume
  phase: np.ndarray | None
  world_to_mni: np.ndarray | None
  plane: symmetry.MirrorPlane | None


def add(
  lesions: Sequence[Lesion],
  scan: ScanArrays,
  *,
  proposed: detector.Candidates,
  point: Mapping[str, Any],
) -> tuple[Lesion, ...]:
  """The lesions with their evidence; of rejected ones the most likely.

  Args:
    lesions: definite and possible ones first.
    scan: where they are.
    proposed: the candidates that they come from.
    point: as `verdicts.operating_point` gives it.
  """
  found = sum(lesion.status != REJECTED for lesion in lesions)
  some, rest = np.split(np.arange(len(lesions)), [found + MOST_REJECTED])
  some = [lesions[n] for n in some]
  if not some:
    return tuple(lesions)
  centre = np.array([lesion.centre_index for lesion in some])
  diameter = np.array([lesion.diameter_mm for lesion in some])
  seen = surroundings.measure(
    scan.unit, scan.mask, scan.image.spacing_mm,
    centre=centre, diameter_mm=diameter,
  )  # fmt: skip
  fields = _field(scan, centre, diameter)
  partners = _partners(scan, some, proposed, seen.contrast)
  beside = _beside(scan, centre)
  out = []
  for n, lesion in enumerate(some):
    signs = Signs(
      polarity=_polarity(fields[n]),
      polarity_certainty=0.0 if np.isnan(fields[n]) else _two(abs(fields[n])),
      tubularity=_two(seen.tubularity[n]),
      one_end=_two(seen.one_end[n]),
      parenchyma=_two(seen.parenchyma[n]),
      outside=_two(seen.outside[n]),
      partner=partners[n][0],
      partner_mm=partners[n][1],
      beside=beside[n],
    )
    said = {'why': verdict(lesion, point), 'evidence': words(signs)}
    out.append(dataclasses.replace(lesion, signs=signs._replace(**said)))
  return (*out, *(lesions[n] for n in rest))


def _two(value) -> float:
  return round(float(value), 2) + 0.0


def _field(scan, centre, diameter) -> np.ndarray:
  """Correlation [N] with the field of blood; NaN where it is not known."""
  if scan.phase is None:
    return np.full(len(centre), np.nan)
  return dipole.susceptibility_sign(
    scan.phase, scan.mask, scan.image.spacing_mm,
    centre=centre, radius_mm=diameter / 2,
    field=dipole.axis_of_field(scan.image.affine),
  )  # fmt: skip


def _polarity(value: float) -> str:
  if not abs(value) >= _LEAST_FIELD:  # NaN too
    return UNKNOWN
  return PARAMAGNETIC if value > 0 else DIAMAGNETIC


def _partners(scan, lesions, proposed, contrast):
  """('found', mm), ('none', None), ('midline', None) or ('unknown', None).

  A partner is a candidate that passed the gates, is as dark, and is near the
  place of the lesion on the other side.
  """
  plane = scan.plane
  if plane is None:
    return [(UNKNOWN, None)] * len(lesions)
  kept = np.flatnonzero(proposed.kept)
  spots = surroundings.measure(
    scan.unit, scan.mask, scan.image.spacing_mm, centre=proposed.centre[kept],
    diameter_mm=np.full(len(kept), 2.0),
  )  # fmt: skip
  places = _to_world(scan, proposed.centre[kept])
  mine = _to_world(scan, [x.centre_index for x in lesions])
  out = []
  for lesion, place, dark in zip(lesions, mine, contrast):
    if abs(place @ plane.normal - plane.offset_mm) < _MIDLINE_MM:
      out.append(('midline', None))
      continue
    away = np.linalg.norm(places - plane.mirrored(place), axis=1)
    ratio = spots.contrast / max(dark, 1e-6)
    like = (ratio < _ALIKE) & (ratio > 1 / _ALIKE)
    away = away[like & (kept != lesion.candidate - 1)].min(initial=np.inf)
    near = away <= _PARTNER_MM
    out.append(('found', round(float(away), 1)) if near else ('none', None))
  return out


def _beside(scan, centre) -> list[str]:
  """'fluid', the name of a nucleus or '' for each place; '' if not known."""
  if scan.world_to_mni is None:
    return [''] * len(centre)
  mni, brain = _to_mni(scan, centre), template.load()
  fluid = brain.brain - brain.grey - brain.white
  around = surroundings.directions(32) * _FLUID_MM
  at = (mni[:, None] + around - brain.origin_mm) / template.STEP_MM
  wet = ndimage.map_coordinates(fluid, np.moveaxis(at, -1, 0), order=1).mean(1)
  return [
    _nucleus(p) or ('fluid' if w >= _FLUID else '') for p, w in zip(mni, wet)
  ]


def _nucleus(place) -> str:
  right = np.abs(place[0]), place[1], place[2]
  away = {
    name: np.linalg.norm(np.subtract(right, middle)) - radius
    for name, (middle, radius) in NUCLEI.items()
  }
  nearest = min(away, key=away.get)
  return nearest if away[nearest] <= _NUCLEUS_MM else ''


def _to_world(scan, index) -> np.ndarray:
  return scan.image.to_world(np.reshape(index, (-1, 3))).reshape(-1, 3)


def _to_mni(scan, index) -> np.ndarray:
  world = _to_world(scan, index)
  return world @ scan.world_to_mni[:3, :3].T + scan.world_to_mni[:3, 3]


# Words.


def pros_and_cons(signs: Signs) -> tuple[list[str], list[str]]:
  """Short phrases for a microbleed, and against one."""
  good, bad = [], []
  e = signs
  how = 'clearly' if e.polarity_certainty >= _CLEAR_FIELD else 'probably'
  if e.polarity == PARAMAGNETIC:
    good.append(f'{how} paramagnetic, as blood')
  elif e.polarity == DIAMAGNETIC:
    bad.append(f'{how} diamagnetic, as calcium')
  if e.tubularity >= TUBULAR:
    bad.append('dark on two sides, as a vessel that runs through')
  elif e.one_end >= ONE_END:
    bad.append('dark on one side, as the end of a vessel')
  elif e.tubularity <= _ROUND:
    good.append('round and alone')
  if e.outside >= _RIM:
    bad.append('at the rim of the brain')
  elif e.parenchyma >= _SURROUNDED:
    good.append('brain tissue all round')
  if e.beside == 'fluid':
    bad.append('beside fluid')
  elif e.beside:
    bad.append(f'in or beside the {e.beside}, which is rich in iron')
  if e.partner == 'found':
    bad.append('a like spot on the other side of the brain')
  elif e.partner == 'none':
    good.append('no like spot on the other side')
  return good, bad


def words(signs: Signs) -> str:
  """'For a microbleed: round and alone. Against: beside fluid.'

  Without a likelihood, so that a reader may see it who is not shown that.
  """
  good, bad = pros_and_cons(signs)
  parts = [
    f'{head}: {", ".join(some)}.'
    for head, some in (('For a microbleed', good), ('Against', bad))
    if some
  ]
  if signs.polarity == UNKNOWN:
    parts.append('Blood or calcium: not known.')
  return ' '.join(parts)


def verdict(lesion: Lesion, point: Mapping[str, Any]) -> str:
  """Why it is definite, possible or rejected, in one sentence.

  Args:
    lesion: judged.
    point: the operating point.
  """
  low, high = point.get('threshold'), point.get('definite_threshold')
  if lesion.likelihood is None or low is None:
    return 'Possible, as no network judged it.'
  held = f'its likelihood {_shown(lesion.likelihood, low, high)}'
  if lesion.status == DEFINITE:
    return f'Definite, as {held} is above {high:.3g}.'
  if lesion.status == REJECTED:
    return f'Rejected, as {held} is not above {low:.3g}.'
  return f'Possible, as {held} is above {low:.3g}, not above {high:.3g}.'


def _shown(likelihood, *thresholds) -> str:
  from cmbjax.report import texts  # late: only pages need it else

  return texts.likelihood_text(likelihood, *thresholds)
