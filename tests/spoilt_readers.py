"""Every reader of cmbjax, given spoilt files: a value, or one sentence.

Rule: whatever is in a file, a reader returns or raises InputError with one
line; it does not wait, and does not take the memory of the machine.
"""

import contextlib
import functools
import io
import json
import pathlib
import random
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import nibabel as nib
import numpy as np

from cmbjax.errors import InputError
from tests import mutations

MOST_S = 15  # of processor time for one input
MOST_WAIT_S = 60  # on a clock, where it waits or the machine is busy
_LONGEST = 1000  # characters of a sentence
_SHAPE = (20, 18, 8)


class Reader(NamedTuple):
  """How to make good files, which to spoil, and how to read them."""

  name: str
  make: Callable[[pathlib.Path], None]
  spoilt: tuple[str, ...]  # patterns below the folder
  read: Callable[[pathlib.Path], object]


class Outcome(NamedTuple):
  """What became of one spoilt file."""

  how: str
  path: pathlib.Path
  said: str  # '' where it was read all the same
  crash: str  # '' or a traceback
  seconds: float  # of processor time


class Hang(BaseException):
  """It worked or waited for too long."""


def attempts(
  reader: Reader, folder: pathlib.Path, rng: random.Random, count: int
) -> Iterator[Outcome]:
  """Spoils one file at a time, reads, and puts everything back."""
  good, used = folder / 'good', folder / 'used'
  good.mkdir(parents=True)
  reader.make(good)
  paths = sorted({p for some in reader.spoilt for p in good.glob(some)})
  paths = [p for p in paths if p.is_file()]
  assert paths, reader.name
  shutil.copytree(good, used)
  _silently(reader, used)  # what is good has to be read
  for _ in range(count):
    chosen = rng.choice(paths).relative_to(good)
    how = mutations.spoil(used / chosen, rng)
    yield attempt(reader, used, chosen, how)
    _restore(good, used)


def attempt(reader, folder, path, how) -> Outcome:
  """One reading of one spoilt file."""
  start, said, crash = time.process_time(), '', ''
  try:
    with limited(MOST_S):
      _silently(reader, folder)
  except InputError as error:
    said = str(error)
    if not said.strip() or '\n' in said or len(said) > _LONGEST:
      crash = f'not one sentence: {said[:300]!r}'
  except Exception:
    crash = traceback.format_exc()
  except Hang:
    crash = f'worked for {MOST_S} s, or waited for {MOST_WAIT_S}'
  return Outcome(how, path, said, crash, time.process_time() - start)


@contextlib.contextmanager
def limited(seconds: float, wait: float = MOST_WAIT_S):
  """Raises Hang in this process after so much work, or so long a wait."""
  timers = (
    (signal.SIGPROF, signal.ITIMER_PROF, seconds),
    (signal.SIGALRM, signal.ITIMER_REAL, wait),
  )

  def ring(*_):
    raise Hang

  before = [signal.signal(number, ring) for number, _, _ in timers]
  for _, timer, most in timers:
    signal.setitimer(timer, most)
  try:
    yield
  finally:
    for (number, timer, _), old in zip(timers, before, strict=True):
      signal.setitimer(timer, 0)
      signal.signal(number, old)


def _silently(reader, folder):
  with (
    contextlib.redirect_stderr(io.StringIO()),
    contextlib.redirect_stdout(io.StringIO()),
    warnings.catch_warnings(),
  ):
    warnings.simplefilter('ignore')
    reader.read(folder)


def _restore(good, used):
  shutil.rmtree(used, ignore_errors=True)
  shutil.copytree(good, used)


# The readers. Imports stand inside: not every test needs every room.


