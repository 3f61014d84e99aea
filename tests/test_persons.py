"""People are kept apart: labels of real scans, label and seed of simulated."""

import pytest

from cmbjax.data import persons

SIMULATED = {'Simulated': True}


@pytest.mark.parametrize(
  ('sidecar', 'name'),
  [
    ({}, 'sub-7T001'),
    ({'SimulationSeed': 4}, 'sub-7T001'),  # a real scan, whatever it says
    ({'Simulated': 'yes', 'SimulationSeed': 4}, 'sub-7T001'),
    (SIMULATED | {'SimulationSeed': 4}, 'sub-7T001@4'),
    (SIMULATED | {'SimulationSeed': 0}, 'sub-7T001@0'),
    (SIMULATED, 'sub-7T001@?'),
    (SIMULATED | {'SimulationSeed': '4'}, 'sub-7T001@?'),
    (SIMULATED | {'SimulationSeed': True}, 'sub-7T001@?'),
  ],
)
def test_a_simulated_person_has_a_seed(sidecar, name):
  assert persons.person_of('sub-7T001', sidecar) == name


@pytest.mark.parametrize(
  ('one', 'other', 'same'),
  [
    ('sub-01', 'sub-01', True),
    ('sub-01', 'sub-02', False),
    ('sub-01@4', 'sub-01@4', True),
    ('sub-01@4', 'sub-01@5', False),
    ('sub-01@4', 'sub-01', False),  # a patient who has the same label
    ('sub-01@4', 'sub-01@?', True),  # might be
    ('sub-01@?', 'sub-01@?', True),
    ('sub-01@?', 'sub-02@4', False),
    ('sub-01@?', 'sub-01', False),
  ],
)
def test_who_may_be_the_same(one, other, same):
  assert persons.in_both([one, 'x'], [other, 'y']) == [one] * same
  assert persons.in_both([other], [one]) == [other] * same
