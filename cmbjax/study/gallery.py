"""Predictions to the patches that the report shows.

Rule: what is shown is chosen by rule, the worst first, never by hand.
"""

from collections.abc import Mapping

import numpy as np

from cmbjax.data import augment
from cmbjax.data import examples as examples_lib
from cmbjax.data.tables import NEVER_PROPOSED
from cmbjax.evaluation import compare
from cmbjax.evaluation.predictions import PredictionTable
from cmbjax.report import rows, tables
from cmbjax.study.material import Material
from cmbjax.study.spec import Study

NUM_SHOWN = 6  # patches in a row of the gallery, as many as fit a page


def removed(
  study: Study, material: Material, tested: Mapping
) -> tuple[tuple[str, str, str], list[tables.Patch]]:
  """False candidates that a strategy removes after what it starts from.

  Of the first one that is tested, with its start, on what it learned from.

  Args:
    study: strategies, in the order of the report.
    material: the patches.
    tested: (strategy, test set) -> its table.

  Returns:
    Labels of the two strategies and of the test set, and the patches.
  """
  threshold = study.config.evaluation.threshold
  for name in study.reported:
    strategy = study.recipes[name].strategy
    for test in strategy.learns:
      before = tested.get((strategy.starts, test))
      after = tested.get((name, test))
      if before is None or after is None:
        continue
      labels = before.strategy_label, after.strategy_label, after.test_label
      return labels, rows.removed(
        before,
        after,
        lambda key: _seen(material, key),
        threshold=threshold,
        most=NUM_SHOWN,
      )
  return ('', '', ''), []


def misses(
  material: Material, predicted: Mapping, threshold: float
) -> list[tables.Patch]:
  """Of each test set: lesions never proposed, then the worst errors.

  Args:
    material: the patches.
    predicted: (strategy, test set) -> its table; the last strategy counts.
    threshold: a likelihood above it is a call.
  """
  # One strategy is enough: the report is for looking, not for counting.
  last = {test: table for (_, test), table in predicted.items()}
  out = []
  for table in last.values():
    out += _never_proposed(material, table)[:NUM_SHOWN]
    out += _worst(material, table, threshold)[:NUM_SHOWN]
  return out


def _never_proposed(
  material: Material, table: PredictionTable
) -> list[tables.Patch]:
  """Lesions that no candidate reached, the largest first."""
  known = material.lesions
  mine = np.isin(known.scan, table.scans.scan) & (known.why != '')
  index = np.flatnonzero(mine)
  size = np.nan_to_num(known.diameter_mm[index], nan=-1.0)
  return [
    tables.Patch(
      key=str(known.key[i]),
      image=np.zeros((0, 0, 0)) if known.image[i] is None else known.image[i],
      caption=_lesion_caption(known, i),
    )
    for i in index[np.argsort(-size, kind='stable')]
  ]


def _lesion_caption(known: examples_lib.Lesions, i: int) -> str:
  """'2.4 mm, thalamus, at 12 -30 8 mm: too light (score 0.31)'."""
  what = _size_and_region(known, i)
  place = ' '.join(f'{value:.0f}' for value in known.centre_mm[i])
  score = ''
  if np.isfinite(known.score[i]):
    score = f' (score {known.score[i]:.2f})'
  why = str(known.why[i])
  if why != NEVER_PROPOSED:
    why = f'never proposed: {why}'
  return ', '.join([*what, f'at {place} mm']) + f': {why}{score}'


def _size_and_region(known: examples_lib.Lesions, i: int) -> list[str]:
  parts = []
  if np.isfinite(known.diameter_mm[i]):
    parts.append(f'{known.diameter_mm[i]:.1f} mm')
  if known.region[i]:
    parts.append(str(known.region[i]))
  return parts


def _worst(
  material: Material, table: PredictionTable, threshold: float
) -> list[tables.Patch]:
  """Microbleeds that a strategy lost, then mimics that it kept."""
  p, known = table.predictions, material.lesions
  name = table.strategy_label
  out = []
  for i in compare.worst_errors(p, threshold=threshold)[:NUM_SHOWN]:
    what = 'microbleed, lost' if p.label[i] else 'mimic, kept'
    if p.label[i]:
      same = (known.scan == p.scan[i]) & (known.lesion == p.lesion[i])
      for at in np.flatnonzero(same):
        what = ', '.join([*_size_and_region(known, at), what])
    out.append(
      tables.Patch(
        key=str(p.key[i]),
        image=_seen(material, p.key[i]),
        caption=f'{what} by {name}',
        after=float(p.probability[i]),
      )
    )
  return out


def _seen(material: Material, key: str) -> np.ndarray:
  """The [16, 16, 8] patch of one candidate, as a network sees it."""
  (index,) = np.flatnonzero(material.examples.key == key)
  return np.asarray(augment.centre_crop(material.examples.image[index]))
