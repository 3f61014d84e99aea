"""What the report says of the scans of a cohort, and of what was trained."""

import numpy as np
import pytest

from cmbjax.data import examples
from cmbjax.study import config as configs
from cmbjax.study import plan, tabulate

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


def test_patches_have_no_scans():
  found = tabulate.protocol(scans_of(LIKE, truth='patches'))
  assert found == '7 T, TE 16 ms, patches without scans, 0.5 x 0.5 x 2 mm'


def test_a_sweep_is_told_by_the_point_that_was_chosen():
  """It was told by the first point, whichever had won."""
  config = configs.load('configs/finetune.py')
  config.pretrained = 'train'
  sweep = [
    {'model.name': name, 'train.finetune_frozen': frozen}
    for name, frozen in (('resnet_v3', 'stage_a'), ('resnet_v4', ''))
  ]
  points = configs.points(config, sweep)
  planned = plan.plan(points, lambda recipe: recipe.strategy.learns, {})
  chosen = {n: planned.at[n, points[1].name] for n in ('7t', 'finetuned')}
  study = points[0].study
  assert tabulate._networks(study, chosen) == ['resnet_v4']
  told = [
    tabulate._strategy_row(one, study).text
    for one in tabulate._used(study, chosen)
  ]
  assert len(told) == 2
  assert 'frozen' not in ' '.join(told)
  chosen['7t'] = planned.at['7t', points[0].name]
  assert tabulate._networks(study, chosen) == ['resnet_v3', 'resnet_v4']
