"""A disk that is full or read-only: one sentence, nothing half, then again.

The limit of a file's size stands in for the end of a disk.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import resource
import shutil
import sys

import numpy as np
import pytest

from cmbjax import cli, files, main
from cmbjax.data import examples as examples_lib
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.report import study_page
from cmbjax.review.cases import sources
from cmbjax.training import checkpoint
from cmbjax.weights import pack
from tests import mounted, readings, small_cohorts, spoilt_readers
from tests.messages import printed

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def given(tmp_path_factory):
  """What the commands read."""
  folder = tmp_path_factory.mktemp('given')
  readings.detected(folder, subjects=1)
  (case,) = sources.find(folder / 'results').cases
  for rater in ('ann', 'ben'):
    readings.read_case(folder / 'reviews', rater, case, lambda one: 'accept')
  (folder / 'run').mkdir()
  spoilt_readers.by_name('report').make(folder / 'run')
  spoilt_readers.by_name('magnitude and phase').make(folder)
  small_cohorts.write_lupolab(folder / 'lupolab', subjects=1)
  return folder


def _command(*words, given, out):
  return cli.main([w.format(given=given, out=out) for w in words])


def _caught(function):
  """As the command line ends where a library call stands for it."""

  def run(*, given, out):
    try:
      function(given, out)
    except InputError as error:
      print(f'cmbjax: {error}', file=sys.stderr)
      return error.exit_code
    return 0

  return run


def _pack(given, out):
  network = {'a': np.arange(4000, dtype=np.float32)}
  weights = checkpoint.Weights(network, {'b': np.ones((2, 3), np.float32)})
  checkpoint.save_weights(out, pack.in_half(weights), {'precision': 'half'})


_said = functools.partial(functools.partial, _command)
COMMANDS = {
  'simulate': _caught(lambda _, out: small_cohorts.write_as_simulated(out)),
  'swi': _said(
    'swi', '-m', '{given}/sub-1/anat/sub-1_part-mag_T2starw.nii.gz',
    '-p', '{given}/sub-1/anat/sub-1_part-phase_T2starw.nii.gz',
    '-o', '{out}', '-t', '20', '--field', '3',
  ),
  'detect': _said(
    'detect', '{given}/scans', '{out}', '--weights', 'none', '--no-regions',
    '--jobs', '1',
  ),
  'evaluate': _said(
    'evaluate', '{given}/results', '{given}/scans', '--out', '{out}'
  ),
  'build': _said(
    'build', f'{ROOT}/tfds_builders/ccm_3t', '--manual_dir', '{given}/scans',
    '--data_dir', '{out}', '--jobs', '1',
  ),
  'compare': _said('compare', '{given}/run', '--out', '{out}/c.json'),
  'report': _said('report', '{given}/run', '--out', '{out}'),
  'import': _said(
    'import', '{given}/lupolab', '{out}', '--layout', 'lupolab'
  ),
  'export': _said(
    'review', 'export', '{given}/results', '--reviews', '{given}/reviews',
    '--rater', 'ann', '--link', 'copy', '--out', '{out}/cohort',
  ),
  'pack': _caught(_pack),
}  # fmt: skip


@contextlib.contextmanager
def room(most: int):
  """No file may grow beyond `most` bytes."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _there(out):
  """Files below a folder, by name; runs and reviews have names of their own."""
  found = {
    str(path.relative_to(out)): path
    for path in sorted(out.rglob('*'))
    if path.is_file() and path.name not in ('.lock', '.cmbjax.lock')
  }
  # A run is called by its time, and Orbax draws names for its data.
  drawn = re.compile(r'run-|/d/')
  return {n: path for n, path in found.items() if not drawn.search(n)}


def _check_whole(path):
  """A file under its final name can be read to its end."""
  if path.name.endswith(('.nii', '.nii.gz')):
    volume.load(path, num_dims=4)
  elif path.suffix == '.json':
    files.read_json(path)
  elif path.suffix == '.npz':
    files.read_arrays(path)
  elif path.suffix == '.html':
    assert path.read_text().rstrip().endswith('</html>'), path
  elif path.suffix == '.png':
    assert path.read_bytes().endswith(b'IEND\xaeB`\x82'), path


def _check_refused(code, err):
  assert code in (1, 2), err
  assert 'Traceback' not in err
  (said,) = [line for line in err.splitlines() if 'cannot be' in line]
  assert said.startswith(('cmbjax: ', 'sub-01: failed: ')), err
  assert len(said) < 500, err


