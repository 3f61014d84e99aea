"""Reviewed scans to points of a site: by hand, and by the real command."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import special

from cmbjax import cli, files, sealed
from cmbjax.calibrate import site_weights
from cmbjax.detect import classifier
from cmbjax.errors import InputError, NoInputError
from cmbjax.evaluation import calibration, operating_points, site_points
from cmbjax.evaluation.predictions import Predictions, ScanCounts
from cmbjax.review.cases.case import Case, sha256
from cmbjax.review.log import composed, folders
from cmbjax.review.log.items import Candidate
from cmbjax.review.readers import reviewed
from tests import lesion_data, readings
from tests.messages import printed, says

SHIPPED = {
  'points': {
    'high_sensitivity': {'threshold': 0.1, 'rule': 'a test'},
    'balanced': {'threshold': 0.2, 'rule': 'a test'},
    'high_precision': {'threshold': 0.3, 'rule': 'a test'},
  },
  'calibration': {'kind': 'none'},
}
PLACES = [(x, y, z) for z in (2, 8) for y in (4, 12) for x in (3, 9, 15, 20)]


def scans_of(subjects, lesions=3, mimics=5, *, seed=0, missed=0):
  """Lesions of .6 and more, mimics that the weights call definite too."""
  rng = np.random.default_rng(seed)
  rows = []
  for n in range(subjects):
    name = f'sub-{n:02d}'
    for k in range(lesions):
      rows.append((name, 1, k + 1, rng.uniform(0.6, 1)))
    for _ in range(mimics):
      rows.append((name, 0, 0, rng.uniform(0.12, 0.7)))
  name, label, lesion, likelihood = map(np.array, zip(*rows))
  key = np.array([f'{s}/{s}/{n:04d}' for n, s in enumerate(name)])
  own = np.unique(name)
  counts = np.full(len(own), lesions + missed)
  return (
    Predictions(key, name, name, name, label, lesion, likelihood),
    ScanCounts(own, own, counts, np.full(len(own), missed)),
  )


def test_possible_keeps_what_was_asked_for():
  """Above the lowest of 20 lesions are 20 of 21 others, on average."""
  likelihood = np.concatenate([np.arange(20) * 0.02 + 0.5, [0.15, 0.505, 0.6]])
  label = np.array([1] * 20 + [0] * 3)
  one = np.full(23, 'sub-1')
  predictions = Predictions(
    np.array([f'sub-1/sub-1/{n}' for n in range(23)]),
    one, one, one, label, np.arange(1, 24) * label, likelihood,
  )  # fmt: skip

  def low(keep, floor=0.1):
    return site_points._keeping(predictions, floor, keep)

  assert low(1) == 0.1  # nothing is given up
  assert low(0.96) == 0.1  # 1 in 21 is more than 4 %
  assert low(0.95) == 0.15  # the next below the lowest lesion, at .5
  assert low(0.9) == 0.505  # and below the second one, at .52
  assert low(0.95, floor=0.3) == 0.3  # what is below was not reviewed


def test_every_subject_is_scored_with_points_of_the_others():
  """The same by a loop that leaves one subject out with its candidates."""
  predictions, scans = scans_of(6, missed=1)
  found = site_points.choose(predictions, scans, SHIPPED, floor=0.1)
  hit = false = 0
  for n in range(6):
    mine = predictions.subject == f'sub-{n:02d}'
    others = Predictions(*(column[~mine] for column in predictions))
    rest = ScanCounts(*(np.delete(column, n) for column in scans))
    at, _ = site_points.refit(
      others, SHIPPED, site_points.folds(others, rest), floor=0.1
    )
    above = predictions.probability > at['high_precision']
    hit += np.sum(above & mine & (predictions.label == 1))
    false += np.sum(above & mine & (predictions.label == 0))
  scored = found.after.points['high_precision']
  assert scored['sensitivity_lesions'].value == pytest.approx(hit / 24)
  assert scored['precision'].value == pytest.approx(hit / (hit + false))
  assert scored['fp_per_scan'].value == pytest.approx(false / 6)
  point = found.points['high_precision']
  assert point['precision'] == scored['precision'].value


def test_one_lesion_above_all_mimics_is_no_precision_of_one():
  """Where lesions are no likelier than mimics, precision is not .9 anywhere."""
  rng = np.random.default_rng(8)
  predictions, scans = scans_of(10, 3, 9)
  likelihood = rng.uniform(0.11, 0.9, len(predictions.key))
  likelihood[np.flatnonzero(predictions.label == 1)[0]] = 0.99
  predictions = predictions._replace(probability=likelihood)
  at, _ = site_points.refit(
    predictions, SHIPPED, site_points.folds(predictions, scans), floor=0.1
  )
  counted = operating_points.points(predictions, scans)
  second = np.sort(likelihood)[-2]
  assert counted['high_precision']['threshold'] == second  # takes one lesion
  assert at['high_precision'] < second


def test_before_is_what_the_weights_have():
  predictions, scans = scans_of(6)
  found = site_points.choose(predictions, scans, SHIPPED, floor=0.1)
  definite = predictions.probability > 0.3
  false = np.sum(definite & (predictions.label == 0))
  assert found.before.points['high_precision']['fp_per_scan'].value == false / 6
  assert found.before.scores['brier'].value == pytest.approx(
    np.mean((predictions.probability - predictions.label) ** 2)
  )
  assert found.after.scores['brier'].value < found.before.scores['brier'].value
  better = found.after.points['high_precision']['precision'].value
  assert better > found.before.points['high_precision']['precision'].value


def test_a_calibration_that_fits_is_kept():
  """One that was fitted to these very scans: nothing from others is better."""
  predictions, scans = scans_of(12, 3, 8)
  best = calibration.fit_isotonic(predictions.probability, predictions.label)
  steps = {'knot': best.knot.tolist(), 'value': best.value.tolist()}
  shipped = SHIPPED | {'calibration': {'kind': 'isotonic', **steps}}
  found = site_points.choose(predictions, scans, shipped, floor=0.1)
  scores = found.calibration['brier']
  assert found.calibration['knot'] == steps['knot']
  assert scores['shipped'] == pytest.approx(
    np.mean(
      (np.interp(predictions.probability, *best) - predictions.label) ** 2
    )
  )
  assert scores['shipped'] == min(scores.values())


def newton(logit, target, steps=30):
  """Logistic regression by Newton's method, with soft targets."""
  line = np.array([1.0, 0.0])
  columns = np.stack([logit, np.ones(len(logit))], 1)
  for _ in range(steps):
    p = special.expit(columns @ line)
    hessian = columns.T @ (columns * (p * (1 - p))[:, None])
    line = line - np.linalg.solve(hessian, columns.T @ (p - target))
  return line


