"""The names of a study to its colours and dashes.

Rule: colours go by the place in the config, never by the name, so that any
strategy or test set has one; a test set comes in the same order everywhere.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cmbjax.report.tables import ResultRow, StudyTables, ordered

# Colour -> CSS variable of base.css.
TOKENS = {
  '#1d2126': '--ink',
  '#6a717b': '--muted',
  '#dcdfe4': '--rule',
  '#2f6694': '--test-1',
  '#a8650f': '--test-2',
  '#83438f': '--test-3',
  '#b23a3a': '--before',
  '#2d7a4c': '--after',
  '#6b63ad': '--third',
  '#45525f': '--fourth',
}
INK, MUTED, RULE, *_ = TOKENS
NAMED = {name: colour for colour, name in TOKENS.items()}

_TESTS = ('--test-1', '--test-2', '--test-3')
_STRATEGIES = ('--before', '--after', '--third', '--fourth')
# Seven colours in all, as those of the other kind follow, and five dashes: the
# two together tell 21 strategies apart.
_DASHES = ((), (4, 2), (1.2, 1.4), (7, 1.5, 1.2, 1.5), (2.5, 1))


class Look(NamedTuple):
  """Labels of all strategies and test sets, in the order of their colours.

  Attributes:
    strategies: name -> label.
    tests: name -> label.
  """

  strategies: dict[str, str]
  tests: dict[str, str]

  def strategy_colour(self, name: str) -> str:
    """For example '#b23a3a'."""
    return NAMED[_of(_STRATEGIES + _TESTS, self.strategies, name)]

  def test_colour(self, name: str) -> str:
    """For example '#2f6694'."""
    return NAMED[self._test_variable(name)]

  def test_class(self, name: str) -> str:
    """CSS class of a test set's colour: 'c-test-1'."""
    return f'c{self._test_variable(name)[1:]}'

  def line(self, strategy: str) -> dict[str, Any]:
    """How matplotlib draws the curve of a strategy."""
    line = {'color': self.strategy_colour(strategy), 'linewidth': 1.6}
    # The first two, red and green, are both drawn through.
    place = max(list(self.strategies).index(strategy) - 1, 0)
    if dashes := _DASHES[place % len(_DASHES)]:
      line['dashes'] = dashes
    return line

  def by_test(self, rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """Test set -> its rows, both in their order."""
    groups: dict[str, list[ResultRow]] = {}
    for row in ordered(rows):
      groups.setdefault(row.test, []).append(row)
    place = {name: i for i, name in enumerate(self.tests)}
    return dict(sorted(groups.items(), key=lambda group: place[group[0]]))

  def in_order(self, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Rows test set by test set."""
    return [row for some in self.by_test(rows).values() for row in some]

  def _test_variable(self, name: str) -> str:
    return _of(_TESTS + _STRATEGIES[::-1], self.tests, name)


def _of(choices: Sequence, names: dict[str, str], name: str):
  return choices[list(names).index(name) % len(choices)]


def look_of(study: StudyTables) -> Look:
  """Colours by the order of the strategies and cohorts of a study."""
  return Look(study.strategy_labels(), study.test_labels())
