"""Sealed files: what comes back is what was written, or one sentence."""

import json
import os
import shutil

import numpy as np
import pytest

from cmbjax import files, sealed
from cmbjax.errors import InputError
from tests.messages import says

VALUE = {'a': [1, 2.5, None], 'b': {'10': 'x', '9': True}}
ARRAYS = {
  'x': np.arange(6, dtype=np.float32).reshape(2, 3),
  'name': np.array(['one', 'two']),
  'none': np.zeros((0, 3), np.int8),
}


def test_json_comes_back(tmp_path):
  path = tmp_path / 'a.json'
  sealed.write_json(path, {**VALUE, 'c': (1, 2), 'd': {10: 1, 9: 2}})
  wanted = VALUE | {'c': [1, 2], 'd': {'10': 1, '9': 2}}
  assert sealed.read_json(path) == wanted
  assert list(sealed.read_json(path)) == [*VALUE, 'c', 'd']
  assert files.read_object(path).keys() == {*wanted, sealed.SEAL}


def test_arrays_come_back(tmp_path):
  path = tmp_path / 'a.npz'
  sealed.write_arrays(path, ARRAYS)
  found = sealed.read_arrays(path)
  assert found.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
  'change',
  [
    {'a': [1, 2.5, 0]},
    {'more': 1},
    {'b': {'10': 'x', '9': 1.5}},
    {sealed.SEAL: '0' * 16},
    {sealed.SEAL: 7},
  ],
)
def test_changed_json_is_not_believed(tmp_path, change):
  path = tmp_path / 'a.json'
  sealed.write_json(path, VALUE)
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with says(InputError, 'a.json'):
    sealed.read_json(path)


def test_json_without_a_digest_is_not_believed(tmp_path):
  files.write_json(tmp_path / 'a.json', VALUE)
  with says(InputError, 'a.json'):
    sealed.read_json(tmp_path / 'a.json')
  (tmp_path / 'a.json').write_text('[1]')
  with says(InputError, 'JSON'):
    sealed.read_json(tmp_path / 'a.json')


@pytest.mark.parametrize(
  'change',
  [
    {'x': ARRAYS['x'] + 1},
    {'x': ARRAYS['x'].reshape(3, 2)},
    {'x': ARRAYS['x'].view(np.int32)},
    {'more': np.zeros(1)},
    {'name': np.array(['one', 'twO'])},
  ],
  ids=['values', 'shape', 'type', 'more', 'text'],
)
def test_changed_arrays_are_not_believed(tmp_path, change):
  path = tmp_path / 'a.npz'
  sealed.write_arrays(path, ARRAYS)
  with np.load(path) as stored:
    arrays = dict(stored)
  np.savez(path, **arrays | change)
  with says(InputError, 'a.npz'):
    sealed.read_arrays(path)
  del arrays[sealed.SEAL]
  np.savez(path, **arrays)
  with says(InputError, 'a.npz'):
    sealed.read_arrays(path)


def test_a_file_copied_over_another_is_noticed(tmp_path):
  sealed.write_json(tmp_path / 'a.json', VALUE)
  shutil.copy(tmp_path / 'a.json', tmp_path / 'b.json')
  with says(InputError):
    sealed.read_json(tmp_path / 'b.json')
  sealed.write_arrays(tmp_path / 'a.npz', ARRAYS)
  shutil.copy(tmp_path / 'a.npz', tmp_path / 'b.npz')
  with says(InputError):
    sealed.read_arrays(tmp_path / 'b.npz')
  (tmp_path / 'other').mkdir()  # a folder may be copied
  shutil.copy(tmp_path / 'a.json', tmp_path / 'other')
  assert sealed.read_json(tmp_path / 'other/a.json') == VALUE


def test_a_list_names_what_is_wrong(tmp_path):
  (tmp_path / 'in').mkdir()
  members = {}
  for name in ('one', 'in/two'):
    members[name] = tmp_path / name
    members[name].write_text(name)
  listed = tmp_path / 'list.json'
  sealed.write_list(listed, members)
  assert sealed.damage(listed, tmp_path) == ''
  times = os.stat(members['in/two'])
  members['in/two'].write_text('in/twO')  # as long as before, and as old
  os.utime(members['in/two'], ns=(times.st_atime_ns, times.st_mtime_ns))
  assert sealed.damage(listed, tmp_path) == 'in/two was changed'
  members['in/two'].unlink()
  assert sealed.damage(listed, tmp_path) == 'in/two is missing'
  members['in/two'].mkdir()
  assert sealed.damage(listed, tmp_path) == 'in/two is missing'
  listed.write_text(listed.read_text().replace('in/two', 'in/six'))
  wrong = 'list.json is missing or damaged'
  assert sealed.damage(listed, tmp_path) == wrong
  listed.unlink()
  assert sealed.damage(listed, tmp_path) == wrong
  sealed.write_json(listed, {'of': 'another version'})
  assert 'list.json lists no files' in sealed.damage(listed, tmp_path)
