"""What is known about some weights, as the README.md beside them.

Rule: the text is a function of the files; nothing is claimed that was not
measured, and every number says that the scans were simulated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

ABOUT = {
  '7t': 'Trained on 7T brain tumour scans. `configs/finetune.py` starts here.',
  'finetuned': 'The `7t` networks, fine-tuned on 3T brain tumour scans.',
  'combined': 'The `7t` networks, trained on with scans of three protocols.',
  'robust': 'Trained on scans of three protocols, in patches of equal mm.',
}
METRICS = {  # of benchmarks/results/weights.json, in the order of the table
  'sensitivity_lesions': 'Sensitivity, all lesions',
  'sensitivity_candidates': 'Sensitivity, candidates',
  'fp_per_scan': 'FP per scan',
  'fp_removed': 'FP removed',
  'precision': 'Precision',
  'f1': 'F1',
  'auc': 'AUC',
  'ece': 'Calibration error',
}
_GRIDS = {
  'native': " of the scan's own grid",
  'resampled': ' of 0.5 x 0.5 x 2 mm',
}
_LIMITS = """
- Nobody was scanned: every scan in training, and in the tables above, was
  drawn by the simulator of cmbjax. How good the networks are on scans of
  people is not known. Look at every finding; fine-tune on your own labels.
- They see only what the candidate stage proposes, in patches of 16 x 16 x 8
  voxels{grid}. `cmbjax detect` warns where a scan is unlike those in the
  training.
- A straight vessel that runs across all slices of a patch can pass for a
  microbleed; `combined` is known to take one drawn by hand for it.
