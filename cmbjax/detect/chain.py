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
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax import files
from cmbjax.candidates import detector, stages
from cmbjax.data import cohort, persons, tables
from cmbjax.data.channels import ONLY_SWI
from cmbjax.detect import counts, domain, outlines, places
from cmbjax.detect import verdicts as verdicts_lib
from cmbjax.detect.classifier import Classifier
from cmbjax.detect.result import REJECTED, ScanResult
from cmbjax.errors import InputError
from cmbjax.imaging import bids, swi, volume

COARSEST_MM = 4.0  # in plane; beyond it there is nothing to grow
FEWEST_SLICES = 3
PACKAGES = ('jax', 'flax', 'numpy', 'scipy', 'nibabel')


@dataclasses.dataclass(frozen=True)
class DetectOptions:
  """What decides the lesions of a scan, besides its files and the weights."""

  operating_point: str = 'high_sensitivity'
  threshold: float | None = None  # instead of the operating point
  candidates: str | None = None  # stage; None: that of the networks
  regions: bool = True  # register to MNI and name places
  atlas: pathlib.Path | None = None  # label image in MNI, instead of ours


class Analysis(NamedTuple):
  """A result, and what only files on disk need."""

  result: ScanResult
  image: volume.Volume  # the scan's own grid
  candidates: detector.Candidates