def test_logistic_is_that_of_newton():
  rng = np.random.default_rng(5)
  p = rng.uniform(0.05, 0.95, 200)
  label = (rng.uniform(size=200) < p**2).astype(int)
  found = calibration.fit_logistic(p, label)
  ends = np.array([1 / (np.sum(label == 0) + 2), 0])
  ends[1] = (label.sum() + 1) / (label.sum() + 2)
  wanted = newton(special.logit(p), ends[label])
  np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
  again = operating_points.calibrated(
    p, {'kind': 'logistic', **found._asdict()}
  )
  np.testing.assert_allclose(
    again, calibration.apply_logistic(p, found), atol=1e-12
  )
  assert (np.diff(again[np.argsort(p)]) >= 0).all()


def test_logistic_never_turns_the_order_round():
  found = calibration.fit_logistic(
    np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 0, 1, 1])
  )
  assert found.slope == 0


# A folder of results and reviews, as `detect` and `review` leave them.


def write_result(out, name, fingerprint, threshold=0.1):
  """The files that a calibration looks at; the label image's digest."""
  stem = f'{name}/anat/{name}_space-orig_seg-cmb_dseg'
  path = out / f'{stem}.nii.gz'
  path.parent.mkdir(parents=True)
  path.write_bytes(name.encode())
  point = {'threshold': threshold, 'definite_threshold': 0.3}
  point['fingerprint'] = fingerprint
  files.write_json(out / f'{stem}.json', {'OperatingPoint': point})
  record = {'files': [f'{stem}.nii.gz', f'{stem}.json'], 'mark': 'm'}
  files.write_json(out / 'logs' / f'{name}.json', record)
  return sha256(path)