- Research use only. This is no medical device and must not guide care.
- Licence: Apache-2.0, as the code.
"""


def write(
  name: str,
  record: Mapping[str, Any],
  points: Mapping[str, Any],
  rows: Sequence[Mapping[str, Any]] = (),
) -> str:
  """The model card, Markdown.

  Args:
    name: of the weights.
    record: `weights.json`.
    points: `operating_points.json`.
    rows: of benchmarks/results/weights.json that are about these weights.
  """
  kind = 'simulated' if record['simulated'] else 'real'
  parts = [
    f'# cmbjax weights: {name}',
    ABOUT.get(name, ''),
    f'**Learned from {kind} scans. Research use only.**',
    '## Data',
    _data(record, points),
    '## Training',
    _training(name, record, points),
    '## Operating points',
    f'Chosen {_chosen(kind, points)}. A candidate counts when the mean '
    'likelihood of the networks is above the threshold.',
    _points(points),
    '## Calibration',
    _calibration(points),
    '## On fresh scans',
    _fresh(rows),
    '## Limits',
    _LIMITS.strip().format(grid=_GRIDS[record['patches']]),
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def protocols(domain: Mapping[str, Any]) -> dict[str, str]:
  """What the training scans were like, in words."""
  out = {}
  if domain.get('field_t'):
    out['Field'] = ', '.join(f'{t:g}' for t in domain['field_t']) + ' T'
  if domain.get('spacing_mm'):
    sides = [_span(side) for side in domain['spacing_mm']]
    out['Voxel'] = ' x '.join(sides) + ' mm'
  if domain.get('echo_time_s'):
    out['Echo time'] = _span([1000 * t for t in domain['echo_time_s']]) + ' ms'
  if domain.get('contrast'):
    out['Contrast of dark structures'] = _span(domain['contrast'])
  if domain.get('candidates_per_litre'):
    span = [round(v) for v in domain['candidates_per_litre']]
    out['Candidates per litre of brain'] = _span(span)
  return out


def of_site(site: Mapping[str, Any]) -> str:
  """On whose reviews points were chosen again, as a paragraph.

  Args:
    site: of `operating_points.json`.
  """
  kind = 'simulated scans' if site['simulated'] else 'scans'
  return (
    f'Operating points and calibration of `{site["weights"]}` were chosen '
    f'again by `cmbjax calibrate` on {site["scans"]} {kind} of '
    f'{site["subjects"]} subjects that {site["rater"]} reviewed '
    f'({site["time"][:10]}): {site["lesions"]} candidates accepted, '
    f'{site["mimics"]} rejected, {site["added"]} lesions added. Likelihoods '
    f'down to {site["floor"]:.3g} were reviewed. The networks are the same.'
  )


def _data(record, points) -> str:
  # Bundled weights of before have the counts of training subjects there.
  known = points.get('learned', points['out_of_fold'])
  lines = [
    f'- Cohorts: {", ".join(points.get("cohorts", []))}',
    '- {subjects} subjects, {scans} scans, {lesions} lesions; {candidates} '
    'candidates, of which {microbleeds} microbleeds'.format(**known),
  ]
  lines += [f'- {k}: {v}' for k, v in protocols(points['domain']).items()]
  seeds = {p.partition('@')[2] for p in record['persons']} - {''}
  if seeds:
    lines.append(f'- Seed of the simulator: {", ".join(sorted(seeds))}')
  return '\n'.join(lines)


def _training(name, record, points) -> str:
  rows = record['replicas']
  first, course = rows[0], rows[0]['schedule']
  if course == 'plateau':
    cut = f'{first["plateau_factor"]:g}'
    course = f'{cut} at plateaus of {first["patience"]} epochs'
  optimizer = record['optimizer'].replace('adamw', 'Adam')
  lines = [
    f'- {len(rows)} networks {record["model"]}, one per fold by subject; each '
    'is the epoch with the smallest loss on its held-out fold',
    f'- Patches: {record["patches"]} of {", ".join(record["channels"])}',
    f'- {optimizer}, learning rate {first["learning_rate"]:g} falling to '
    f'{first["min_learning_rate"]:g} by {course}; weight decay '
    f'{first["weight_decay"]:g}; weight of microbleeds '
    f'{first["positive_weight"]:g}',
  ]
  if points.get('mirrored'):
    lines.append(
      '- A likelihood is the mean over the eight mirror images of a patch'
    )
  if record['start']:
    lines.append(
      f'- Each goes on from the `{record["start"]}` network of its fold'
    )
  made, config = record['environment'], 'weights'
  if name == 'robust':
    config = 'robust'
  lines += [
    f'- {record["epochs"]} epochs, batches of {record["batch"]}',
    f'- Made with cmbjax {made["cmbjax"]} ({made["git"]}), '
    f'{made["time"][:10]}, `configs/{config}.py`',
  ]
  return '\n'.join(lines)


def _chosen(kind, points) -> str:
  usual = 'out of fold'
  where = points.get('chosen', usual)
  return f'{usual} on the {kind} training subjects' if where == usual else where


def _points(points) -> str:
  lines = [
    '| point | threshold | sensitivity, all | precision | FP per scan |',
    '|---|---|---|---|---|',
  ]
  for name, one in points['points'].items():
    lines.append(
      f'| {name} | {one["threshold"]:.3f} | {_value(one.get("sensitivity"))} '
      f'| {_value(one.get("precision"))} '
      f'| {_value(one.get("fp_per_scan"), 1)} |'
    )
  return '\n'.join(lines)


def _calibration(points) -> str:
  found = points['calibration']
  what = {
    'none': 'Likelihoods are used as they are',
    'isotonic': 'Isotonic regression',
    'logistic': 'Logistic regression on the logit of the likelihood',
    'temperature': f'Temperature {found.get("temperature", 1):.2f}',
  }[found['kind']]
  scores = ', '.join(f'{k} {v:.4f}' for k, v in found.get('brier', {}).items())
  return f'{what}. Brier score, cross-fitted: {scores or "not measured"}.'


def _fresh(rows) -> str:
  if not rows:
    return 'Not measured.'
  lines = [
    'Whole simulated heads that nothing was chosen on; 95 % intervals, '
    'jackknife over subjects. `candidates`: what the networks say of the '
    'labelled candidates. `detect`: outlined lesions of the command, matched '
    'by touch.',
    '',
    '| simulated scans | of | point | ' + ' | '.join(METRICS.values()) + ' |',
    '|---' * (len(METRICS) + 3) + '|',
  ]
  for row in rows:
    cells = [
      _interval(row['metrics'].get(key), 1 if key == 'fp_per_scan' else 3)
      for key in METRICS
    ]
    seen = '' if row['trained_on'] else ', protocol never trained on'
    lines.append(
      f'| {row["scans"]} {row["protocol"]}{seen} | {row["kind"]} '
      f'| {row["point"]} | ' + ' | '.join(cells) + ' |'
    )
  return '\n'.join(lines)


def _interval(found, digits) -> str:
  if found is None or found['value'] is None:
    return 'n/a'
  text = f'{found["value"]:.{digits}f}'
  if found['low'] is None:
    return text
  return f'{text} ({found["low"]:.{digits}f}, {found["high"]:.{digits}f})'


def _value(value, digits=3) -> str:
  return 'n/a' if value is None else f'{value:.{digits}f}'


def _span(values) -> str:
  low, high = (f'{v:.3g}' for v in values)
  return low if low == high else f'{low} to {high}'
