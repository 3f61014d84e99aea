"""Ordinary files are opened; everything else is one sentence, at once."""

import contextlib
import os
import pathlib
import shutil
import socket
import tempfile

import pytest

from cmbjax import doors, files, main, sealed
from cmbjax.data import cohort
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.intake import scans
from tests import small_cohorts, spoilt_readers
from tests.messages import printed, said, says


def _socket(path):
  with socket.socket(socket.AF_UNIX) as one:
    before = os.getcwd()
    os.chdir(path.parent)  # its name may have 108 bytes
    try:
      one.bind(path.name)
    finally:
      os.chdir(before)


_LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n'
_KEY = f'SHA256E-s9--{"0" * 64}.nii.gz'
NOT_FILES = {
  'folder': lambda path: path.mkdir(),
  'link to nothing': lambda path: path.symlink_to('nothing'),
  'link of git-annex': lambda path: path.symlink_to(
    f'../.git/annex/objects/zz/{_KEY}/{_KEY}'
  ),
  'circle': lambda path: path.symlink_to(path.name),
  'pipe': os.mkfifo,
  'link to a pipe': lambda path: (
    os.mkfifo(path.with_name('pipe')),
    path.symlink_to('pipe'),
  ),
  'socket': _socket,
  'device': lambda path: path.symlink_to('/dev/zero'),
  'terminal': lambda path: path.symlink_to('/dev/ptmx'),
  'Git LFS': lambda path: path.write_text(_LFS.format('0' * 64)),
  'git-annex': lambda path: path.write_text(f'/annex/objects/{_KEY}\n'),
  'git-annex on FAT': lambda path: path.write_text(
    f'../../.git/annex/objects/zz/yy/{_KEY}/{_KEY}'
  ),
}


@pytest.mark.parametrize('kind', NOT_FILES)
def test_what_is_not_a_file_is_one_sentence(tmp_path, kind):
  path = tmp_path / 'a.nii.gz'
  NOT_FILES[kind](path)
  words = set()
  for read in (
    doors.open_file,
    doors.state_of,
    files.digest,
    files.read_json,
    sealed.sha256,
    volume.load,
    lambda path: files.copy(path, tmp_path / 'b'),
  ):
    with spoilt_readers.limited(5, 5), pytest.raises(InputError) as caught:
      read(path)
    words.add(str(caught.value))
  (sentence,) = words  # one for all of them
  said(sentence, 'a.nii.gz')
  assert doors.is_there(path)
  assert not (tmp_path / 'b').exists()


@contextlib.contextmanager
def _as_somebody():
  """Who may not read everything, as root may."""
  me = os.geteuid()
  if me == 0:
    os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(me)


def test_a_file_that_may_not_be_read(tmp_path):
  path = tmp_path / 'a'
  path.write_text('')
  path.chmod(0)
  with _as_somebody(), says(InputError, 'a Permission'):
    doors.open_file(path)


def test_what_is_there(tmp_path):
  (tmp_path / 'a').write_text('')
  assert doors.is_there(tmp_path / 'a')
  assert not doors.is_there(tmp_path / 'b')
  assert not doors.is_there(tmp_path / 'a' / 'b')
  for name in ('x' * 300, 'a\0b'):
    with pytest.raises(InputError):
      doors.is_there(tmp_path / name)


def test_a_text_that_speaks_of_pointers_is_read(tmp_path):
  path = tmp_path / 'a.txt'
  for text in ('see /annex/objects/', ' version https://git-lfs.github.com/s'):
    files.write_text(path, text)
    assert files.read_text(path) == text
  files.write_text(path, '/annex/objects/' + 'x' * 40000)  # too long for one
  assert len(files.read_text(path)) > 40000


@pytest.mark.parametrize(
  'reader', spoilt_readers.READERS, ids=lambda reader: reader.name
)
def test_no_reader_waits_or_falls(tmp_path, reader):
  """Each of its files in turn, another kind each."""
  good, used = tmp_path / 'good', tmp_path / 'used'
  good.mkdir()
  reader.make(good)
  found = {p for some in reader.spoilt for p in good.glob(some) if p.is_file()}
  shutil.copytree(good, used)
  kinds = list(NOT_FILES)
  for number, path in enumerate(sorted(found)[:24]):
    kind = kinds[(number * 5 + len(reader.name)) % len(kinds)]
    place = used / path.relative_to(good)
    place.unlink()
    NOT_FILES[kind](place)
    outcome = spoilt_readers.attempt(reader, used, place, kind)
    assert not outcome.crash, f'{place} ({kind}): {outcome.crash}'
    shutil.rmtree(used)
    shutil.copytree(good, used)