def write_review(
  out, name, fingerprint, rows, *, added=0, finish=True, rater='ann', **how
):
  """A completed case; `rows` are (likelihood, verdict)."""
  digest = write_result(out, name, fingerprint)
  some = [
    Candidate(
      f'lesion-{n:03d}', n, place, readings.cube(place, 0), score, 'definite'
    )
    for n, (place, (score, _)) in enumerate(zip(PLACES, rows), 1)
  ]
  header = readings.header(rater, name, some, **how)
  header |= {'model': fingerprint, 'labels_sha256': digest, 'subject': name}
  by_place = {tuple(row['ijk']): row['item'] for row in header['items']}
  actions = [
    readings.verdict(by_place[place], said)
    for place, (_, said) in zip(PLACES, rows)
    if said and place in by_place
  ]
  for n in range(added):
    actions.append(readings.added((6 + 4 * n, 17, 5)))
  actions += [readings.done()] if finish else []
  folder = folders.folder_of(out / 'sourcedata/review', rater, name)
  composed.write(folder, header, actions)


def rows_of(predictions, name):
  mine = predictions.subject == name
  words = np.array(['reject', 'accept'])[predictions.label[mine]]
  return list(zip(predictions.probability[mine].tolist(), words.tolist()))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """Untrained networks with the points of SHIPPED."""
  folder = tmp_path_factory.mktemp('weights') / 'base'
  points = {'version': 2, 'domain': {}, **SHIPPED}
  lesion_data.write_weights(folder, points=points, simulated=True)
  (folder / 'README.md').write_text('# The card of the networks\n')
  return folder


@pytest.fixture(scope='module')
def out(weights, tmp_path_factory):
  """Results of six subjects, reviewed to their end, and one that is not."""
  folder = tmp_path_factory.mktemp('found') / 'found'
  mark = classifier.described(weights).fingerprint
  predictions, _ = scans_of(6)
  for n in range(6):
    name = f'sub-{n:02d}'
    rows = rows_of(predictions, name)
    rows[-1:] = [(rows[-1][0], 'unsure')] if n == 0 else rows[-1:]
    write_review(folder, name, mark, rows, added=int(n == 1))
  write_review(folder, 'sub-90', mark, [(0.5, 'reject')], finish=False)
  return folder


def command(*words):
  return subprocess.run(
    [sys.executable, '-m', 'cmbjax.cli', *map(str, words)],
    capture_output=True,
    text=True,
    check=False,
  )


def test_reviews_are_read_as_they_were_said(out):
  found = reviewed.read(out, out / 'sourcedata/review', 'ann')
  assert (found.rater, found.floor, found.simulated) == ('ann', 0.1, True)
  assert found.left_out == {'sub-90': 'in progress'}
  assert found.undecided == 1
  predictions, _ = scans_of(6)
  assert len(found.predictions.key) == len(predictions.key) - 1
  np.testing.assert_allclose(
    np.sort(found.predictions.probability[found.predictions.label == 1]),
    np.sort(predictions.probability[predictions.label == 1]),
    rtol=1e-5,  # a journal has six digits
  )
  assert found.scans.num_lesions.tolist() == [3, 4, 3, 3, 3, 3]
  assert found.scans.num_missed.tolist() == [0, 1, 0, 0, 0, 0]


