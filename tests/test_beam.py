"""Builders and the simulator on Apache Beam: the same bytes as without."""

import functools
import hashlib
import pathlib
import sys

import numpy as np
import pytest

from cmbjax import beam
from cmbjax.data import examples
from cmbjax.errors import InputError
from cmbjax.simulate import cohort
from tests.messages import says

RUNNER = beam.BeamRunner('DirectRunner')
DUMMY = pathlib.Path('tfds_builders/btumor_7t/dummy_data')


def double(number):
  return 2 * number


def refuse(number):
  if number == 3:
    raise InputError('3: is not wanted.')
  return number


def digests(folder):
  return {
    path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(pathlib.Path(folder).rglob('*'))
    if path.is_file() and '.lock' not in path.name
  }


def test_without_beam_the_extra_is_named(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with says(InputError):
    beam._pipeline(RUNNER)


class TestWithBeam:
  @pytest.fixture(autouse=True)
  def _needs_beam(self):
    pytest.importorskip('apache_beam')

  def test_results_come_in_order(self, tmp_path):
    found = list(beam.run(double, range(7), runner=RUNNER, folder=tmp_path))
    assert found == [0, 2, 4, 6, 8, 10, 12]
    assert not list(tmp_path.iterdir())

  def test_a_mistake_comes_back_as_it_is(self, tmp_path):
    with says(InputError):
      list(beam.run(refuse, range(5), runner=RUNNER, folder=tmp_path))
    assert not list(tmp_path.iterdir())

  def test_an_unknown_runner_is_refused(self):
    with says(InputError, 'NoSuchRunner'):
      beam._pipeline(beam.BeamRunner('NoSuchRunner'))

  def test_options_reach_the_runner(self, tmp_path):
    runner = beam.BeamRunner('DirectRunner', 'direct_num_workers=2')
    found = list(beam.run(double, range(3), runner=runner, folder=tmp_path))
    assert found == [0, 2, 4]

  def test_builder_writes_the_same_bytes(self, tmp_path):
    build = functools.partial(examples.build, 'btumor_7t', DUMMY, apart=False)
    plain = build(tmp_path / 'plain')
    on_beam = build(tmp_path / 'beam', runner=RUNNER)
    assert digests(plain) == digests(on_beam)
    both = (examples.load(folder) for folder in (plain, on_beam))
    for mine, theirs in zip(*both):
      assert np.array_equal(mine, theirs)

  def test_simulator_writes_the_same_bytes(self, tmp_path):
    simulate = functools.partial(
      cohort.simulate, 'btumor_7t', subjects=2, seed=9001, slab_mm=8, jobs=1
    )
    plain = simulate(out=tmp_path / 'plain')
    on_beam = simulate(out=tmp_path / 'beam', runner=RUNNER)
    assert digests(plain) == digests(on_beam)
    assert len(list(on_beam.glob('sub-*'))) == 2