def _missing(folder: pathlib.Path, name: str) -> None:
  path = folder / name
  path.unlink()
  NOT_FILES['link of git-annex'](path)


@pytest.mark.parametrize(
  'name',
  [
    'sub-01/anat/sub-01_swi.nii.gz',
    'sub-01/anat/sub-01_swi.json',
    'derivatives/truth/sub-01/anat/sub-01_seg-cmb_dseg.nii.gz',
    'dataset_description.json',
  ],
)
def test_a_cohort_names_the_file_whose_content_is_elsewhere(tmp_path, name):
  small_cohorts.write_cohort(tmp_path, subjects=2)
  _missing(tmp_path, name)
  with says(InputError, name):
    found = cohort.read_cohort(tmp_path)
    cohort.refuse_broken(found, 'leave it out')
    for scan in found.scans:
      cohort.scan_fingerprint(scan)


@pytest.mark.parametrize('kind', ['link of git-annex', 'pipe', 'Git LFS'])
@pytest.mark.parametrize('mode', ['dryrun', 'run'])
# How ml_collections reads a config file.
@pytest.mark.filterwarnings('ignore:.*load_module.*:DeprecationWarning')
def test_a_study_names_the_file_before_any_work(tmp_path, capsys, kind, mode):
  small_cohorts.write_cohort(tmp_path / 'scans', subjects=4)
  path = tmp_path / 'scans' / 'sub-02' / 'anat' / 'sub-02_swi.nii.gz'
  path.unlink()
  NOT_FILES[kind](path)
  (tmp_path / 'small.py').write_text(
    'from configs import smoke\n'
    'def get_config(preset=""):\n'
    '  config = smoke.get_config(preset)\n'
    f'  config.cohorts.btumor_3t = {str(tmp_path / "scans")!r}\n'
    '  config.strategies, config.tests = ("scratch",), ("btumor_3t",)\n'
    '  return config\n'
  )
  config, workdir = f'--config={tmp_path / "small.py"}', tmp_path / 'run'
  with spoilt_readers.limited(30, 30):
    argv = ['main', config, f'--workdir={workdir}', f'--mode={mode}']
    assert main.main(argv) == 2
  printed(capsys.readouterr().err, path.name)
  assert not (workdir / 'models').exists()


@pytest.fixture
def open_path():
  """As tmp_path, whose folders are for one user only."""
  with tempfile.TemporaryDirectory() as made:
    os.chmod(made, 0o755)
    yield pathlib.Path(made)


def test_a_person_whose_folder_is_closed_is_not_forgotten(open_path):
  tmp_path = open_path
  small_cohorts.write_cohort(tmp_path, subjects=3)
  # All is imported that somebody else may not read.
  assert len(scans.find(tmp_path).scans) == 3
  (tmp_path / 'sub-02' / 'anat').chmod(0)
  with _as_somebody():
    found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-01', 'sub-03']
  assert [name for name, _ in found.broken] == ['sub-02']
  assert 'sub-02/anat: cannot be read' in found.broken[0][1]
  flat = tmp_path / 'flat'
  for name in ('a', 'b'):
    source = tmp_path / 'sub-01' / 'anat' / 'sub-01_swi.nii.gz'
    (flat / name).mkdir(parents=True)
    shutil.copy(source, flat / name / f'{name}_swi.nii.gz')
  (flat / 'b').chmod(0)
  with _as_somebody():
    found = scans.find(flat)
  assert [scan.name for scan in found.scans] == ['sub-a']
  assert [name for name, _ in found.broken] == ['sub-b']
  (flat / 'b').chmod(0o755)
  (tmp_path / 'sub-02' / 'anat').chmod(0o755)
  (tmp_path / 'derivatives' / 'truth').chmod(0)
  with _as_somebody(), pytest.raises(InputError, match='truth: cannot'):
    scans.find(tmp_path)
  (tmp_path / 'derivatives' / 'truth').chmod(0o755)


def test_a_link_in_a_circle_closes_no_folder(tmp_path):
  small_cohorts.write_cohort(tmp_path, subjects=2)
  for folder in (tmp_path, tmp_path / 'sub-01' / 'anat'):
    (folder / 'circle').symlink_to('circle')
  found = scans.find(tmp_path)
  assert [scan.name for scan in found.scans] == ['sub-01', 'sub-02']
  assert not found.broken