@pytest.mark.parametrize('name', sorted({*COMMANDS} - {'report'}))
def test_a_full_disk_is_said_and_the_next_run_ends_well(
  name, given, tmp_path, capsys
):
  run, good, out = COMMANDS[name], tmp_path / 'good', tmp_path / 'out'
  assert run(given=given, out=good) == 0, capsys.readouterr().err
  wanted = _there(good)
  largest = max(path.stat().st_size for path in wanted.values())
  for most in (0, largest // 2):
    capsys.readouterr()
    with room(most):
      code = run(given=given, out=out)
    _check_refused(code, capsys.readouterr().err)
    for path in _there(out).values():
      assert 'partial' not in str(path.relative_to(out)), path
      _check_whole(path)
  assert run(given=given, out=out) == 0, capsys.readouterr().err
  assert sorted(_there(out)) == sorted(wanted)


@pytest.fixture
def study(tmp_path):
  """`python -m cmbjax.main` on two networks, as a function of its workdir."""
  small_cohorts.write_cohort(tmp_path / 'scans', subjects=4)
  (tmp_path / 'small.py').write_text(
    'from configs import smoke\n'
    'def get_config(preset=""):\n'
    '  config = smoke.get_config(preset)\n'
    f'  config.cohorts.btumor_3t = {str(tmp_path / "scans")!r}\n'
    '  config.strategies, config.tests = ("scratch",), ("btumor_3t",)\n'
    '  config.train.epochs, config.evaluation.draws = 1, 20\n'
    '  return config\n'
  )
  config = f'--config={tmp_path / "small.py"}'
  return lambda workdir, *more: main.main(
    ['main', config, f'--workdir={workdir}', *more]
  )


def _beside_a_hog(function, ballast, left):
  """The same where somebody else has just filled the disk, all but `left`."""

  def run(*args, **options):
    free = shutil.disk_usage(ballast.parent).free
    with ballast.open('wb') as handle:
      os.posix_fallocate(handle.fileno(), 0, free - left)
    return function(*args, **options)

  return run


# How ml_collections reads a config file.
@pytest.mark.filterwarnings('ignore:.*load_module.*:DeprecationWarning')
def test_a_study_goes_on_when_there_is_room_again(
  study, tmp_path, monkeypatch, capfd
):
  """The disk fills up at the data set, at a checkpoint and at the report."""
  assert study(tmp_path / 'good') == 0, capfd.readouterr().err
  wanted = files.read_json(tmp_path / 'good' / 'results.json')['rows']
  with mounted.mounted(tmp_path / 'disk', 'size=24m') as disk:
    for owner, name, left in (
      (examples_lib, 'build', 1 << 16),
      (checkpoint.Checkpoints, 'save', 1 << 19),
      (study_page, 'write', 1 << 16),
    ):
      capfd.readouterr()
      with monkeypatch.context() as patch:
        full = _beside_a_hog(getattr(owner, name), disk / 'ballast', left)
        patch.setattr(owner, name, full)
        code = study(disk / 'run')
      _check_refused(code, capfd.readouterr().err)
      for path in _there(disk / 'run').values():
        assert 'partial' not in str(path)
        _check_whole(path)
      (disk / 'ballast').unlink()
    assert study(disk / 'run') == 0, capfd.readouterr().err
    assert 'train' not in capfd.readouterr().err  # it was done
    assert files.read_json(disk / 'run' / 'results.json')['rows'] == wanted


def test_a_report_without_room(given, tmp_path, capsys):
  """Its pictures take seconds, so none is drawn where all goes well."""
  with room(1000):
    code = COMMANDS['report'](given=given, out=tmp_path / 'out')
  _check_refused(code, capsys.readouterr().err)
  for path in _there(tmp_path / 'out').values():
    assert 'partial' not in path.name
    _check_whole(path)


@pytest.fixture
def sealed(tmp_path):
  """A file system that can only be read, where we may mount one."""
  with mounted.mounted(tmp_path / 'sealed', 'size=64k,ro') as place:
    yield place


@pytest.mark.parametrize('below', ['out', 'a/b/out'])
@pytest.mark.parametrize('name', sorted(COMMANDS))
def test_a_place_that_can_only_be_read(name, below, given, sealed, capsys):
  code = COMMANDS[name](given=given, out=sealed / below)
  _check_refused(code, capsys.readouterr().err)
  assert not any(sealed.iterdir())


def test_what_is_tried_first_sees_a_place_that_can_only_be_read(
  given, sealed, study, capsys
):
  """Nothing is worked out first, and nothing is made."""
  for out in (sealed, sealed / 'a' / 'b'):
    code = _command(
      'detect', '{given}/scans', '{out}', '--dry-run', given=given, out=out
    )
    _check_refused(code, capsys.readouterr().err)
    assert study(out, '--mode=dryrun') == 2
    printed(capsys.readouterr().err, str(out))
  assert not any(sealed.iterdir())


def test_a_scan_that_fails_leaves_its_older_files(given, tmp_path, capsys):
  """All that was written of it, or nothing: tables fit their image."""
  detect, out = COMMANDS['detect'], tmp_path / 'out'
  shutil.copytree(given / 'scans', tmp_path / 'scans')
  assert detect(given=tmp_path, out=out) == 0
  (page,) = out.glob('sub-01*.html')  # is written last, and is the largest
  old = {n: p.read_bytes() for n, p in _there(out).items() if 'sub-01_' in n}
  (path,) = (tmp_path / 'scans').glob('sub-01/anat/*_swi.nii.gz')
  scan = volume.load(path)
  volume.save(path, scan.array[::-1], scan)
  capsys.readouterr()
  with room(page.stat().st_size - 1000):
    code = detect(given=tmp_path, out=out)
  _check_refused(code, capsys.readouterr().err)
  assert {name: (out / name).read_bytes() for name in old} == old
  assert not list(out.rglob('.partial-*'))
  (out / '.partial-12345678sub-01.html').write_text('of a run that was killed')
  assert detect(given=tmp_path, out=out) == 0
  assert not list(out.rglob('.partial-*'))
  assert all((out / n).read_bytes() != old[n] for n in old if n[-3:] == '.gz')


@pytest.mark.parametrize('name', sorted(COMMANDS))
def test_a_file_where_the_folder_shall_be(name, given, tmp_path, capsys):
  (tmp_path / 'out').write_text(json.dumps('mine'))
  code = COMMANDS[name](given=given, out=tmp_path / 'out')
  said = capsys.readouterr().err
  assert code == 2, said
  assert said.splitlines()[-1].startswith('cmbjax: ')
  assert (tmp_path / 'out').read_text() == '"mine"'
