"""Arrays to trained networks: what is refused before any work."""

import numpy as np
import pytest

import cmbjax
from cmbjax.errors import InputError


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'patches': 'cubes'}, "patches: holds 'cubes'"),
    ({'channels': ('swi', 'swi')}, 'channels: holds a value twice'),
    ({'train.seeds': (1, 1)}, 'give different whole numbers'),
    ({'train.epochs': 0}, 'epochs: is 0, must be'),
    ({'tests': ('ccm_3t',)}, "holds 'tests'; allowed are"),
  ],
)
def test_settings_are_those_that_a_study_takes(tmp_path, settings, message):
  patches, label = np.zeros((4, 24, 24, 12)), [0, 1, 0, 1]
  with pytest.raises(InputError, match=message):
    cmbjax.fit(patches, label, list('aabb'), tmp_path, settings=settings)
  assert not list(tmp_path.iterdir())