def test_the_command_writes_weights_that_detect_takes(out, weights, tmp_path):
  site = tmp_path / 'site'
  done = command(
    'calibrate', out, '--rater', 'ann', '--weights', weights, '--out', site
  )
  assert done.returncode == 0, done.stderr
  assert 'left out: sub-90: in progress' in done.stderr
  assert 'left out: 1 candidates without a decision' in done.stderr
  assert '6 simulated scans of 6 subjects, reviewed by ann' in done.stdout
  assert done.stdout.splitlines()[-1] == str(site)
  new, old = classifier.load(site), classifier.load(weights)
  assert new.points['high_precision'] > old.points['high_precision']
  assert new.fingerprint != old.fingerprint
  patches = np.random.default_rng(0).random((3, 16, 16, 8))
  np.testing.assert_array_equal(
    new.likelihood(patches), old.likelihood(patches)
  )
  assert new.site['rater'] == 'ann'
  assert (new.site['lesions'], new.site['mimics']) == (18, 29)
  card = (site / 'README.md').read_text()
  assert card.endswith('# The card of the networks\n')
  assert '6 simulated scans of 6 subjects that ann reviewed' in card
  lesion_data.write_swi(tmp_path / 'in/a_swi.nii.gz')
  found = command(
    'detect', tmp_path / 'in', tmp_path / 'o', '--weights', site,
    '--no-regions', '--no-report',
  )  # fmt: skip
  assert found.returncode == 0, found.stderr
  (about,) = (tmp_path / 'o').glob('sub-*/anat/*_seg-cmb_dseg.json')
  point = json.loads(about.read_text())['OperatingPoint']
  assert point['calibrated_on'] == '6 scans reviewed by ann'
  assert point['definite_threshold'] == new.points['high_precision']
  again = command(
    'calibrate', out, '--rater', 'ann', '--weights', weights, '--out', site
  )
  assert again.returncode == 2
  assert f'{site}: is there already' in again.stderr


def test_a_dry_run_writes_nothing(out, weights, tmp_path, capsys):
  words = ['calibrate', str(out), '--rater', 'ann', '--weights', str(weights)]
  assert cli.main([*words, '--out', str(tmp_path / 'x'), '--dry-run']) == 0
  assert not (tmp_path / 'x').exists()
  assert 'Possible above' in capsys.readouterr().out


def few(tmp_path, weights, *, subjects=2):
  mark = classifier.described(weights).fingerprint
  predictions, _ = scans_of(subjects)
  for n in range(subjects):
    name = f'sub-{n:02d}'
    write_review(tmp_path / 'out', name, mark, rows_of(predictions, name))
  return ['calibrate', str(tmp_path / 'out'), '--rater', 'ann', '--weights']


def test_too_few_are_refused_with_their_number(tmp_path, weights, capsys):
  call = few(tmp_path, weights)
  assert cli.main([*call, str(weights), '--out', str(tmp_path / 'x')]) == 2
  printed(capsys.readouterr().err, 'calibration needs')
  assert not (tmp_path / 'x').exists()


def test_other_networks_are_refused(tmp_path, weights):
  few(tmp_path, weights)
  with says(InputError, '--weights'):
    site_weights.find('robust', classifier.described(weights).fingerprint)


def test_what_cannot_be_used_is_named(tmp_path, weights):
  out, mark = tmp_path / 'out', classifier.described(weights).fingerprint
  write_review(out, 'sub-01', mark, [(0.5, 'accept')])
  write_review(out, 'sub-02', mark, [(0.5, 'accept')])
  (out / 'sub-02/anat/sub-02_space-orig_seg-cmb_dseg.nii.gz').write_bytes(b'')
  write_review(out, 'sub-03', '', [(0.5, 'accept')])
  write_review(out, 'sub-04', mark, [(0.5, 'accept')])
  (out / 'logs/sub-04.json').unlink()
  found = reviewed.read(out, out / 'sourcedata/review', 'ann')
  assert found.scans.scan.tolist() == ['sub-01']
  assert found.left_out == {
    'sub-02': 'it was detected again since it was reviewed',
    'sub-03': 'its candidates are not of networks',
    'sub-04': f'its result is not below {out}',
  }
  with says(NoInputError, 'bob'):
    reviewed.read(out, out / 'sourcedata/review', 'bob')
  write_review(out, 'sub-05', 'another', [(0.5, 'accept')])
  with says(InputError, 'different networks'):
    reviewed.read(out, out / 'sourcedata/review', 'ann')


