"""One scan's files to its lesions: the whole chain, top to bottom.

Rule: every step is the one that training used; nothing here computes what
another room already computes.
"""

import contextlib
import dataclasses
import importlib.metadata
import pathlib
import platform
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

import cmbjax
from cmbjax.data import cohort, patches, tables
from cmbjax.detect import candidates as detect
from cmbjax.detect import segmentation
from cmbjax.imaging import bids, swi, volume
from cmbjax.lesions import counts, domain, places
from cmbjax.lesions.classifier import Classifier
from cmbjax.lesions.result import (
  DEFINITE,
  POSSIBLE,
  REJECTED,
  Lesion,
  ScanResult,
)

PACKAGES = ('jax', 'flax', 'numpy', 'scipy', 'nibabel')


@dataclasses.dataclass(frozen=True)
class Options:
  """What decides the lesions of a scan, besides its files and the weights."""

  operating_point: str = 'high_sensitivity'
  threshold: float | None = None  # instead of the operating point
  generator: str = 'frst'  # or 'hessian'
  regions: bool = True  # register to MNI and name places
  atlas: pathlib.Path | None = None  # label image in MNI, instead of ours


class Analysis(NamedTuple):
  """A result, and what only files on disk need."""

  result: ScanResult
  image: volume.Volume  # the scan's own grid
  candidates: detect.Candidates


class Verdicts(NamedTuple):
  """What the networks say of N candidates; NaN for those they never saw."""

  likelihood: np.ndarray  # [N] mean over networks
  spread: np.ndarray  # [N] standard deviation over networks
  probability: np.ndarray  # [N] calibrated
  status: list[str]  # N of definite, possible, rejected


def analyse(
  scan: bids.ScanFiles,
  classifier: Classifier | None,
  options: Options = Options(),
  *,
  threads: int | None = None,
) -> Analysis:
  """Finds, judges, outlines, measures and places the lesions of one scan.

  Args:
    scan: its files.
    classifier: None: every candidate that passes the gates is 'possible'.
    options: see `Options`.
    threads: for the candidate stage; the result does not depend on it.

  Raises:
    InputError: a file that cannot be used.
  """
  clock = _Clock()
  with clock('read'):
    found = cohort.load_image(scan)
    image = found.volume
    mask = np.ascontiguousarray(found.mask)
    array = np.ascontiguousarray(image.array, np.float32)
    unit = swi.scale_to_unit(array, mask)
  spacing_mm = image.spacing_mm
  gates = detect.Gates(generator=options.generator)
  with clock('candidates'):
    proposed = detect.propose(unit, spacing_mm, mask, gates=gates, jobs=threads)
  with clock('classification'):
    point = operating_point(classifier, options)
    verdicts = judge(unit, spacing_mm, proposed, classifier, point)
  with clock('segmentation'):
    outlined = outline(unit, image, mask, proposed, verdicts, gates, threads)
  with clock('regions'):
    lesions, unsure = outlined.lesions, ()
    if options.regions:
      lesions, unsure = places.locate(
        lesions, outlined.labels, unit, mask, image, atlas=options.atlas
      )
  protocol = protocol_of(scan, image, found.made)
  facts = protocol | tables.image_facts(unit, spacing_mm, mask)
  litres = max(facts['mask_ml'], 1e-3) / 1000
  facts['candidates_per_litre'] = float(proposed.kept.sum()) / litres
  unusual = domain.warnings(facts, classifier.domain if classifier else {})
  table = columns(proposed, verdicts, outlined.owner, image)
  found_any = any(lesion.status != REJECTED for lesion in lesions)
  top = () if found_any and not unusual else domain.top_rejected(table)
  result = ScanResult(
    name=scan.name,
    subject=scan.subject,
    session=scan.session,
    source=', '.join(path.name for path in files_of(scan)),
    simulated=scan.sidecar.get('Simulated') is True,
    protocol=protocol,
    lesions=lesions,
    candidates=table,
    counts=counts.count(lesions, classified=classifier is not None)
    | {'candidates': int(proposed.kept.sum()), 'proposed': len(proposed)},
    warnings=(
      *_empty(found_any, proposed, top),
      *unusual,
      *_notes(found, spacing_mm, classifier),
      *unsure,
    ),
    operating_point=point,
    seconds=clock.seconds,
    software=software(),
    swi=unit,
    labels=outlined.labels,
    mask=mask,
    spacing_mm=spacing_mm,
    affine=image.affine,
    top_rejected=top,
  )
  return Analysis(result, image, proposed)


def files_of(scan: bids.ScanFiles) -> tuple[pathlib.Path, ...]:
  """The files that decide a scan's voxels."""
  given = [scan.swi] if scan.swi else [scan.magnitude, scan.phase]
  flat = []
  for one in [*given, scan.mask]:
    flat += list(one) if isinstance(one, tuple) else [one]
  return tuple(path for path in flat if path is not None)


