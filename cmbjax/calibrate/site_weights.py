"""Points chosen for a site to a folder of weights that `detect` takes.

Rule: the networks are copied byte by byte; what is new is in
operating_points.json, which says from whose review it came.
"""

import datetime
import os
import pathlib
from typing import Any, NamedTuple

import cmbjax
from cmbjax import doors, files, sealed
from cmbjax.detect import classifier
from cmbjax.detect.points import FILE, stored
from cmbjax.errors import InputError
from cmbjax.evaluation import intervals, site_points
from cmbjax.evaluation.intervals import Interval
from cmbjax.evaluation.site_points import Chosen
from cmbjax.review.readers.reviewed import Reviewed
from cmbjax.training import checkpoint
from cmbjax.weights import card, catalogue

_HEADS = {
  'sensitivity_lesions': 'Sensitivity, all lesions',
  'precision': 'Precision',
  'fp_per_scan': 'False positives per scan',
}
_POINTS = {'Possible': 'high_sensitivity', 'Definite': 'high_precision'}
_SCORES = {'ece': 'Calibration error', 'brier': 'Brier score'}


class SourceWeights(NamedTuple):
  """The networks that found what was reviewed."""

  folder: pathlib.Path
  name: str
  fingerprint: str  # of `Classifier`: networks and points
  points: dict[str, Any]  # content of operating_points.json


def find(given: str | os.PathLike | None, fingerprint: str) -> SourceWeights:
  """The weights of a fingerprint.

  Args:
    given: folder or name; None: of those that came with cmbjax.
    fingerprint: as the results have it.

  Raises:
    NoInputError: the folder does not exist.
    InputError: other weights, damaged ones, or without operating points.
  """
  if given is None:
    folders = list(catalogue.shipped().values())
  else:
    folders = [catalogue.resolve(given)]
  for folder in folders:
    known = classifier.described(folder)
    if known.fingerprint == fingerprint:
      checkpoint.check_weights(folder)
      return _with_points(folder, known.name, fingerprint)
  raise InputError(
    f'--weights: {given or "those that came with cmbjax"} did not find what '
    f'was reviewed (fingerprint {fingerprint}); give the folder that `cmbjax '
    'detect` had.'
  )


def _with_points(folder, name, fingerprint) -> SourceWeights:
  points = stored(folder)
  if points is None:
    raise InputError(
      f'{folder}: {FILE} is missing, so there is nothing to compare with; '
      'take weights of a study that was run to its end.'
    )
  return SourceWeights(folder, name, fingerprint, points)


def write(
  out: pathlib.Path, weights: SourceWeights, found: Reviewed, chosen: Chosen
) -> pathlib.Path:
  """The folder of the calibrated weights; `out`.

  Args:
    out: not there yet.
    weights: what was calibrated.
    found: on which reviews.
    chosen: what came of it.

  Raises:
    InputError: `out` is there, or cannot be written.
  """
  points = {key: value for key, value in weights.points.items()}
  points |= {
    'points': chosen.points,
    'calibration': chosen.calibration,
    'site': _provenance(weights, found, chosen),
  }
  with files.new_folder(out) as folder:
    for path in sorted(weights.folder.rglob('*')):
      name = path.relative_to(weights.folder)
      # The list and the arrays; their digests go along.
      if name.parts[0] in ('weights', 'weights.json') and not path.is_dir():
        files.copy(path, folder / name)
    sealed.write_json(folder / FILE, points)
    files.write_text(
      folder / 'README.md', _card(weights, points, found, chosen)
    )
  return out


def _provenance(weights, found, chosen) -> dict[str, Any]:
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  return {
    'rater': found.rater,
    **site_points.count(found.predictions, found.scans),
    'scans': len(found.scans.scan),
    'added': int(found.scans.num_missed.sum()),
    'undecided': found.undecided,
    'simulated': found.simulated,
    'floor': found.floor,
    'weights': weights.name,
    'fingerprint': weights.fingerprint,
    'before': weights.points.get('site'),  # of weights calibrated before
    'worth': {
      when: _plain(getattr(chosen, when)) for when in ('before', 'after')
    },
    'cmbjax': cmbjax.__version__,
    'time': now,
  }


def _plain(weighed) -> dict[str, Any]:
  return {
    'thresholds': weighed.thresholds,
    'points': {
      name: {metric: one._asdict() for metric, one in scored.items()}
      for name, scored in weighed.points.items()
    },
    'scores': {name: one._asdict() for name, one in weighed.scores.items()},
  }


def _card(weights, points, found, chosen) -> str:
  """What is new, then the card of the networks."""
  parts = [
    f'# cmbjax weights: {weights.name}, calibrated',
    card.of_site(points['site']),
    '```text\n' + text(found, chosen).rstrip() + '\n```',
  ]
  beside = weights.folder / 'README.md'
  if doors.is_there(beside):
    parts += ['What follows is about the networks as they were.']
    parts += [files.read_text(beside).strip()]
  return '\n\n'.join(parts) + '\n'


def text(found: Reviewed, chosen: Chosen) -> str:
  """Before and after, plain text of at most 100 columns."""
  kind = 'simulated scans' if found.simulated else 'scans'
  known = site_points.count(found.predictions, found.scans)
  lines = [
    f'{len(found.scans.scan)} {kind} of {known["subjects"]} subjects, reviewed '
    f'by {found.rater}: {known["lesions"]} candidates accepted,',
    f'{known["mimics"]} rejected, {int(found.scans.num_missed.sum())} lesions '
    'added',
    'After: each subject with points that the others chose; 95 % intervals '
    'over subjects',
    '',
    f'  {"":<34}{"before":<30}after',
  ]
  before, after = chosen.before, chosen.after
  for head, name in _POINTS.items():
    lines.append(
      _line(
        f'{head} above',
        *(f'{one.thresholds[name]:.3f}' for one in (before, after)),
      )
    )
    for metric, head in _HEADS.items():
      cells = [_cell(one.points[name][metric]) for one in (before, after)]
      lines.append(_line(f'  {head}', *cells))
  lines.append('  Probability')
  for score, head in _SCORES.items():
    cells = [_cell(one.scores[score]) for one in (before, after)]
    lines.append(_line(f'  {head}', *cells))
  kind = chosen.calibration['kind']
  lines.append(_line('  Calibration', '', kind))
  return '\n'.join(line.rstrip() for line in lines) + '\n'


def _line(head: str, *cells: str) -> str:
  return f'  {head:<34}' + ''.join(f'{cell:<30}' for cell in cells)


def _cell(value: Interval) -> str:
  """'0.82 (0.71 to 0.90)', or a dash."""
  if value.value is None:
    return '–'
  if value.low is None:
    return f'{value.value:.2f} {intervals.missing(value)}'
  return f'{value.value:.2f} ({value.low:.2f} to {value.high:.2f})'