def test_what_least_kept_away_raises_the_floor(tmp_path, weights):
  out, mark = tmp_path / 'out', classifier.described(weights).fingerprint
  rows = [(0.9, 'accept'), (0.7, 'reject'), (0.2, None)]
  write_review(out, 'sub-01', mark, rows, least=0.6)
  found = reviewed.read(out, out / 'sourcedata/review', 'ann')
  assert found.floor == 0.6
  assert (len(found.predictions.key), found.undecided) == (2, 0)


@pytest.mark.parametrize(
  ('more', 'named'),
  [(['--keep', '0', '--dry-run'], '--keep'), ([], '--out')],
)
def test_options_that_do_not_fit(out, capsys, more, named):
  assert cli.main(['calibrate', str(out), '--rater', 'ann', *more]) == 2
  printed(capsys.readouterr().err, named)


def test_a_folder_without_results_is_refused(tmp_path, capsys):
  words = ['calibrate', str(tmp_path), '--rater', 'ann', '--dry-run']
  assert cli.main(words) == 2
  printed(capsys.readouterr().err, 'holds no result')


def test_points_of_a_site_are_sealed(out, weights, tmp_path):
  """A digit that is changed by hand is not believed."""
  found = reviewed.read(out, out / 'sourcedata/review', 'ann')
  known = site_weights.find(weights, found.fingerprint)
  chosen = site_points.choose(
    found.predictions, found.scans, known.points, floor=found.floor
  )
  site = site_weights.write(tmp_path / 'site', known, found, chosen)
  path = site / 'operating_points.json'
  assert sealed.read_json(path)['site']['rater'] == 'ann'
  path.write_text(path.read_text().replace('"ann"', '"bob"'))
  with says(InputError, 'operating_points.json'):
    classifier.described(site)


def snapshot(root, rater, name, rows, *, status='completed'):
  items = [
    {'origin': 'model', 'present': True, 'repeat_of': None, 'score': 0.5}
    | {'verdict': said}
    for said in rows
  ]
  files.write_json(
    root / rater / name / 'state.json',
    {'case': {'status': status}, 'items': items},
  )


def test_the_page_offers_the_command_once_enough_is_reviewed(tmp_path):
  root = tmp_path / 'my out/sourcedata/review'
  cases = [
    Case(f'sub-{n}', f'sub-{n}', None, (), fingerprint='f') for n in range(6)
  ]
  for n in range(4):
    snapshot(root, 'ann', f'sub-{n}', ['accept'] * 3 + ['reject'] * 4)
  snapshot(root, 'ann', 'sub-4', ['accept'], status='in progress')
  assert reviewed.command(cases, root, 'ann') is None  # four subjects
  snapshot(root, 'ann', 'sub-5', ['unsure'])
  said = reviewed.command(cases, root, 'ann')
  out = tmp_path / 'my out'
  assert said == (f"cmbjax calibrate '{out}' --rater ann --out weights/site")
  elsewhere = tmp_path / 'elsewhere'
  (root).rename(elsewhere)
  said = reviewed.command(cases, elsewhere, 'ann')
  assert said.endswith(f'--out weights/site --reviews {elsewhere}')
  bare = [dataclasses.replace(case, fingerprint='') for case in cases]
  assert reviewed.command(bare, elsewhere, 'ann') is None