def operating_point(
  classifier: Classifier | None, options: Options
) -> dict[str, Any]:
  """Name, threshold and definite_threshold; strictly above is positive.

  Raises:
    InputError: the weights do not have this point.
  """
  if classifier is None:
    return {'name': 'none', 'threshold': None, 'definite_threshold': None}
  if options.threshold is not None:
    name, low = 'threshold', options.threshold
    rule = 'given on the command line'
  else:
    name = options.operating_point
    low, rule = classifier.threshold(name), classifier.rules[name]
  return {
    'name': name,
    'threshold': low,
    'definite_threshold': max(low, classifier.points['high_precision']),
    'rule': rule,
    'weights': classifier.name,
    'networks': len(classifier.weights),
    'fingerprint': classifier.fingerprint,
    'trained_on_simulated': classifier.simulated,
  }


def judge(
  unit: np.ndarray,
  spacing_mm: tuple[float, float, float],
  proposed: detect.Candidates,
  classifier: Classifier | None,
  point: Mapping[str, Any],
) -> Verdicts:
  """Verdicts on all candidates; those that a gate dropped are rejected."""
  count = len(proposed)
  likelihood, spread, probability = (np.full(count, np.nan) for _ in range(3))
  kept = np.flatnonzero(proposed.kept)
  if classifier is None:
    status = [POSSIBLE if keep else REJECTED for keep in proposed.kept]
    return Verdicts(likelihood, spread, probability, status)
  if classifier.patches == 'resampled':
    cut = patches.resample(unit, proposed.centre[kept], spacing_mm)
  else:
    cut = patches.cut(unit, proposed.centre[kept])
  each = classifier.likelihood(cut)  # [K, N]
  likelihood[kept] = each.mean(0)
  spread[kept] = each.std(0)
  probability[kept] = classifier.probability(likelihood[kept])
  status = np.full(count, REJECTED, object)
  # NaN is above nothing.
  status[likelihood > point['threshold']] = POSSIBLE
  status[likelihood > point['definite_threshold']] = DEFINITE
  return Verdicts(likelihood, spread, probability, status.tolist())


class Outlined(NamedTuple):
  """Lesions without a place yet."""

  lesions: tuple[Lesion, ...]
  labels: np.ndarray  # [X, Y, Z] uint16
  owner: list[str]  # N ids, one per candidate; '' for what a gate dropped


def outline(
  unit: np.ndarray,
  image: volume.Volume,
  mask: np.ndarray,
  proposed: detect.Candidates,
  verdicts: Verdicts,
  gates: detect.Gates,
  threads: int | None = None,
) -> Outlined:
  """Outlines what was found, most likely first, and measures it.

  Rejected candidates keep the measures of the candidate stage and are in no
  image.
  """
  sure = np.where(np.isnan(verdicts.likelihood), 0, verdicts.likelihood)
  order = np.lexsort((np.arange(len(sure)), -proposed.score, -sure))
  kept = [int(n) for n in order if proposed.kept[n]]
  found = [n for n in kept if verdicts.status[n] != REJECTED]
  drawn = segmentation.segment(
    unit, image.spacing_mm, mask, proposed.centre[found], gates=gates,
    jobs=threads,
  )  # fmt: skip
  boxes = ndimage.find_objects(drawn.labels, max_label=len(found))
  lesions, owner = [], [''] * len(sure)
  for row, n in enumerate(found):
    lesion = _drawn(row, n, drawn, boxes[row], image, proposed, verdicts)
    lesions.append(lesion)
    owner[n] = lesion.id
  for n in kept:
    if verdicts.status[n] == REJECTED:
      owner[n] = f'candidate-{n + 1:04d}'
      lesions.append(_rejected(n, image, proposed, verdicts, owner[n]))
  return Outlined(tuple(lesions), drawn.labels, owner)


def _drawn(row, n, drawn, box, image, proposed, verdicts) -> Lesion:
  """Lesion `row` of the outlines, which is candidate `n`."""
  size = {name: float(column[row]) for name, column in drawn.measures.items()}
  middle = image.to_world([size[f'centre_{axis}'] for axis in 'xyz'])
  counted = drawn.kind[row] == segmentation.MICROBLEED
  return Lesion(
    index=row + 1,
    id=f'lesion-{row + 1:03d}',
    centre_mm=_point(middle),
    extent_mm=tuple(
      round((part.stop - part.start) * side, 4)
      for part, side in zip(box, image.spacing_mm)
    ),
    counted=counted,
    note='' if counted else _too_large(size),
    **_size(size),
    **_judged(n, proposed, verdicts),
  )


def _rejected(n, image, proposed, verdicts, name) -> Lesion:
  """Candidate `n`, which the networks rejected."""
  size = {key: float(column[n]) for key, column in proposed.features.items()}
  region = proposed.regions[n]
  extent = (np.ptp(region, axis=0) + 1) * image.spacing_mm
  return Lesion(
    index=0,
    id=name,
    centre_mm=_point(image.to_world(proposed.centre[n])),
    extent_mm=tuple(round(float(side), 4) for side in extent),
    **_size(size),
    **_judged(n, proposed, verdicts),
  )


