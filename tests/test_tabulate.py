"""What the report says of the scans of a cohort, and of what was trained."""

import numpy as np
import pytest

from cmbjax.data import examples
from cmbjax.study import config as configs
from cmbjax.study import plan as plan_lib
from cmbjax.study import resolve, tabulate

LIKE = (7.0, 0.016, (0.5, 0.5, 2.0))


def scans_of(*facts, truth='labels'):
  count = len(facts)
  fields = {name: np.zeros(count) for name in examples.Scans._fields}
  field_t, echo_s, spacing_mm = (np.float32(column) for column in zip(*facts))
  fields |= {'field_t': field_t, 'echo_time_s': echo_s}
  fields |= {'spacing_mm': spacing_mm, 'truth': np.array([truth] * count)}
  return examples.Scans(**fields)


@pytest.mark.parametrize(
  ('facts', 'said'),
  [
    ([LIKE], '7 T, TE 16 ms, 0.5 x 0.5 x 2 mm'),
    ([LIKE, LIKE], '7 T, TE 16 ms, 0.5 x 0.5 x 2 mm'),
    (
      [LIKE, (1.5, 0.0405, (1.0, 0.5, 4.0)), (3.0, 0.02, (0.7, 0.5, 0.7))],
      '3 protocols: 1.5–7 T, TE 16–40.5 ms, 0.5–1 x 0.5 x 0.7–4 mm',
    ),
    (
      [LIKE, LIKE, (np.nan, 0.016, (0.5, 0.5, 2.0))],
      '2 protocols: 7 T (1 not known), TE 16 ms, 0.5 x 0.5 x 2 mm',
    ),
    ([(np.nan, np.nan, (0.5, 0.5, 2.0))] * 2, '0.5 x 0.5 x 2 mm'),
  ],
)
def test_a_protocol_is_that_of_all_scans(facts, said):
  assert tabulate.protocol(scans_of(*facts)) == said


def test_a_strategy_is_described_as_the_chosen_point_of_a_sweep_has_it():
  config = configs.load('configs/scratch.py')
  points = resolve.points(
    config,
    [
      {'study.strategies.scratch.frozen': frozen, 'model.name': model}
      for frozen, model in (('^stage_a', 'resnet_v3'), ('^head', 'resnet_v2'))
    ],
  )
  planned = plan_lib.plan(points)
  study, best = points[0].study, planned.at['scratch', points[1].name]
  used = tabulate._as_used(study, {'scratch': best})
  text = tabulate._strategy_row(used['scratch'], study).text
  assert text == 'learns from 3T_Btumor; layers ^head are frozen'
