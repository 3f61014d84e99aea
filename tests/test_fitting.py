"""Whether a phase is one, and lies where its magnitude does."""

import pathlib

import numpy as np
import pytest
from scipy import ndimage

from cmbjax.errors import InputError
from cmbjax.reconstruct import fitting
from tests import heads
from tests.messages import says

M, P = pathlib.Path('m.nii.gz'), pathlib.Path('p.nii.gz')


@pytest.fixture(scope='module')
def head():
  """A head that no mirror maps on itself."""
  drawn = heads.draw(3)
  cut = np.ones(drawn.brain.shape, bool)
  cut[:40, :30] = cut[:, :25, :8] = False
  rng = np.random.default_rng(9001)
  noise = rng.uniform(-np.pi, np.pi, cut.shape).astype(np.float32)
  magnitude = np.where(cut, drawn.magnitude, 0.02 * rng.random(cut.shape))
  return magnitude, np.where(cut, drawn.phase, noise)


WAYS = {
  (0,): 'left to right',
  (1,): 'back to front',
  (2,): 'bottom to top',
  (0, 1): 'left to right and back to front',
}


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('axes', WAYS)
def test_a_phase_that_is_turned_round(head, axes, masked):
  magnitude, phase = head
  if masked:  # painted air is smoother than the phase of a brain
    rough = phase + np.random.default_rng(9002).normal(0, 0.8, phase.shape)
    phase = np.where(ndimage.median_filter(magnitude, 3) > 0.3, rough, 0)
  assert fitting.turned(magnitude, phase) == ''
  said = fitting.turned(magnitude, np.flip(phase, axes))
  assert f'turned round from {WAYS[axes]} (' in said


def test_of_a_symmetric_head_nothing_is_said():
  drawn = heads.draw(1)
  assert fitting.turned(drawn.magnitude, drawn.phase) == ''
  assert fitting.turned(drawn.magnitude, drawn.phase[::-1]) == ''


def test_too_small_to_say(head):
  assert fitting.turned(head[0][:20], head[1][19::-1]) == ''
  assert fitting.turned(np.zeros((60, 60, 4)), np.zeros((60, 60, 4))) == ''


@pytest.mark.parametrize('other', [lambda m: m, lambda m: 3 * m**0.9 + 7])
def test_a_second_magnitude_is_refused(head, other):
  with says(InputError, 'p.nii.gz m.nii.gz'):
    fitting.check_is_phase(P, M, head[0], other(head[0]))


def test_a_phase_is_none(head):
  fitting.check_is_phase(P, M, *head)
  masked = np.where(head[0] > 0.3, 2048 + 600 * head[1], 0)
  fitting.check_is_phase(P, M, head[0], np.asfortranarray(masked))