def _size(size):
  names = ('volume_mm3', 'diameter_mm', 'feret_mm', 'contrast')
  return {name: round(size[name], 4) for name in names}


def _judged(n, proposed, verdicts):
  def number(values):
    return None if np.isnan(values[n]) else round(float(values[n]), 6)

  return {
    'candidate': n + 1,
    'centre_index': tuple(int(v) for v in proposed.centre[n]),
    'status': verdicts.status[n],
    'likelihood': number(verdicts.likelihood),
    'spread': number(verdicts.spread),
    'probability': number(verdicts.probability),
    'category': proposed.category[n],
  }


def _too_large(size):
  which = max(('diameter_mm', 'feret_mm'), key=size.get)
  name = {'diameter_mm': 'equivalent', 'feret_mm': 'Feret'}[which]
  return (
    f'{name} diameter {size[which]:.1f} mm is above '
    f'{segmentation.LARGEST_MM:g} mm: {segmentation.LARGE}, not counted'
  )


def _point(place):
  return tuple(round(float(v), 4) + 0.0 for v in place)  # + 0: no -0.0


def columns(
  proposed: detect.Candidates,
  verdicts: Verdicts,
  owner: list[str],
  image: volume.Volume,
) -> dict[str, np.ndarray]:
  """The table of all candidates, those that a gate dropped too.

  Returns:
    Name to [N] array: candidate, x_mm y_mm z_mm (RAS world), i j k (voxel of
    the file), score, kept, reason, category, status, likelihood, spread,
    probability, lesion (id), then every feature of the candidate stage.
  """
  world = image.to_world(proposed.centre).reshape(-1, 3)
  native = image.to_native_index(proposed.centre).reshape(-1, 3)
  reason = [
    text or ('likelihood' if state == REJECTED else '')
    for text, state in zip(proposed.reason, verdicts.status)
  ]
  table = {'candidate': np.arange(1, len(proposed) + 1)}
  table |= {f'{a}_mm': world[:, n] + 0.0 for n, a in enumerate('xyz')}
  table |= {a: native[:, n] for n, a in enumerate('ijk')}
  return table | {
    'score': proposed.score,
    'kept': proposed.kept,
    'reason': np.array(reason, str),
    'category': np.array(proposed.category, str),
    'status': np.array(verdicts.status, str),
    'likelihood': verdicts.likelihood,
    'spread': verdicts.spread,
    'probability': verdicts.probability,
    'lesion': np.array(owner, str),
    **proposed.features,
  }


def protocol_of(
  scan: bids.ScanFiles, image: volume.Volume, made: str
) -> dict[str, Any]:
  """Field strength, echo time and the like, None where nobody says."""
  fields = scan.sidecar
  echo = fields.get('EchoTime')
  if isinstance(scan.magnitude, tuple) and scan.swi is None:
    sidecars = [bids.sidecar(path) for path in scan.magnitude[1:]]
    echo = [some.get('EchoTime') for some in sidecars]
  if isinstance(echo, list):  # of the echoes that the SWI was made from
    known = [t for t in echo if _number(t) is not None]
    echo = sum(known) / len(known) if known else None
  return {
    'field_t': _number(fields.get('MagneticFieldStrength')),
    'echo_time_s': _number(echo),
    'spacing_mm': image.spacing_mm,
    'manufacturer': _text(fields.get('Manufacturer')),
    'model': _text(fields.get('ManufacturersModelName')),
    'made': made,
  }


def software() -> dict[str, str]:
  """Versions of what made the numbers."""
  found = {'cmbjax': cmbjax.__version__, 'python': platform.python_version()}
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def _empty(found_any, proposed, top):
  """An empty result is explained, always."""
  if found_any:
    return
  if not len(proposed):
    yield (
      'nothing dark and round was found at all; check that the image is an '
      'SWI, not inverted and not projected'
    )
    return
  yield (
    f'no microbleed was found: {len(proposed)} dark spots were looked at, '
    f'{int(proposed.kept.sum())} passed the gates; the {len(top)} nearest to '
    'being found are listed with their reasons'
  )


def _notes(found, spacing_mm, classifier):
  """What the reader of the result has to know besides the domain check."""
  yield from found.notes
  if found.made == 'magnitude':
    yield (
      'there is no phase, so the plain magnitude was used instead of an SWI; '
      'small microbleeds are fainter there'
    )
  if swi.slice_axis(spacing_mm) != 2:
    yield (
      'slices are not axial; the candidate stage and the networks expect '
      'axial slices'
    )
  if classifier is None:
    yield 'no networks were used; every candidate is listed as possible'


def _number(value: Any) -> float | None:
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return float(value) if is_number and np.isfinite(value) else None


def _text(value: Any) -> str | None:
  return value if isinstance(value, str) and value else None


class _Clock:
  """Wall-clock seconds of each stage."""

  def __init__(self):
    self.seconds: dict[str, float] = {}

  @contextlib.contextmanager
  def __call__(self, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    self.seconds[stage] = round(time.perf_counter() - start, 3)
