"""A study's settings to sentences: lead, reading aid, methods paragraph.

Rule: a sentence states only what the record or the rows hold.
"""

from cmbjax.evaluation import claims, metrics
from cmbjax.report import tables, texts
from cmbjax.report.tables import StudyTables


def lead(study: StudyTables) -> list[str]:
  """The sentences that a hurried reader takes away, one per test set."""
  if not study.rows:
    return ['This study has no test rows.']
  parts = []
  by_test: dict[str, list] = {}
  for row in tables.ordered(study.rows):
    by_test.setdefault(row.test, []).append(row)
  for rows in by_test.values():
    known = [r for r in rows if r.metrics['auc'].value is not None]
    if not known:
      note = rows[0].metrics['auc'].note
      parts.append(f'{rows[0].test_label}: no AUC, {note}.')
      continue
    best = max(known, key=lambda r: r.metrics['auc'].value)
    parts.append(_best(best, len(rows)))
  if study.orderings:
    parts.append(_verdicts(study))
  return parts


def _best(row: tables.ResultRow, count: int) -> str:
  found = row.metrics
  auc = texts.number(found['auc'].value, 'number')
  inside = 'no interval'
  if found['auc'].low is not None:
    inside = texts.bounds(found['auc'], 'number')
  kept = texts.number(found['sensitivity_lesions'].value, 'percent')
  rate = texts.number(found['fp_per_scan'].value, 'count')
  place = f', the highest of {count},' if count > 1 else ''
  return (
    f'{row.test_label}: {row.strategy_label}{place} has AUC {auc} ({inside}) '
    f'and keeps {kept} of all lesions at {rate} false positives per scan.'
  )


def _verdicts(study: StudyTables) -> str:
  count = {}
  for one in study.orderings:
    count[one.verdict] = count.get(one.verdict, 0) + 1
  text = ', '.join(f'{n} {verdict}' for verdict, n in count.items())
  where = ' on simulated data' if study.simulated else ''
  what = f'{len(study.orderings)} orderings of the paper'
  if not study.paper:
    what = counted(len(study.orderings), 'claim')
  return f'Of {what}, {text}{where}.'


def reading(study: StudyTables) -> str:
  """How to read the table of results."""
  record = study.record
  level = record.get('level', 0.95)
  threshold = record.get('threshold', metrics.THRESHOLD)
  numbers = ''
  if study.paper and tables.numbered(study.rows):
    numbers = f' Row numbers are those of {study.paper}.'
  return (
    f'A candidate is kept when its likelihood is above {threshold:g}. '
    f'Beneath each number its {100 * level:g} % interval, drawn from 0 to 1 '
    '(AUC: from 0.5; false positives per scan: from 0 to the largest).'
    f'{numbers}'
  )


def family(study: StudyTables) -> str:
  """How a claim is decided."""
  level = study.record.get('level', 0.95)
  # A claim without a p was not tested, and is not in Holm's family.
  count = sum(one.p is not None for one in study.orderings)
  tests = f'The claims are one family of {counted(count, "test")}: one'
  if not count:
    tests = 'No claim could be tested here. One'
  return (
    f'Difference of AUC, first row minus second. {tests} is decided only when '
    f'its {100 * level:g} % interval lies on one side of 0 and its permutation '
    f'of whole subjects has p of at most {1 - level:.2g} after Holm, whatever '
    f'p is alone. {_by_interval(study)}Intervals and p hold the spread of '
    'subjects, not that of training: the range of single seeds stands beside '
    'them.'
  )


def _by_interval(study: StudyTables) -> str:
  """Of the kinds of claims that need no test, those that are there."""
  rules = []
  if margins := _margins(study):
    rules.append(
      '"Not better" is decided when the interval excludes a gain above '
      f'{margins}'
    )
  if any(one.metric == 'fp_removed' for one in study.orderings):
    when = 'when it' if rules else 'is decided when the interval'
    rules.append(f'"removes many" {when} excludes {100 * claims.MANY:g} %')
  if not rules:
    return ''
  which = 'these two are read off their'
  if len(rules) == 1:
    which = 'this is read off its'
  text = f'{", ".join(rules)}; {which} interval alone. '
  return text[:1].upper() + text[1:]


def _margins(study: StudyTables) -> str:
  """'0.02', or all that claims of "not better" use; '' without any."""
  found = {
    f'{one.margin:g}' for one in study.orderings if one.kind == claims.NOT_ABOVE
  }
  return ' or '.join(sorted(found))


def paragraph(study: StudyTables) -> str:
  """Methods, ready to paste into a manuscript."""
  record = study.record
  parts = [_data(study), _strategies(study), _training(record)]
  parts.append(_statistics(study))
  environment = record.get('environment', {})
  packages = environment.get('packages', {})
  names = ', '.join(
    f'{name} {version}'
    for name, version in packages.items()
    if name in ('jax', 'flax', 'optax', 'numpy', 'scipy')
  )
  version = environment.get('cmbjax')
  software = f'cmbjax {version}' if version else 'cmbjax'
  if names:
    software += f' ({names})'
  parts.append(f'All computations used {software}.')
  return ' '.join(part for part in parts if part)