def analyse(
  scan: bids.ScanFiles,
  classifier: Classifier | None,
  options: DetectOptions = DetectOptions(),
  *,
  fallback: Classifier | None = None,
  threads: int | None = None,
) -> Analysis:
  """Finds, judges, outlines, measures and places the lesions of one scan.

  Args:
    scan: its files.
    classifier: None: every candidate that passes the gates is 'possible'.
    options: see `DetectOptions`.
    fallback: sees the SWI only; instead of `classifier` where the scan lacks
      a channel that it needs. None: such a scan is an error.
    threads: for the candidate stage; the result does not depend on it.

  Raises:
    InputError: a file that cannot be used, or a channel that is not there.
  """
  clock = _Clock()
  with clock('read'):
    found = cohort.load_image(
      scan, classifier.channels if classifier else ONLY_SWI
    )
    classifier, instead = _networks(found, classifier, fallback)
    image = found.volume
    mask = np.ascontiguousarray(found.mask)
    array = np.ascontiguousarray(image.array, np.float32)
    with cohort.named(image.path):
      unit = swi.scale_to_unit(array, mask)
  spacing_mm = image.spacing_mm
  _check_spacing(found, spacing_mm)
  gates = detector.Gates(generator=stage_of(options, classifier))
  with clock('candidates'):
    proposed = stages.propose(unit, spacing_mm, mask, gates=gates, jobs=threads)
  with clock('classification'):
    point = verdicts_lib.operating_point(
      classifier, options.operating_point, options.threshold
    )
    verdicts = verdicts_lib.judge(
      unit,
      spacing_mm,
      proposed,
      classifier,
      point,
      beside=_beside(found, classifier),
    )
  with clock('segmentation'):
    outlined = outlines.outline(
      unit, image, mask, proposed, verdicts, gates, threads
    )
  with clock('regions'):
    lesions, unsure = outlined.lesions, ()
    if options.regions:
      lesions, unsure = places.locate(
        lesions, outlined.labels, unit, mask, image, atlas=options.atlas
      )
  seen = classifier.channels if classifier else ONLY_SWI
  protocol = protocol_of(scan, image, found.made)
  simulated = scan.sidecar.get('Simulated') is True
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
    source=', '.join(path.name for path in files_of(scan, seen)),
    simulated=simulated,
    protocol=protocol,
    lesions=lesions,
    candidates=table,
    counts=counts.count(lesions, classified=classifier is not None)
    | {'candidates': int(proposed.kept.sum()), 'proposed': len(proposed)},
    warnings=(
      *_empty(found_any, proposed, top),
      *unusual,
      *_doubts(image, mask),
      *instead,
      *_notes(found, spacing_mm, classifier, simulated),
      *other_candidates(gates.generator, classifier),
      *_known(scan, classifier),
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


def stage_of(options: DetectOptions, classifier: Classifier | None) -> str:
  """How candidates are found: as asked for, else as for the networks."""
  learned = classifier.candidates if classifier else stages.DEFAULT
  return options.candidates or learned


def other_candidates(
  stage: str, classifier: Classifier | None
) -> tuple[str, ...]:
  """What to say where networks judge candidates they did not learn from."""
  if classifier is None:
    return ()
  if stage != classifier.candidates:
    return (
      f'candidates were found by {stage}, but the {classifier.name} networks '
      'and their thresholds learned from candidates of '
      f'{classifier.candidates}; likelihoods may be off',
    )
  if classifier.candidates_code not in (None, stages.code(stage)):
    return (
      f'{stage} is not the code whose candidates the {classifier.name} '
      'networks and their thresholds learned from; likelihoods may be off',
    )
  return ()


def files_of(
  scan: bids.ScanFiles, channels: Sequence[str] = ONLY_SWI
) -> tuple[pathlib.Path, ...]:
  """The files that decide a scan's voxels, and those of further channels."""
  flat = [scan.swi, *cohort.signal_files(scan, channels), scan.mask]
  return tuple(path for path in flat if path is not None)


def _networks(
  found: cohort.Image,
  classifier: Classifier | None,
  fallback: Classifier | None,
) -> tuple[Classifier | None, tuple[str, ...]]:
  """The networks that this scan has all channels for, and a note of it."""
  if not found.lacking:
    return classifier, ()
  why = '; '.join(dict.fromkeys(found.lacking.values()))
  if fallback is None:
    raise InputError(
      f'{found.volume.path}: {why}, and the networks of --weights '
      f'({classifier.name}) see {" and ".join(classifier.channels)}; add it on '
      'the same grid, or leave --weights out.'
    )
  note = f'{why}, so {fallback.name} networks that see the SWI only were used'
  return fallback, (note,)


def _beside(
  found: cohort.Image, classifier: Classifier | None
) -> list[np.ndarray]:
  """What the networks see besides the SWI."""
  names = classifier.channels[1:] if classifier else ()
  return [found.beside[name] for name in names]


def columns(
  proposed: detector.Candidates,
  verdicts: verdicts_lib.Verdicts,
  owner: list[str],
  image: volume.Volume,
) -> dict[str, np.ndarray]:
  """The table of all candidates, those that a gate dropped too.

  Args:
    proposed: all candidates of the scan.
    verdicts: what was decided on them.
    owner: id of the lesion of each candidate, '' for none.
    image: the SWI, for places.

  Returns:
    Name to [N] array: candidate, x_mm y_mm z_mm (RAS world), i j k (voxel of
    the file), score, kept, reason, category, status, likelihood, spread,
    probability, lesion (id), then every feature of the candidate stage.
  """
  world = image.to_world(proposed.centre).reshape(-1, 3)
  native = image.to_native_index(proposed.centre).reshape(-1, 3)
  table = {'candidate': np.arange(1, len(proposed) + 1)}
  table |= {f'{a}_mm': world[:, n] + 0.0 for n, a in enumerate('xyz')}
  table |= {a: native[:, n] for n, a in enumerate('ijk')}
  return table | {
    'score': proposed.score,
    'kept': proposed.kept,
    'reason': np.array(verdicts.reason, str),
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
  """Field strength, echo time and the like, None where nobody says.

  Args:
    scan: its files, with the sidecar.
    image: the SWI.
    made: how the SWI came about.
  """
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


def _doubts(image, mask):
  """What hints at an image that is not what it seems to be."""
  if not image.placed:
    yield (
      'the header does not say how the voxels lie in the head (qform and sform '
      'are 0); left, right, places and mm are guesses'
    )
  slices = image.array.shape[swi.slice_axis(image.spacing_mm)]
  if slices < FEWEST_SLICES:
    yield (
      f'there {"is" if slices == 1 else "are"} only {slices} '
      f'slice{"" if slices == 1 else "s"}, in which veins look like '
      'microbleeds; check that it is no projection'
    )
  outside = image.array[~mask]
  bright = outside.size and np.median(outside) > np.median(image.array[mask])
  corners = mask[:: mask.shape[0] - 1 or 1, :: mask.shape[1] - 1 or 1]
  if bright or corners.mean() > 0.5:
    yield (
      'the brain mask '
      + ('is darker than the rest' if bright else 'fills corners of the image')
      + '; check that the image is not inverted or a crop, and the mask'
    )


def _check_spacing(found, spacing_mm):
  if sorted(spacing_mm)[1] > COARSEST_MM:
    size = ' x '.join(f'{side:g}' for side in spacing_mm)
    raise InputError(
      f'{found.volume.path or "image"}: voxels of {size} mm are too coarse '
      'for microbleeds of 2 to 10 mm; check its header.'
    )


def _notes(found, spacing_mm, classifier, simulated):
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
    return
  if classifier.simulated and not simulated:
    yield (
      'the networks learned from simulated scans, this scan is none; how good '
      'they are on it is not known'
    )
  right = classifier.precision.get('high_precision', 1.0)
  if right < 0.5:
    yield (
      f'"definite" was right for {right:.0%} only in the training of these '
      'networks, out of fold; they cannot tell microbleeds from mimics'
    )


def _known(scan, classifier):
  """A simulated scan that the networks learned from is no test of them."""
  person = persons.person_of(scan.subject, scan.sidecar)
  if classifier is not None and person in classifier.persons:
    yield (
      f'the networks learned from this simulated person ({person}); they are '
      'better here than on others'
    )


def _number(value: Any) -> float | None:
  return float(value) if files.is_number(value) else None


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
