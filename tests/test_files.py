"""Whole files, and progress that is plain outside a terminal."""

import errno
import io
import json
import math
import os
import re
import subprocess
import sys
import types

import pytest

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.progress import Progress, readable
from tests.messages import says


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'sub' / 'a.txt'
  files.write_text(path, 'old')

  def write_and_fail():
    with files.whole(path) as temporary:
      temporary.write_text('half')
      raise RuntimeError

  with pytest.raises(RuntimeError):
    write_and_fail()
  assert path.read_text() == 'old'
  assert os.listdir(path.parent) == ['a.txt']


def test_a_full_disk_is_one_clear_error(tmp_path):
  path = tmp_path / 'a.bin'

  def write_on_full_disk():
    with files.whole(path):
      raise OSError(errno.ENOSPC, 'No space left on device')

  with says(InputError, 'a.bin No'):
    write_on_full_disk()
  assert os.listdir(tmp_path) == []


def test_a_name_that_is_too_long_is_one_clear_error(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # a relative folder, as people give it
  with says(InputError):
    files.write_text(os.path.join('out', 'x' * 250), '')


def test_errors_about_other_files_pass(tmp_path):
  def read_missing():
    with files.whole(tmp_path / 'out' / 'a') as _:
      os.stat('/nonexistent/file')

  with pytest.raises(FileNotFoundError):
    read_missing()


def test_mode_follows_the_umask(tmp_path):
  old = os.umask(0o027)
  try:
    files.write_text(tmp_path / 'a', '')
  finally:
    os.umask(old)
  assert (tmp_path / 'a').stat().st_mode & 0o777 == 0o640


def test_json_refuses_nan_and_reads_back(tmp_path):
  path = tmp_path / 'a.json'
  files.write_json(path, {'b': [1, 2.5, None], 'a': 'x'})
  assert files.read_json(path) == {'b': [1, 2.5, None], 'a': 'x'}
  with says(ValueError, 'JSON'):
    files.write_json(path, float('nan'))
  path.write_text('{')
  with says(InputError, 'a.json JSON'):
    files.read_json(path)
  with says(InputError, 'b.json'):
    files.read_json(tmp_path / 'b.json')


def test_digest_separates_its_parts(tmp_path):
  path = tmp_path / 'a'
  path.write_bytes(b'x')
  assert len(files.digest(path)) == 16
  assert files.digest(b'ab', b'c') != files.digest(b'a', b'bc')
  assert files.digest({'a': 1, 'b': 2}) == files.digest({'b': 2, 'a': 1})
  assert files.digest(json.loads('[1]')) != files.digest([2])


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress_is_plain_lines_outside_a_terminal():
  out = io.StringIO()
  with Progress('work', 3, stream=out) as progress:
    for _ in range(3):
      progress.advance()
  lines = out.getvalue().splitlines()
  assert lines[0] == 'work 0/3'
  assert lines[-1].startswith('work 3/3 in 0:00')
  assert '\r' not in out.getvalue()
  assert len(lines) == 2  # not one line per piece


def test_progress_moves_on_a_terminal():
  out = Terminal()
  with Progress('work', 4, done=2, stream=out) as progress:
    progress.advance(2, note='loss 0.1')
  assert '[############............] work 2/4' in out.getvalue()
  assert out.getvalue().rstrip(' ').endswith('loss 0.1\n')


@pytest.mark.parametrize(
  ('columns', 'shown'),
  [
    (40, '[######.......] a long work 1/2, 0:00 l'),
    (0, '[############............] a long work 1/2, 0:00 left, n'),
    (200, '[############............] a long work 1/2, 0:00 left, n'),
  ],
)
def test_the_moving_line_fits_the_terminal(monkeypatch, columns, shown):
  out = Terminal()
  out.fileno = lambda: 2
  size = os.terminal_size((columns, 0))
  monkeypatch.setattr('os.get_terminal_size', lambda _: size)
  with Progress('a long work', 2, stream=out) as progress:
    progress._bar.mininterval = 0
    progress.advance(note='n')
  drawn = [line.rstrip() for line in re.split('[\r\n]', out.getvalue())]
  assert shown in drawn


def test_progress_starts_no_thread_and_no_process():
  code = (
    'import io, multiprocessing, threading\n'
    'from multiprocessing import resource_tracker\n'
    'from cmbjax.progress import Progress\n'
    'out = io.StringIO(); out.isatty = lambda: True\n'
    'with Progress("a", 2, stream=out) as progress:\n'
    '  progress.advance()\n'
    '  assert threading.active_count() == 1\n'
    '  assert resource_tracker._resource_tracker._fd is None\n'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_time_left_is_that_of_new_pieces(monkeypatch):
  """Two in 20 s and two to go: the six that were there took none of it."""
  seconds, out = [0.0], io.StringIO()
  clock = types.SimpleNamespace(monotonic=lambda: seconds[0])
  monkeypatch.setattr('cmbjax.progress.time', clock)
  with Progress('work', 10, done=6, stream=out) as progress:
    seconds[0] = 20.0
    progress.advance(2)
  assert out.getvalue().splitlines()[1] == 'work 8/10, 0:20 left'


def test_progress_says_nothing_when_all_is_there():
  out = io.StringIO()
  with Progress('work', 3, done=3, stream=out):
    pass
  assert out.getvalue() == ''


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [(0, '0:00'), (95, '1:35'), (4000, '1:06:40'), (-1, '0:00')],
)
def test_readable(seconds, text):
  assert readable(seconds) == text


def test_a_file_in_the_way_of_a_folder(tmp_path):
  (tmp_path / 'a').write_text('')
  for path in (tmp_path / 'a', tmp_path / 'a' / 'b'):
    with says(InputError):
      files.make_folder(path)


def test_json_that_is_nested_too_deeply(tmp_path):
  path = tmp_path / 'deep.json'
  path.write_text('[' * 200_000)
  with says(InputError, 'deep.json JSON'):
    files.read_json(path)


def test_numbers_of_json_are_those_that_a_float_holds():
  yes = (0, -3, 2.5, 10**300)
  no = (True, None, '1', [1], math.nan, math.inf, 10**400, -(10**400))
  assert [files.is_number(value) for value in yes] == [True] * len(yes)
  assert [files.is_number(value) for value in no] == [False] * len(no)


def test_half_characters_are_written_as_their_escape(tmp_path):
  """Of a JSON, or of a name that an old disk has in Latin-1."""
  for half in ('\ud800', '\udcfc', os.fsdecode(b'm\xfcller')):
    files.write_json(tmp_path / 'a.json', {'who': half})
    assert files.read_json(tmp_path / 'a.json') == {'who': half}
    files.write_text(tmp_path / 'a.txt', half)
    files.append_text(tmp_path / 'b.txt', half)
  assert files.read_text(tmp_path / 'b.txt').startswith('\\ud800\\udcfcm')


def test_a_half_character_can_be_printed():
  code = (
    'import os, sys; from cmbjax import errors;'
    'sys.exit(errors.exit_code(lambda: print(os.fsdecode(b"m\\xfcller")) or 0))'
  )
  said = subprocess.run([sys.executable, '-c', code], capture_output=True)
  assert (said.returncode, said.stdout) == (0, b'm\\udcfcller\n')


def test_files_get_their_names_together(tmp_path):
  files.write_text(tmp_path / 'a', 'old')

  def write(fails):
    with files.together():
      files.write_text(tmp_path / 'a', 'new')
      files.write_text(tmp_path / 'sub' / 'b', 'new')
      files.write_text(tmp_path / 'a', 'newer')
      assert (tmp_path / 'a').read_text() == 'old'
      if fails:
        raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write(True)
  assert sorted(os.listdir(tmp_path)) == ['a', 'sub']
  assert os.listdir(tmp_path / 'sub') == []
  with files.together():  # the outer one decides
    write(False)
    assert (tmp_path / 'a').read_text() == 'old'
  assert (tmp_path / 'a').read_text() == 'newer'
  assert os.listdir(tmp_path / 'sub') == ['b']
  files.write_text(tmp_path / 'a', 'last')
  assert sorted(os.listdir(tmp_path)) == ['a', 'sub']


def test_a_place_is_checked_before_it_is_made(tmp_path):
  files.check_place(tmp_path / 'a' / 'b')
  files.check_place(os.path.relpath(tmp_path / 'a'))
  assert not any(tmp_path.iterdir())
  (tmp_path / 'file').write_text('')
  for path in (tmp_path / 'file', tmp_path / 'file' / 'b'):
    with says(InputError, 'file'):
      files.check_place(path)
  old = tmp_path / os.fsdecode(b'm\xfcller')
  files.check_place(old / 'a')
  with pytest.raises(InputError, match='UTF-8'):
    files.check_place(old / 'a', utf8=True)
  files.check_place(tmp_path / 'müller', utf8=True)


def test_a_copy_is_whole_or_absent(tmp_path):
  (tmp_path / 'a').write_bytes(bytes(3 << 20))
  files.copy(tmp_path / 'a', tmp_path / 'sub' / 'b')
  assert (tmp_path / 'sub' / 'b').read_bytes() == bytes(3 << 20)
  with says(InputError, 'none'):
    files.copy(tmp_path / 'none', tmp_path / 'c')
  assert not (tmp_path / 'c').exists()