def _data(study: StudyTables) -> str:
  if not study.cohorts:
    return ''
  items = [
    f'{c.label} ({counted(c.num_subjects, "subject")}, '
    f'{counted(c.num_scans, "scan")}, {counted(c.num_lesions, "microbleed")}, '
    f'{c.num_cmb} microbleed and {c.num_fp} mimic candidates)'
    for c in study.cohorts
  ]
  kind = 'simulated ' if study.simulated else ''
  word = 'cohort' if len(items) == 1 else 'cohorts'
  return (
    f'We used the {kind}susceptibility-weighted {word} {_join(items)}. '
    f'Candidates were proposed by {_stage(study.record)}, and labelled by the '
    'reference lesions.'
  )


_STAGES = {
  'frst': '2-D fast radial symmetry with 3-D region growing and geometric '
  'gates',
  'learned': 'multi-scale differences of Gaussians, 3-D region growing and '
  'small neural networks on the shapes and surroundings of the regions',
}


def _stage(record: dict) -> str:
  """The candidate stage in words; an own one by its name."""
  name = record.get('candidates', 'frst')
  return _STAGES.get(name, f'a method of our own ({name})')


def _strategies(study: StudyTables) -> str:
  """What each strategy learns on, starts from and keeps."""
  said = [f'{one.label} {one.text}' for one in study.strategies if one.text]
  return f'Strategies: {"; ".join(said)}.' if said else ''


def counted(count: int, name: str) -> str:
  """'1 scan', '2 scans'."""
  return f'{count} {name}' if count == 1 else f'{count} {name}s'


def _training(record: dict) -> str:
  text = ''
  if record.get('model'):
    kind = 'A residual network'
    if not record['model'].startswith('resnet'):
      kind = 'A network'
    text = f'{kind} ({record["model"]}) rated each candidate'
    folds = record.get('folds')
    if isinstance(folds, int):
      text += (
        f'; likelihoods are the mean of {folds} models of a {folds}-fold '
        'cross-validation split by subject'
      )
    seeds = record.get('seeds')
    if isinstance(seeds, list | tuple) and len(seeds) > 1:
      text += f', averaged over {len(seeds)} training seeds'
    text += '.'
  if record.get('pretrained'):
    text += f' {record["pretrained"]}'
  if record.get('selection'):
    text += f' {record["selection"]}'
  return text


def _statistics(study: StudyTables) -> str:
  record = study.record
  threshold = record.get('threshold', metrics.THRESHOLD)
  return (
    f'A likelihood strictly above {threshold:g} was called a microbleed. '
    'Sensitivity counts each lesion once and is given over the lesions that '
    'became candidates and over all lesions, including those never '
    f'proposed. {_intervals(record)} Sensitivity at fixed false positives per '
    'scan has percentile intervals of bootstrap draws of whole subjects. '
    'Strategies were compared on the same candidates by intervals of paired '
    'differences over subjects and by permutation of strategy labels within '
    'subjects (of subjects between test sets where these differ). '
    f'{_own(study)}{_family(study)}DeLong, McNemar and Nadeau-Bengio tests are '
    'given for reference with their assumptions. Counts per scan were '
    'compared with the truth by ICC(2,1) and ICC(3,1) (Shrout and Fleiss '
    '1979), limits of agreement (Bland and Altman 1986) and quadratically '
    'weighted kappa (Cohen 1968) of burden grades.'
  )


def _own(study: StudyTables) -> str:
  """What the paragraph says of the user's metrics, '' without any."""
  if not study.metrics:
    return ''
  names = _join(
    [tables.own_head(name, study.metrics) for name in study.metrics]
  )
  return (
    f'Our own measures ({names}) and their paired differences have jackknife '
    'intervals over subjects on their own scale. '
  )


def _family(study: StudyTables) -> str:
  """What the paragraph says of the claims, '' without any."""
  count = sum(one.p is not None for one in study.orderings)
  if not count:
    return ''
  level = study.record.get('level', 0.95)
  margins = _margins(study)
  if margins:
    margins = (
      "; a claim of 'not better' when the interval excluded a gain above "
      f'{margins}'
    )
  return (
    f'The {counted(count, "claim")} about AUC formed one confirmatory family: '
    f'one counted as decided only with p <= {1 - level:.2g} after Holm '
    f'correction and an interval that excluded 0{margins}. For the '
    'undecided, the numbers of subjects for 80 % power are those of a t test '
    'at the level that Holm asks of the next claim. '
  )


def _intervals(record: dict) -> str:
  level = 100 * record.get('level', 0.95)
  if record.get('method', 'jackknife') == 'bootstrap':
    return (
      f'Intervals ({level:g} %) are percentiles of '
      f'{record.get("draws", 2000)} bootstrap draws of whole subjects, '
      'widened for few subjects (Hesterberg 2015).'
    )
  return (
    f'Intervals ({level:g} %) leave out whole subjects (jackknife): for '
    'shares Clopper-Pearson with the effective number of units (Korn and '
    'Graubard 1998), for AUC on the logit and rates on the log scale with '
    "Student's t and Satterthwaite's degrees of freedom."
  )


def _join(items: list[str]) -> str:
  if len(items) < 2:
    return ''.join(items)
  return ', '.join(items[:-1]) + ' and ' + items[-1]
