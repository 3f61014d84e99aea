"""One scan's files to its lesions: the whole chain, top to bottom.

Rule: every step is the one that training used; nothing here computes what
another room already computes.
"""

import contextlib
import dataclasses
import importlib.metadata
import pathlib
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax.candidates import detector, stages
from cmbjax.data import evidence as evidence_lib
from cmbjax.data import tables
from cmbjax.detect import (
  candidate_table,
  counts,
  domain,
  established,
  evidence_words,
  outlines,
  places,
  remarks,
)
from cmbjax.detect import verdicts as verdicts_lib
from cmbjax.detect.classifier import Classifier
from cmbjax.detect.clock import Clock
from cmbjax.detect.result import REJECTED, Lesion, ScanResult
from cmbjax.errors import InputError
from cmbjax.imaging import contrast, slices, swi, volume
from cmbjax.intake import facts as json_facts
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image
from cmbjax.reconstruct.channels import ONLY_SWI

COARSEST_MM = 4.0  # in plane; beyond it there is nothing to grow
# Whose versions a result repeats: what numbers may depend on.
PACKAGES = ('jax', 'flax', 'numpy', 'scipy', 'nibabel')


@dataclasses.dataclass(frozen=True)
class DetectOptions:
  """What decides the lesions of a scan, besides its files and the weights."""

  operating_point: str = 'high_sensitivity'
  threshold: float | None = None  # instead of the operating point
  candidates: str | None = None  # stage; None: that of the networks
  regions: bool = True  # register to MNI and name places
  atlas: pathlib.Path | None = None  # label image in MNI, instead of ours
  phase: bool = False  # read it beside an SWI too, to tell blood from calcium


class Analysis(NamedTuple):
  """A result, and what only files on disk need."""

  result: ScanResult
  image: volume.Volume  # the scan's own grid, without voxels
  candidates: detector.Candidates