def _image(path, *, low=0, high=900, dtype=np.int16, seed=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  array = rng.integers(low, high, _SHAPE).astype(dtype)
  affine = np.diag([1.0, 1.0, 2.0, 1.0])
  nib.save(nib.Nifti1Image(array, affine), path)


def _images(folder):
  _image(folder / 'a.nii')
  _image(folder / 'b.nii.gz')
  _image(folder / 'c.nii.gz', dtype=np.float32)
  array = np.arange(np.prod(_SHAPE), dtype=np.float32).reshape(_SHAPE)
  other = np.diag([1.0, 1.0, 2.0, 1.0])
  nib.save(nib.Nifti2Image(array, other), folder / 'd.nii')
  nib.save(nib.MGHImage(array, other), folder / 'e.mgh')


def _read_images(folder):
  from cmbjax.imaging import volume

  failed = None
  for path in sorted(folder.iterdir()):
    for read in (volume.load, volume.grid_of):
      try:
        read(path)
      except InputError as error:
        failed = error
  if failed:
    raise failed


def _signal(folder):
  stem = folder / 'sub-1' / 'anat' / 'sub-1'
  _image(pathlib.Path(f'{stem}_part-mag_T2starw.nii.gz'))
  phase = pathlib.Path(f'{stem}_part-phase_T2starw.nii.gz')
  _image(phase, low=-2048, high=2047, seed=1)
  for part in ('mag', 'phase'):
    facts = {
      'EchoTime': 0.02,
      'MagneticFieldStrength': 3,
      'Units': 'arbitrary',
      'ImageType': ['ORIGINAL', 'PRIMARY', 'P'],
    }
    path = pathlib.Path(f'{stem}_part-{part}_T2starw.json')
    path.write_text(json.dumps(facts))
  about = {'Name': 'x', 'BIDSVersion': '1.10.0', 'Simulated': False}
  (folder / 'dataset_description.json').write_text(json.dumps(about))


def _read_signal(folder):
  from cmbjax.intake import bids, scans
  from cmbjax.reconstruct import signal

  (scan,) = bids.find_scans(folder)
  if scan.phase:
    signal.read(scan.magnitude, scan.phase)
  scans.find(folder)


def _cohort(folder):
  from tests import small_cohorts

  made = small_cohorts.write_cohort(folder, subjects=2)
  (folder / 'participants.tsv').write_text(
    'participant_id\tage\nsub-01\t60\nsub-02\t70\n'
  )
  for subject, one in made.items():
    path = small_cohorts.label_path(folder, subject)
    rows = ['index\tname\tx\ty\tz\tdiameter_mm\tregion']
    rows += [f'{n}\ta\t1\t2\t3\t2.5\tfrontal' for n in range(1, 4)]
    stem = path.with_name(path.name.split('.')[0])
    stem.with_suffix('.tsv').write_text('\n'.join(rows) + '\n')
    stem.with_suffix('.json').write_text('{"Manual": true, "IndexBase": 0}')
    if subject == 'sub-02':  # as points
      path.unlink()
      world = one.lesion_voxels @ one.affine[:3, :3].T + one.affine[:3, 3]
      rows = ['x\ty\tz\tregion']
      rows += ['\t'.join(map(str, place)) + '\tdeep' for place in world]
      stem.with_suffix('.tsv').write_text('\n'.join(rows) + '\n')


def _read_cohort(folder):
  from cmbjax.data import cohort

  for scan in cohort.read_cohort(folder).scans:
    cohort.load_scan(scan)


def _points(folder):
  rows = [['subject', 'session', 'x', 'y', 'z']]
  rows += [[f'sub-0{n}', '', '1.5', str(n), '-3'] for n in range(1, 6)]
  for name, mark in (('a.csv', ','), ('b.csv', ';'), ('c.tsv', '\t')):
    text = '\n'.join(mark.join(row) for row in rows) + '\n'
    (folder / name).write_text(text)
  from tests.test_importers import xlsx

  xlsx(
    folder / 'd.xlsx', [(f'sub-0{n}', 1.5, float(n), -3.0) for n in range(1, 6)]
  )


def _read_points(folder):
  from cmbjax.data import point_table

  failed = None
  names = [(f'sub-0{n}', None, ()) for n in range(1, 6)]
  for path in sorted(folder.iterdir()):
    try:
      point_table.match(path, point_table.read(path), names)
    except InputError as error:
      failed = error
  if failed:
    raise failed


def _weights(folder):
  from tests import lesion_data

  lesion_data.write_weights(folder / 'plain', networks=2)


def _read_weights(folder):
  from cmbjax.detect import classifier

  classifier.check(folder / 'plain', 'balanced', None)
  found = classifier.load(folder / 'plain')
  found.threshold('balanced')
  found.probability(np.array([0.1, 0.5]))


def _run(folder):
  from cmbjax.evaluation import prediction_files
  from cmbjax.report import storage
  from tests.evaluation_data import rescored, table
  from tests.test_report import study_of

  first = table('7t')
  second = first._replace(
    strategy='finetuned',
    predictions=(other := rescored(first.predictions, seed=1)),
    by_seed=other.probability[None],
  )
  prediction_files.write(folder / 'predictions.npz', [first, second])
  storage.write_json(study_of(), folder / 'results.json')


def _read_compare(folder):
  from cmbjax import cli

  _command(cli, 'compare', folder, '--out', folder / 'compare.json')


def _read_report(folder):
  from cmbjax.report import printed, storage, study_page

  study = storage.read_json(folder)
  study_page.page(study)
  printed.print_rows(study)


def _command(cli, *words):
  """As the command line calls it, but its sentence is raised."""
  arguments = cli.parser().parse_args([str(word) for word in words])
  return arguments.run(arguments)


def _detected(folder):
  from tests import readings

  readings.detected(folder, subjects=2)


def _read_evaluate(folder):
  from cmbjax.detect import against_truth, score_tables

  found = against_truth.read(folder / 'results', folder / 'scans')
  score_tables.text(against_truth.evaluate(found))


def _read_sources(folder):
  from cmbjax.review.cases import case as cases
  from cmbjax.review.cases import sources

  for case in sources.find(folder / 'results').cases:
    cases.load(case)
  for case in sources.find(folder / 'scans').cases:
    cases.load(case)


def _reviews(folder):
  from cmbjax.review.cases import sources
  from tests import readings

  _detected(folder)
  for case in sources.find(folder / 'results').cases:
    for rater in ('ann', 'ben'):
      readings.read_case(folder / 'reviews', rater, case, lambda one: 'accept')


def _read_reviews(folder):
  from cmbjax.review.cases import sources
  from cmbjax.review.log import journal
  from cmbjax.review.readers import agreement
  from cmbjax.review.server import desk

  root = folder / 'reviews'
  found = sources.find(folder / 'results').cases
  failed = None
  for rater in ('ann', 'ben'):
    for case in found:
      try:
        journal.summary(root / rater / case.name)
        journal.read(root / rater / case.name)
      except InputError as error:
        failed = error
  for again in (
    lambda: agreement.measure(root, ['ann', 'ben']),
    lambda: _opened(desk.Desk(found, root, 'ann')),
  ):
    try:
      again()
    except InputError as error:
      failed = error
  if failed:
    raise failed


def _opened(made):
  try:
    for number in range(2):
      with made.use(number) as opened:
        made.case_json(number, opened)
  finally:
    made.close()


def _merged(folder):
  from cmbjax.review.readers import merge

  _reviews(folder)
  merge.run_merge(folder / 'reviews', ['ann', 'ben'])


def _read_merged(folder):
  from cmbjax.review.cases import sources
  from cmbjax.review.export import cohort as export
  from cmbjax.review.readers import merge

  cases = sources.find(folder / 'results').cases
  root = folder / 'reviews'
  export.write_cohort(cases, root, 'ann', folder / 'out')
  (made,) = [p for p in root.iterdir() if (p / 'merge.json').exists()] or [None]
  if made is not None:
    merge.describe(made)
    export.write_cohort(cases, root, made.name, folder / 'out2')


def _verdicts(folder):
  from tests.test_review_import import _DATA, EXPORTED

  _detected(folder)
  text = (folder / 'results' / 'sub-01.html').read_text()
  scan = json.loads(_DATA.search(text)[1])
  nothing = {'verdict': 'accept', 'mimic': None, 'comment': 'a', 'ms': 5}
  rows = [row | nothing | {'time': EXPORTED} for row in scan.pop('lesions')]
  scan.pop('file')
  about = {'rater': 'ann', 'started': EXPORTED, 'exported': EXPORTED}
  whole = scan | about | {'lesions': rows, 'events': []}
  (folder / 'verdicts.json').write_text(json.dumps(whole))


def _read_verdicts(folder):
  from cmbjax.review.cases import sources
  from cmbjax.review.export import verdicts_import

  cases = sources.find(folder / 'results').cases
  verdicts_import.bring([folder / 'verdicts.json'], cases, folder / 'reviews')


def _atlas(folder):
  affine = np.diag([8.0, 8.0, 8.0, 1.0])
  affine[:3, 3] = (-92, -128, -72)
  labels = np.zeros((24, 28, 24), np.uint16)
  labels[4:20, 4:24, 4:20] = 1
  labels[4:20, 4:24, 4:10] = 2
  nib.save(nib.Nifti1Image(labels, affine), folder / 'atlas.nii.gz')
  rows = 'index\tname\tlocation\n1\tup\tlobar\n2\tdown\tdeep\n'
  (folder / 'atlas.tsv').write_text(rows)


def _read_atlas(folder):
  from cmbjax.imaging import regions

  regions.load_atlas(folder / 'atlas.nii.gz')


def _logs(folder):
  from cmbjax.data import tables

  line = {'epoch': 0, 'train_loss': [0.5], 'active': [True], 'jobs': ['7t']}
  text = ''.join(json.dumps(line | {'epoch': n}) + '\n' for n in range(4))
  for name in ('epochs.jsonl', 'speed.jsonl'):
    (folder / name).write_text(text)
  number = np.arange(3, dtype=np.int32)
  table = tables.CandidateTable(
    np.zeros((3, 3), np.int32), number.astype('f4'), number, {'a': 1}
  )
  tables.save_table(folder / 'table.npz', table)


def _read_logs(folder):
  from cmbjax.data import tables
  from cmbjax.training import logs, watch

  logs.read(folder / 'epochs.jsonl')
  watch.read_speed(folder)
  tables.load_table(folder / 'table.npz')


def _config(folder):
  """A list of flags, one per line."""
  words = [
    '--config.seed=3', '--config.train.folds=2', '--config.train.epochs=2',
    '--config.train.seeds=(0,1)', '--config.strategies=("7t",)',
    '--config.evaluation.threshold=0.2', '--config.pretrained=train',
    '--config.train.finetune_frozen=stage', '--config.model.name=resnet_v4',
    '--config.cohorts.btumor_7t=', '--config.simulate.slab_mm=0',
    '--workdir=runs/x', '--mode=dryrun',
  ]  # fmt: skip
  (folder / 'flags.txt').write_text('\n'.join(words))


def _read_config(folder):
  from cmbjax import main
  from cmbjax.study import resolve

  path = folder / 'flags.txt'
  if not path.is_file() or path.stat().st_size > 1 << 20:
    return
  text = path.read_bytes().decode('utf-8', 'replace').replace('\0', '?')
  words = [word for word in text.split('\n') if 'help' not in word]
  argv = ['x', '--config=configs/smoke.py', *words]
  try:
    call = main.parse(argv)
    resolve.points(call.config, call.sweep)
  except SystemExit as error:
    raise AssertionError(f'{words}: ended with {error.code}') from error


def _metadata(folder):
  about = {'fingerprint': 'x', 'simulated': True, 'scans': [], 'gates': {}}
  (folder / 'metadata.json').write_text(json.dumps(about))


def _read_metadata(folder):
  from cmbjax.data import examples

  examples.metadata(folder)


def _dicom(folder):
  from tests import dicom_series

  array = dicom_series.voxels(1)
  dicom_series.write_series(folder / 'swi', array, kind='swi')


def _read_dicom(folder):
  from cmbjax.intake import dicom

  shutil.rmtree(folder.parent / 'converted', ignore_errors=True)
  dicom.convert(folder, folder.parent / 'converted')


_BIG = ('results/**/*_dseg.*', 'results/logs/*.json', 'results/*.json')
READERS = (
  Reader('images', _images, ('*',), _read_images),
  Reader('magnitude and phase', _signal, ('**/*',), _read_signal),
  Reader('cohort and truth', _cohort, ('**/*',), _read_cohort),
  Reader('tables of points', _points, ('*',), _read_points),
  Reader('flags and config', _config, ('*',), _read_config),
  Reader(
    'weights of a study',
    _weights,
    ('plain/**/*',),
    _read_weights,
  ),
  Reader('predictions', _run, ('predictions.npz',), _read_compare),
  Reader('report', _run, ('results.json',), _read_report),
  Reader(
    'results to evaluate',
    _detected,
    (*_BIG, 'scans/**/*'),
    _read_evaluate,
  ),
  Reader('results to review', _detected, _BIG, _read_sources),
  Reader('reviews', _reviews, ('reviews/**/*.json*',), _read_reviews),
  Reader('merges', _merged, ('reviews/**/*.json*',), _read_merged),
  Reader('saved verdicts', _verdicts, ('verdicts.json',), _read_verdicts),
  Reader('atlas', _atlas, ('*',), _read_atlas),
  Reader('logs and caches', _logs, ('*',), _read_logs),
  Reader('data set', _metadata, ('*',), _read_metadata),
  Reader('DICOM', _dicom, ('swi/*',), _read_dicom),
)


@functools.cache
def by_name(name: str) -> Reader:
  (found,) = [one for one in READERS if one.name == name]
  return found
