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
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image

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
      'nothing dark and round was found at all; check that the image is an '
      'SWI, not inverted and not projected'
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
  # Air is black in an SWI; where it is not, the image may be inverted.
  inside = _median(image.array[mask])
  bright = _median(image.array[~mask]) > inside
  corners = mask[:: mask.shape[0] - 1 or 1, :: mask.shape[1] - 1 or 1]
  if bright or corners.mean() > 0.5:
    yield (
      'the brain mask '
      + ('is darker than the rest' if bright else 'fills corners of the image')
      + '; check that the image is not inverted or a crop, and the mask'
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
  yield from scan.notes
  yield from found.notes
  if found.made == 'magnitude':
    yield (
      'there is no phase, so the plain magnitude was used instead of an SWI; '
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
  if classifier.simulated and scan.sidecar.get('Simulated') is not True:
    yield (
      'the networks learned from simulated scans, this scan is none; how good '
      'they are on it is not known'
    )
  right = classifier.precision.get('high_precision', 1.0)
  if right < 0.5:  # more often wrong than right
    yield (
      f'"definite" was right for {right:.0%} only in the training of these '
      'networks, out of fold; they cannot tell microbleeds from mimics'
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
