"""What the reader of a result has to know, as sentences.

Rule: an empty result is explained, always. `domain` compares a scan with the
training; here is all the rest.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from cmbjax.candidates import detector, stages
from cmbjax.data import persons
from cmbjax.detect.classifier import Classifier
from cmbjax.imaging import slices, volume
from cmbjax.intake import facts
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image

_FULL = 0.5  # of the largest slice: the brain does not end beside it
# Of 30 simulated scans in order none had less than 1, interleaved ones 0.8.
_OUT_OF_ORDER = 0.9
FEWEST_SLICES = 3  # of fewer, veins that cross them look like microbleeds


def other_candidates(stage: str, classifier: Classifier) -> tuple[str, ...]:
  """What to say where networks judge candidates they did not learn from."""
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


def of_nothing(proposed: detector.Candidates, top: Sequence) -> Iterator[str]:
  """Why a result is empty.

  Args:
    proposed: all candidates.
    top: those of them that are listed.
  """
  if not len(proposed):
    yield (
      'nothing dark and round was found at all, as in no SWI of a head; check '
      'the image and its brain mask'
    )
    return
  yield (
    f'no microbleed was found: {len(proposed)} dark spots were looked at, '
    f'{int(proposed.kept.sum())} passed the gates; the {len(top)} nearest to '
    'being found are listed with their reasons'
  )


def of_image(image: volume.Volume, mask: np.ndarray) -> Iterator[str]:
  """What hints at an image that is not what it seems to be.

  Args:
    image: in the order of `slices.last`.
    mask: bool [X, Y, Z], the brain.
  """
  if not image.placed:
    yield (
      'the header does not say how the voxels lie in the head (qform and sform '
      'are 0); left, right, places and mm are guesses'
    )
  count = image.array.shape[2]
  if count < FEWEST_SLICES:
    yield (
      f'there {"is" if count == 1 else "are"} only {count} '
      f'slice{"" if count == 1 else "s"}, in which veins look like '
      'microbleeds; check that it is not a projection'
    )
  yield from _of_blank_slices(image.array, mask)
  lag, part = slices.order_of(image.array)
  if part < _OUT_OF_ORDER:
    yield (
      f'slices are not in order: those that are {lag} apart in the file are '
      'more alike than neighbours, as where an interleaved scan was not put '
      'in order; what is found means nothing, so convert it again'
    )
  inside = _median(image.array[mask])
  # What `appearance` cannot know: it has no mask, and painted air no noise.
  if _median(image.array[~mask]) > inside:
    yield (
      'the brain mask is darker than the rest; check the mask, and that the '
      'image is not inverted'
    )
    return
  corners = mask[:: mask.shape[0] - 1 or 1, :: mask.shape[1] - 1 or 1]
  if corners.mean() > 0.5:
    yield (
      'the brain mask fills corners of the image; check the mask, and that the '
      'image is not a crop'
    )


def _of_blank_slices(array, mask) -> Iterator[str]:
  """Slices of one value inside of the head, as of a copy that was broken off;
  above and below a brain without skull they are as they should be."""
  blank = array.max((0, 1)) == array.min((0, 1))
  area = mask.sum((0, 1))
  if not blank.any() or not area.any():
    return
  full = ~blank & (area > _FULL * area[~blank].max(initial=0))
  beside = np.zeros_like(blank)
  for way in (slice(None), slice(None, None, -1)):
    is_full = False
    for place in range(len(blank))[way]:
      is_full = is_full if blank[place] else bool(full[place])
      beside[place] |= blank[place] and is_full
  if beside.any():
    yield (
      f'{int(beside.sum())} of {len(blank)} slices hold one value only, beside '
      'slices full of brain; nothing can be found there, so check that the '
      'file is whole'
    )


def of_scan(
  found: scan_image.ScanImage,
  scan: ScanFiles,
  classifier: Classifier | None,
  stage: str,
) -> Iterator[str]:
  """How the SWI came about, and what the networks can know of such scans.

  Args:
    found: the SWI.
    scan: its files.
    classifier: the networks; None: there are none.
    stage: that found the candidates.
  """
  unknown = facts.remarks([scan.sidecar, *scan.facts.values()])
  yield from dict.fromkeys((*scan.notes, *found.notes, *unknown))
  if found.made == 'magnitude':
    yield (
      'no phase was used, so the plain magnitude was taken instead of an SWI; '
      'small microbleeds are fainter there'
    )
  if not slices.name_of(found.volume).startswith('axial'):
    yield (
      f'slices are {slices.name_of(found.volume)}, and were analysed as they '
      'are; the networks learned from axial ones, so likelihoods may be off'
    )
  if classifier is None:  # what follows is about networks
    yield 'no networks were used; every candidate is listed as possible'
    return
  site = classifier.site
  if classifier.simulated and scan.sidecar.get('Simulated') is not True:
    known = 'how good they are on it is not known'
    if site and not site['simulated']:
      known = (
        f'their points were chosen on {site["scans"]} scans that '
        f'{site["rater"]} reviewed'
      )
    yield (
      'the networks learned from simulated scans, this scan is none; ' + known
    )
  right = classifier.precision.get('high_precision', 1.0)
  if right < 0.5:  # more often wrong than right
    when = (
      'on the reviewed scans' if site else 'in the training of these networks'
    )
    yield (
      f'"definite" was right for {right:.0%} only {when}, out of fold; they '
      'cannot tell microbleeds from mimics'
    )
  yield from other_candidates(stage, classifier)
  person = persons.person_of(scan.subject, scan.sidecar)
  if person in classifier.persons:  # only simulated ones are in there
    yield (
      f'the networks learned from this simulated person ({person}); they are '
      'better here than on others'
    )


def _median(values: np.ndarray) -> float:
  """In place, as a large scan is copied often enough; NaN of none."""
  return np.median(values, overwrite_input=True) if values.size else np.nan
