"""`cmbjax build tfds_builders/simulated_patches` to a study's examples."""

import numpy as np
import pytest

from cmbjax.cli import main
from cmbjax.data import built as built_lib
from cmbjax.data import examples
from cmbjax.errors import InputError
from cmbjax.simulate import patches, protocols
from tfds_builders.simulated_patches import (
  simulated_patches_dataset_builder as builder,
)


def fake_group(protocol, number, *, seed):
  """Patches without physics: the builder is tested, not the images."""
  rng = np.random.default_rng([seed, number])
  label = (np.arange(patches.GROUP) % 3 == 0).astype(np.int8)
  return patches.Patches(
    image=rng.integers(0, 256, (patches.GROUP, 24, 24, 12)).astype(np.float32)
    / np.float32(255),
    label=label,
    kind=np.where(label, 'microbleed', 'tissue'),
    moment=label * np.float32(1),
    diameter_mm=label * np.float32(2),
    contrast=label * np.float32(0.5),
    place_mm=np.zeros((patches.GROUP, 3), np.float32),
    group=np.full(patches.GROUP, number, np.int32),
  )


@pytest.fixture
def built(tmp_path, monkeypatch):
  monkeypatch.setattr(patches, 'make_group', fake_group)
  arguments = ['build', 'tfds_builders/simulated_patches', '--num=150']
  code = main([*arguments, '--config=btumor_7t', f'--data_dir={tmp_path}'])
  assert code == 0
  return tmp_path / 'simulated_patches' / 'btumor_7t' / '1.2.0'


def test_records_are_those_of_the_cohort_builders(built):
  found, scans = examples.load(built), examples.load_scans(built)
  assert len(found.key) == 150
  assert sorted(set(found.subject)) == ['sub-7Tpatch0001', 'sub-7Tpatch0002']
  assert scans.num_candidates.tolist() == [100, 50]
  assert scans.num_lesions.tolist() == [34, 17]
  assert scans.simulated.all()
  assert set(scans.truth) == {'patches'}
  wanted = fake_group(protocols.get_protocol('btumor_7t'), 0, seed=0)
  assert np.allclose(found.image[:100], wanted.image, atol=1e-3)
  assert np.array_equal(found.label[:100], wanted.label)
  assert np.array_equal(found.lesion > 0, found.label == 1)
  assert examples.metadata(built)['fingerprint'] == builder.Builder.fingerprint(
    'btumor_7t', num=150, seed=0
  )


def test_a_built_folder_stands_for_a_cohort(built):
  assert examples.built.is_built(built)
  found, scans = examples.load_as('btumor_7t', built, config='native')
  assert set(found.cohort) == {'btumor_7t'}
  assert set(scans.cohort) == {'btumor_7t'}
  same, _ = examples.load_as('btumor_7t', built, config='resampled')
  assert np.array_equal(same.image, found.image)  # its voxels are those


def test_another_seed_is_not_put_in_the_same_place(built, capsys):
  arguments = ['build', 'tfds_builders/simulated_patches', '--num=150']
  arguments += ['--config=btumor_7t', f'--data_dir={built.parents[2]}']
  assert main([*arguments, '--seed=1']) == 2
  assert 'overwrite' in capsys.readouterr().err
  before = examples.load(built).image
  assert main([*arguments, '--seed=1', '--overwrite']) == 0
  assert not np.array_equal(examples.load(built).image, before)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--num=0'], '--num: is 0'),
    (['--manual_dir=.'], '--manual_dir: simulated_patches does not take'),
    (['--config=native'], 'native'),
    (['--beam_options=a=1'], '--beam_options: found without'),
  ],
)
def test_wrong_flags_are_refused(tmp_path, capsys, flags, message):
  arguments = ['build', 'tfds_builders/simulated_patches']
  assert main([*arguments, f'--data_dir={tmp_path}', *flags]) == 2
  assert message in capsys.readouterr().err


def test_cohorts_take_no_number(tmp_path, capsys):
  arguments = ['build', 'tfds_builders/btumor_7t', f'--data_dir={tmp_path}']
  assert main([*arguments, '--num=5']) == 2
  assert '--num: btumor_7t does not take' in capsys.readouterr().err
  assert main(arguments) == 2
  assert '--manual_dir: is missing' in capsys.readouterr().err


def test_a_resampled_set_is_not_taken_for_a_native_one(tmp_path):
  folder = examples.build_with(
    built_lib.builder_class_of('btumor_7t'),
    'tfds_builders/btumor_7t/dummy_data', tmp_path, config='resampled',
  )  # fmt: skip
  with pytest.raises(InputError, match=r'config\.patches is native'):
    examples.load_as('btumor_7t', folder, config='native')
