"""Arrays to trained networks: what is refused before any work."""

import numpy as np
import pytest

import cmbjax
from cmbjax.errors import InputError
from tests.messages import says


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'patches': 'cubes'}, "'cubes'"),
    ({'channels': ('swi', 'swi')}, ''),
    ({'train.seeds': (1, 1)}, ''),
    ({'train.epochs': 0}, ''),
    ({'tests': ('ccm_3t',)}, "'tests'"),
  ],
)
def test_settings_are_those_that_a_study_takes(tmp_path, settings, message):
  patches, label = np.zeros((4, 24, 24, 12)), [0, 1, 0, 1]
  with says(InputError, message):
    cmbjax.fit(patches, label, list('aabb'), tmp_path, settings=settings)
  assert not list(tmp_path.iterdir())