def analyse(
  scan: ScanFiles,
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
  clock = Clock()
  with clock('read'):
    seen = _read(scan, classifier, fallback, options)
  image = seen.found.volume
  gates = detector.Gates(generator=stage_of(options, seen.classifier))
  with clock('candidates'):
    proposed = stages.propose(
      seen.unit, image.spacing_mm, seen.mask, gates=gates, jobs=threads
    )
  with clock('classification'):
    point, verdicts = _judge(seen, proposed, options)
  with clock('segmentation'):
    outlined = outlines.outline(
      proposed,
      verdicts,
      unit=seen.unit,
      image=image,
      mask=seen.mask,
      gates=gates,
      threads=threads,
    )
  with clock('regions'):
    located = _located(seen, outlined, options)
    lesions = _with_evidence(seen, located, proposed, point)
  result = _result(
    scan,
    seen,
    stage=gates.generator,
    proposed=proposed,
    table=candidate_table.columns(proposed, verdicts, outlined.owner, image),
    lesions=lesions,
    unsure=located.unsure,
    operating_point=point,
    labels=outlined.labels,
    seconds=clock.seconds,
  )
  return _in_ras(Analysis(result, image, proposed))


def _in_ras(analysis: Analysis) -> Analysis:
  """What was found on slices of any orientation, as it is written and shown."""
  result, seen, proposed = analysis
  image = slices.in_ras(seen)
  if image is seen:
    return analysis

  def voxels(index):
    return slices.voxels_like(index, seen, image)

  arrays = {
    name: volume.in_order(getattr(result, name), seen, image)
    for name in ('swi', 'mask', 'labels')
  }
  lesions = tuple(
    dataclasses.replace(
      lesion,
      centre_index=tuple(map(int, voxels(lesion.centre_index))),
      extent_mm=slices.sides_like(lesion.extent_mm, seen, image),
    )
    for lesion in result.lesions
  )
  result = dataclasses.replace(
    result,
    **arrays,
    lesions=lesions,
    spacing_mm=image.spacing_mm,
    affine=image.affine,
  )
  proposed = dataclasses.replace(
    proposed,
    centre=voxels(proposed.centre),
    regions=[voxels(region) for region in proposed.regions],
  )
  return Analysis(result, image, proposed)


class _Seen(NamedTuple):
  """A scan as it is analysed, slice axis last, and networks that can see it."""

  found: scan_image.ScanImage
  evidence: evidence_lib.Evidence  # of the SWI in 0..1 and its brain
  hints: tuple[str, ...]  # what is odd about the image
  classifier: Classifier | None
  instead: tuple[str, ...]  # said where it is the fallback, or lacks a phase
  unlike_swi: str  # what it looks like instead of an SWI; '' for one

  @property
  def unit(self) -> np.ndarray:  # [X, Y, Z] SWI in 0..1
    return self.evidence.swi

  @property
  def mask(self) -> np.ndarray:  # bool [X, Y, Z], the brain
    return self.evidence.mask

  @property
  def channels(self) -> tuple[str, ...]:
    return self.classifier.channels if self.classifier else ONLY_SWI


def _read(scan, classifier, fallback, options) -> _Seen:
  channels = classifier.channels if classifier else ONLY_SWI
  found = scan_image.load_image(scan, read_of(scan, channels, options))
  no_phase = found.lacking.get('phase') if options.phase else None
  lacking = {n: w for n, w in found.lacking.items() if n in channels}
  found = found._replace(lacking=lacking)
  classifier, instead = _networks(found, classifier, fallback)
  if no_phase and not lacking:
    instead = (*instead, f'blood or calcium is not known: {no_phase}')
  image = found.volume
  mask = np.ascontiguousarray(found.mask)
  hints = tuple(remarks.of_image(image, mask))
  unit = np.empty(mask.shape, np.float32)
  with scan_image.named(image.path):
    swi.scale_to_unit(image.array, mask, out=unit)
  # A large scan is in memory once.
  found = found._replace(volume=volume.without_voxels(image), mask=mask)
  if sorted(image.spacing_mm)[1] > COARSEST_MM:
    size = ' x '.join(f'{side:g}' for side in image.spacing_mm)
    raise InputError(
      f'{image.path or "image"}: voxels of {size} mm are too coarse for '
      'microbleeds of 2 to 10 mm; check its header.'
    )
  seen = evidence_lib.Evidence(
    unit, mask, image.spacing_mm, image.affine, found.beside
  )
  unlike = contrast.unlike_swi(unit, image.spacing_mm, mask)
  return _Seen(found, seen, hints, classifier, instead, unlike)


def _judge(seen, proposed, options):
  """The operating point, and the verdicts at it."""
  point = verdicts_lib.operating_point(
    seen.classifier, options.operating_point, options.threshold
  )
  image = seen.found.volume
  verdicts = verdicts_lib.judge(
    seen.evidence, proposed, seen.classifier, point,
    b0=image.affine[2, :3] / image.spacing_mm,
  )  # fmt: skip
  return point, verdicts


def _located(seen, outlined, options):
  """Lesions with their regions, and what is not sure."""
  if not options.regions:
    return places.Located(outlined.lesions, ())
  return places.locate(
    outlined.lesions,
    labels=outlined.labels,
    scan=seen.evidence,
    image=seen.found.volume,
    atlas=options.atlas,
  )


def _with_evidence(seen, located, proposed, point):
  """Lesions with what is for and against each."""
  found, known = seen.found, located.world_to_mni is not None
  phase = found.beside.get('phase') if found.sign_certain else None
  scan = evidence_words.ScanArrays(
    seen.unit,
    seen.mask,
    found.volume,
    phase,
    located.world_to_mni,
    seen.evidence.plane if known and seen.evidence.plane.known else None,
  )
  return evidence_words.add(
    located.lesions, scan, proposed=proposed, point=point
  )


def _result(
  scan: ScanFiles,
  seen: _Seen,
  *,
  stage: str,
  proposed: detector.Candidates,
  table: dict[str, np.ndarray],
  lesions: tuple[Lesion, ...],
  unsure: tuple[str, ...],
  **known: Any,
) -> ScanResult:
  """Counts and remarks; `known` goes into the result as it is."""
  image, classifier = seen.found.volume, seen.classifier
  protocol = protocol_of(scan, image, seen.found.made)
  facts = protocol | tables.image_facts(seen.unit, image.spacing_mm, seen.mask)
  litres = max(facts['mask_ml'], 1e-3) / 1000  # an empty mask has no volume
  facts['candidates_per_litre'] = float(proposed.kept.sum()) / litres
  unusual = domain.warnings(facts, classifier.domain if classifier else {})
  missing = established.missing(facts, classifier, seen.unlike_swi)
  found_any = any(lesion.status != REJECTED for lesion in lesions)
  # What was rejected is shown only for scans without lesions or unusual ones.
  top = () if found_any and not unusual else domain.top_rejected(table)
  tally = counts.count(
    lesions, classified=classifier is not None, missing=missing
  )
  return ScanResult(
    name=scan.name,
    subject=scan.subject,
    session=scan.session,
    source=', '.join(path.name for path in files_of(scan, seen.channels)),
    simulated=scan.sidecar.get('Simulated') is True,
    protocol=protocol,
    lesions=lesions,
    candidates=table,
    counts=tally
    | {'candidates': int(proposed.kept.sum()), 'proposed': len(proposed)},
    warnings=(
      *(() if found_any else remarks.of_nothing(proposed, top)),
      *established.said(missing),
      *([seen.unlike_swi] if seen.unlike_swi else ()),
      *unusual,
      *seen.hints,
      *seen.instead,
      *remarks.of_scan(seen.found, scan, classifier, stage),
      *unsure,
    ),
    software=software(),
    swi=seen.unit,
    mask=seen.mask,
    spacing_mm=image.spacing_mm,
    affine=image.affine,
    top_rejected=top,
    left_out=scan.unused(),
    **known,
  )


def stage_of(options: DetectOptions, classifier: Classifier | None) -> str:
  """How candidates are found: as asked for, else as for the networks."""
  learned = classifier.candidates if classifier else stages.DEFAULT
  return options.candidates or learned


def read_of(
  scan: ScanFiles, channels: Sequence[str], options: DetectOptions
) -> tuple[str, ...]:
  """What is read of a scan: the channels, and a phase that costs little.

  That is so where the SWI is made from it; beside an SWI, where it was asked
  for.

  Args:
    scan: its files.
    channels: that the networks see.
    options: of the run.
  """
  wanted = options.phase or (scan.swi is None and bool(scan.phase))
  more = ('phase',) if wanted and 'phase' not in channels else ()
  return (*channels, *more)


def files_of(
  scan: ScanFiles, channels: Sequence[str] = ONLY_SWI
) -> tuple[pathlib.Path, ...]:
  """The files that decide a scan's voxels, and those of further channels."""
  flat = [scan.swi, *scan_image.signal_files(scan, channels), scan.mask]
  return tuple(path for path in flat if path is not None)


def _networks(
  found: scan_image.ScanImage,
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


def protocol_of(
  scan: ScanFiles, image: volume.Volume, made: str
) -> dict[str, Any]:
  """Field strength, echo time and the like, None where unknown.

  Args:
    scan: its files, with the sidecar.
    image: the SWI.
    made: how the SWI came about.
  """
  fields = scan.sidecar
  return {
    'field_t': json_facts.known(fields, json_facts.FIELD),
    'echo_time_s': scan_image.echo_time_s(scan),
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


def _text(value: Any) -> str | None:
  return value if isinstance(value, str) and value else None
