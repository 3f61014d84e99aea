"""Builds: whole or absent, used again, without TensorFlow, and read back."""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cmbjax.candidates.gates import Gates
from cmbjax.data import (
  build_command,
  cohort,
  cohort_builder,
  examples,
  patches,
  tables,
)
from cmbjax.errors import InputError, NoInputError
from tests import small_cohorts
from tests.messages import says

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp('cohort-with-a-name-of-its-own')
  small_cohorts.write_cohort(folder, subjects=3, simulated=True)
  return folder


@pytest.fixture(scope='module')
def built(source, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp('data')
  return examples.build('small', source, data_dir)


def test_records_are_what_the_scans_hold(source, built):
  found = examples.load(built)
  assert found.image.dtype == np.float32
  assert found.image.shape == (15, 24, 24, 12)
  assert found.label.sum() == 9
  assert sorted(found.key) == found.key.tolist()
  assert set(found.cohort) == {'small'}
  for scan in cohort.read_cohort(source).scans:
    loaded = cohort.load_scan(scan)
    own = examples.select(found, found.scan == scan.name)
    expected = patches.cut(loaded.swi, own.centre).astype(np.float16)
    np.testing.assert_array_equal(own.image, expected)
    np.testing.assert_array_equal(own.label, own.lesion > 0)
    assert sorted(own.lesion) == [0, 0, 1, 2, 3]
    at = loaded.truth.labels[tuple(own.centre.T)]
    np.testing.assert_array_equal(at, own.lesion)
    world = own.centre @ loaded.affine[:3, :3].T + loaded.affine[:3, 3]
    np.testing.assert_allclose(own.centre_mm, world, atol=1e-4)
    assert (np.diff(own.score) <= 0).all()
    assert own.key[2] == f'{scan.subject}/{scan.name}/0002'


def test_scans_and_metadata(built):
  scans = examples.load_scans(built)
  assert scans.scan.tolist() == ['sub-01', 'sub-02', 'sub-03']
  assert scans.num_lesions.tolist() == [3, 3, 3]
  assert scans.num_missed.tolist() == [0, 0, 0]
  assert scans.num_candidates.tolist() == [5, 5, 5]
  assert scans.simulated.all()
  assert set(scans.cohort) == {'small'}
  np.testing.assert_allclose(scans.echo_time_s, 0.016)
  stored = examples.metadata(built)
  assert stored['fingerprint'] == built.parts[-4]
  assert stored['gates']['growth_mm'] == 5.0


def test_all_true_lesions_are_kept_with_a_picture_of_the_missed(tmp_path):
  """One lesion is invisible: it has no candidate, but a row and a picture."""
  made = small_cohorts.write_cohort(tmp_path / 'in', subjects=2)
  one = made['sub-02']
  labels = one.lesions.copy()
  labels[30:32, 30:32, 8] = 9
  path = small_cohorts.label_path(tmp_path / 'in', 'sub-02')
  small_cohorts.save(path, labels, one.affine)
  built = examples.build('small', tmp_path / 'in', tmp_path / 'data')
  found = examples.load_lesions(built, cohort='other')
  assert found.lesion.tolist() == [1, 2, 3, 1, 2, 3, 9]
  assert found.key[-1] == 'sub-02/sub-02/lesion-009'
  assert set(found.cohort) == {'other'}
  assert found.why.tolist() == [''] * 6 + ['never proposed']
  assert np.isnan(found.score).all()
  assert found.image[-1].shape == (16, 16, 8)
  assert all(image is None for image in found.image[:-1])
  world = one.lesion_voxels @ one.affine[:3, :3].T + one.affine[:3, 3]
  np.testing.assert_allclose(found.centre_mm[3:6], world, atol=0.3)
  both = examples.concatenate(
    [
      examples.select(found, found.scan == name)
      for name in ('sub-01', 'sub-02')
    ]
  )
  assert both.key.tolist() == found.key.tolist()
  scans = examples.load_scans(built)
  assert scans.num_lesions.sum() == len(found.key)
  assert scans.num_missed.sum() == (found.why != '').sum()


def test_the_source_path_is_not_in_the_data(source, built):
  for path in built.parents[1].rglob('*'):
    if path.is_file():
      assert source.name.encode() not in path.read_bytes(), path


def test_the_same_build_is_used_again(source, built, monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError('built again')

  monkeypatch.setattr(cohort_builder, 'make_records', refuse)
  assert examples.build('small', source, built.parents[3]) == built


def test_another_config_uses_the_tables(source, built, monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError('detected again')

  monkeypatch.setattr(tables, 'make_table', refuse)
  folder = examples.build('small', source, built.parents[3], config='resampled')
  assert folder.parent.name == 'resampled'
  native, resampled = examples.load(built), examples.load(folder)
  assert native.key.tolist() == resampled.key.tolist()
  # The phantom has this very grid already.
  np.testing.assert_allclose(native.image, resampled.image, atol=1e-3)


def test_changed_labels_make_another_build(source, built, tmp_path):
  made = small_cohorts.write_cohort(tmp_path / 'c', subjects=3, simulated=True)
  same = examples.build('small', tmp_path / 'c', built.parents[3])
  assert same == built
  path = small_cohorts.label_path(tmp_path / 'c', 'sub-02')
  one = made['sub-02']
  small_cohorts.save(path, one.lesions * (one.lesions < 3), one.affine)
  changed = examples.build('small', tmp_path / 'c', built.parents[3])
  assert changed != built
  assert examples.load(changed).label.sum() == 8


def test_threads_change_nothing(source, built, tmp_path):
  one = examples.build('small', source, tmp_path, jobs=1)
  for left, right in zip(examples.load(one), examples.load(built)):
    np.testing.assert_array_equal(left, right)


def test_tensorflow_is_never_imported(source, tmp_path):
  program = (
    'import sys\n'
    'from cmbjax.data import examples\n'
    f'folder = examples.build("ccm_3t", {str(source)!r}, {str(tmp_path)!r})\n'
    'print(examples.load(folder).label.sum(), folder)\n'
    'assert "tensorflow" not in sys.modules\n'
  )
  done = _python(program)
  assert done.returncode == 0, done.stderr
  assert done.stdout.split()[0] == '9'
  assert len(done.stdout.splitlines()) == 1  # TFDS itself prints nothing


def test_a_mistake_leaves_nothing_behind(source, tmp_path):
  small_cohorts.write_cohort(tmp_path / 'c', subjects=3)
  path = tmp_path / 'c/sub-03/anat/sub-03_swi.nii.gz'
  path.write_bytes(path.read_bytes()[:5000])
  with says(InputError, 'sub-03_swi.nii.gz'):
    examples.build('small', tmp_path / 'c', tmp_path / 'data')
  names = {p.name for p in (tmp_path / 'data').rglob('*')}
  assert not {n for n in names if n.startswith('1.2.0') or 'incompl' in n}


def test_a_killed_build_is_not_taken_for_a_build(source, tmp_path):
  """SIGKILL while records are written; the next run cleans up and builds."""
  program = (
    'import time\n'
    'from cmbjax.data import cohort_builder, examples\n'
    'make = cohort_builder.make_records\n'
    'def slow(scan, **how):\n'
    '  if scan.name == "sub-03":\n'
    f'    open({str(tmp_path / "here")!r}, "w").close()\n'
    '    time.sleep(600)\n'
    '  return make(scan, **how)\n'
    'cohort_builder.make_records = slow\n'
    f'examples.build("small", {str(source)!r}, {str(tmp_path)!r}, jobs=1)\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', program],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  ) as process:
    while not (tmp_path / 'here').exists():  # it hides standard output
      assert process.poll() is None, 'it ended before it could be killed'
      time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
  left = [p for p in tmp_path.rglob('*') if 'incomplete' in p.name]
  assert left
  assert not list(tmp_path.rglob('dataset_info.json'))
  other = left[0].parent / f'1{left[0].name.rpartition("_")[2]}'
  other.mkdir()  # version 11.2.0 beside 1.2.0
  folder = examples.build('small', source, tmp_path)
  assert len(examples.load(folder).key) == 15
  assert other.exists()
  other.rmdir()
  assert not [p for p in tmp_path.rglob('*') if 'incomplete' in p.name]


FACTS = ('metadata.json', 'dataset_info.json', 'features.json')


def _edit(path):
  """A byte of an array file, or a letter of a text."""
  data = bytearray(path.read_bytes())
  at = len(data) // 2
  data[at] = ord('7') if data[at] != ord('7') else ord('8')
  path.write_bytes(bytes(data))


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {'edit': _edit, 'cut': _cut, 'delete': pathlib.Path.unlink}


@pytest.mark.parametrize('how', DAMAGES)
@pytest.mark.parametrize('name', [*FACTS, '*.array_record*', 'hashes.json'])
def test_a_damaged_build_is_made_again_with_a_word(
  built, source, tmp_path, capsys, name, how
):
  """The very same, and never believed as it is."""
  shutil.copytree(built.parents[3], tmp_path / 'data')
  folder = tmp_path / 'data' / built.relative_to(built.parents[3])
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  (path,) = folder.glob(name)
  DAMAGES[how](path)
  capsys.readouterr()
  assert examples.build('small', source, tmp_path / 'data') == folder
  said = capsys.readouterr().err
  assert said.count('note: ') == 1 + said.count('note: truth of')
  assert f'note: {folder}: is damaged (' in said
  assert path.name in said
  for left, right in zip(examples.load(folder), examples.load(built)):
    np.testing.assert_array_equal(left, right)
  assert set(before) == {path.name for path in folder.iterdir()}
  for name in ('metadata.json', 'features.json'):
    assert (folder / name).read_bytes() == before[name]
  assert examples.build('small', source, tmp_path / 'data') == folder
  said = capsys.readouterr().err
  assert said.count('note: ') == said.count('note: truth of')


@pytest.mark.parametrize('how', DAMAGES)
@pytest.mark.parametrize('name', [*FACTS, '*.array_record*'])
def test_a_damaged_data_set_is_refused(built, tmp_path, name, how):
  shutil.copytree(built, tmp_path / '1.2.0')
  (path,) = (tmp_path / '1.2.0').glob(name)
  DAMAGES[how](path)
  read = (
    examples.load,
    examples.load_scans,
    examples.load_lesions,
    lambda folder: examples.load_as('x', folder, config='native'),
  )
  error = (InputError, NoInputError) if path.name == FACTS[0] else InputError
  for one in read:
    with says(error):
      one(tmp_path / '1.2.0')
  with says(NoInputError):
    examples.load(tmp_path)


@pytest.mark.parametrize('name', [*FACTS, '*.array_record*'])
def test_a_damaged_data_set_without_hashes_is_one_sentence(
  built, tmp_path, capsys, name
):
  """Of an older cmbjax, or of TFDS itself: a cut is found all the same."""
  shutil.copytree(built, tmp_path / '1.2.0')
  (tmp_path / '1.2.0' / 'hashes.json').unlink()
  examples.load(tmp_path / '1.2.0')
  assert 'has no hashes.json' in capsys.readouterr().err
  (path,) = (tmp_path / '1.2.0').glob(name)
  _cut(path)
  with says(InputError):
    examples.load(tmp_path / '1.2.0')


def test_a_damaged_table_is_made_again_with_a_word(
  built, source, tmp_path, capsys
):
  """Labels that somebody changed, in a file that reads well."""
  folder = examples.build('small', source, tmp_path / 'data')
  (path,) = (tmp_path / 'data' / 'tables').glob('sub-02-*.npz')
  table = tables.load_table(path)
  assert table is not None
  with np.load(path) as stored:
    arrays = dict(stored)
  arrays['lesion'] = np.zeros_like(arrays['lesion'])
  np.savez(path, **arrays)
  shutil.rmtree(folder)
  capsys.readouterr()
  assert examples.build('small', source, tmp_path / 'data') == folder
  said = capsys.readouterr().err
  assert said.count('note: ') == 1 + said.count('note: truth of')
  assert f'{path}: differs from its digest' in said
  for left, right in zip(examples.load(folder), examples.load(built)):
    np.testing.assert_array_equal(left, right)
  np.testing.assert_array_equal(tables.load_table(path).lesion, table.lesion)


def test_a_table_copied_over_another_is_not_believed(built, tmp_path, capsys):
  first, second, *_ = sorted((built.parents[3] / 'tables').glob('*.npz'))
  shutil.copy(first, tmp_path / second.name)
  assert tables.load_table(tmp_path / second.name) is None
  assert 'differs from its digest' in capsys.readouterr().err
  assert tables.load_table(tmp_path / 'none.npz') is None
  assert capsys.readouterr().err == ''


def test_one_image_under_two_subjects_is_refused(tmp_path):
  small_cohorts.write_cohort(tmp_path / 'c', subjects=2)
  small_cohorts.write_cohort(tmp_path / 'c', subjects=1, prefix='sub-twin')
  with says(InputError, 'twin01'):
    examples.build('small', tmp_path / 'c', tmp_path / 'data')


def test_one_patch_under_two_subjects_is_refused(tmp_path):
  """The scans differ in one corner voxel, their candidates do not."""
  small_cohorts.write_cohort(tmp_path / 'c', subjects=1)
  one = small_cohorts.phantom(1)
  one.swi[0, 0, 0] = 99
  small_cohorts.write_scan(tmp_path / 'c', 'sub-02', one)
  path = small_cohorts.label_path(tmp_path / 'c', 'sub-02')
  small_cohorts.save(path, one.lesions, one.affine)
  with says(InputError, 'sub-01/sub-01 sub-02/sub-02'):
    examples.build('small', tmp_path / 'c', tmp_path / 'data')


def test_scans_said_to_be_simulated_are_another_data_set(source):
  """Or pages of the old one would call them scans of people."""
  found = cohort.read_cohort(source)
  marks = {
    cohort_builder.fingerprint(
      dataclasses.replace(found, simulated=simulated), gates=Gates()
    )
    for simulated in (False, True)
  }
  assert len(marks) == 2


def test_shared_images_across_cohorts_are_found(source, built, tmp_path):
  small_cohorts.write_cohort(tmp_path / 'c', subjects=1, prefix='sub-b')
  other = examples.load(examples.build('other', tmp_path / 'c', tmp_path / 'd'))
  first = examples.load(built)
  assert examples.shared_images(first) == []
  pairs = examples.shared_images(examples.concatenate([first, other]))
  assert len(pairs) == 5
  assert pairs[0] == ('sub-01/sub-01/0000', 'sub-b01/sub-b01/0000')


def test_select_and_concatenate(built):
  found = examples.load(built)
  left = examples.select(found, found.subject == 'sub-01')
  right = examples.select(found, np.flatnonzero(found.subject == 'sub-03'))
  both = examples.concatenate([left, right])
  assert isinstance(both, examples.Examples)
  assert both.key.tolist() == [*left.key, *right.key]
  with says(InputError, 'sub-01/sub-01/0000'):
    examples.concatenate([left, left])
  scans = examples.load_scans(built)
  with says(InputError):
    examples.concatenate([scans, scans])


def test_nothing_dark_is_an_error(tmp_path):
  small_cohorts.write_cohort(tmp_path / 'c', num_lesions=0, num_mimics=0)
  with says(InputError):
    examples.build('small', tmp_path / 'c', tmp_path / 'data')


def test_scans_without_a_truth_are_said_and_listed(tmp_path, capsys):
  small_cohorts.write_cohort(tmp_path / 'c', subjects=1)
  small_cohorts.write_scan(tmp_path / 'c', 'sub-77', small_cohorts.phantom(7))
  folder = examples.build('small', tmp_path / 'c', tmp_path / 'data')
  assert '1 scans have no truth and are left out (sub-77)' in (
    capsys.readouterr().err
  )
  assert examples.metadata(folder)['unlabelled'] == ['sub-77']
  assert examples.load_scans(folder).scan.tolist() == ['sub-01']


def test_wrong_names(source, tmp_path):
  with says(InputError, "'naive'"):
    examples.build('small', source, tmp_path, config='naive')
  with says(NoInputError, 'x_dataset_builder'):
    examples.build('../x', source, tmp_path)
  with says(NoInputError):
    examples.build('small', tmp_path / 'nowhere', tmp_path / 'data')
  assert not (tmp_path / 'data').exists()


def test_a_data_dir_that_is_a_file(source, tmp_path):
  (tmp_path / 'file').write_text('')
  with says(InputError):
    examples.build('small', source, tmp_path / 'file')


def test_work_stays_in_order_and_within_bounds():
  running = []

  def work(number):
    running.append(number)
    time.sleep(0.01 * (3 - number % 3))
    return number

  found = []
  for number in cohort_builder.in_order(work, range(12), at_once=2):
    found.append(number)
    assert max(running) <= number + 3
  assert found == list(range(12))


def test_the_build_command(source, tmp_path, capsys):
  flags = [
    'tfds_builders/btumor_3t',
    f'--manual_dir={source}',
    f'--data_dir={tmp_path}',
  ]
  assert _command(flags) == 0
  folder = tmp_path / 'btumor_3t/native/1.2.0'
  assert capsys.readouterr().out.strip() == str(folder)
  info = json.loads((folder / 'dataset_info.json').read_text())
  assert info['name'] == 'btumor_3t'
  assert 'Chen' in info['citation']
  assert len(examples.load(folder).key) == 15
  small_cohorts.write_cohort(tmp_path / 'c', subjects=1)
  flags[1] = f'--manual_dir={tmp_path / "c"}'
  with says(InputError):
    _command(flags)
  assert _command([*flags, '--overwrite', '--config=native']) == 0
  assert len(examples.load(folder).key) == 5
  _edit(folder / 'metadata.json')
  with says(InputError, 'metadata.json'):
    _command(flags)
  assert _command([*flags, '--overwrite']) == 0


def test_the_build_command_with_a_new_cohort(source, tmp_path, capsys):
  """No folder of a builder, no list of names: a plain name is enough."""
  flags = [f'--manual_dir={source}', f'--data_dir={tmp_path}']
  assert _command(['clinic_15t', *flags]) == 0
  folder = tmp_path / 'clinic_15t/native/1.2.0'
  assert capsys.readouterr().out.strip() == str(folder)
  assert set(examples.load(folder).cohort) == {'clinic_15t'}
  assert set(examples.load_as('x', folder, config='native')[1].cohort) == {'x'}
  with says(InputError, "'1.5T'"):
    _command(['1.5T', *flags])


def test_the_build_command_with_other_candidates(source, tmp_path, capsys):
  own = 'tests.own_parts:dark_spots'
  flags = [f'--manual_dir={source}', f'--data_dir={tmp_path}']
  assert _command(['ccm_3t', *flags, f'--candidates={own}']) == 0
  folder = pathlib.Path(capsys.readouterr().out.strip())
  assert examples.metadata(folder)['gates']['generator'] == own
  with says(InputError):
    _command(['ccm_3t', *flags])
  with says(InputError, '--candidates dog'):
    _command(['ccm_3t', *flags, '--candidates=dog'])


def test_the_build_command_without_a_builder(source, tmp_path):
  flags = [f'--manual_dir={source}', f'--data_dir={tmp_path / "d"}']
  with says(NoInputError, 'nowhere_dataset_builder.py'):
    _command(['tfds_builders/nowhere', *flags])


@pytest.mark.parametrize('builder', ['mine', './mine', 'tfds_builders/ccm_3t'])
def test_the_build_command_does_not_replace_an_own_builder(
  source, tmp_path, monkeypatch, builder
):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / builder
  folder.mkdir(parents=True)
  (folder / f'{folder.name}_dataset_builder.py').write_text('Builder = 1')
  with says(InputError):
    _command([builder, f'--manual_dir={source}', f'--data_dir={tmp_path}'])


def _command(flags):
  parser = argparse.ArgumentParser()
  build_command.add_arguments(parser)
  return build_command.run(parser.parse_args(flags))


def _python(program):
  return subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
  )
