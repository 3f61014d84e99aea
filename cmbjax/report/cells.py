"""Numbers with their intervals to the cells and tables of a page.

Rule: a cell holds plain text; `templates/cells.html` writes it as HTML.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cmbjax.evaluation import intervals
from cmbjax.evaluation.intervals import Interval
from cmbjax.report import figures, methods, texts
from cmbjax.report.looks import look_of
from cmbjax.report.tables import ResultRow, StudyTables

_PANEL = (4.4, 4.4)  # inches at 72 px


class Cell(NamedTuple):
  """A number as it is written.

  Attributes:
    text: the number, or a dash.
    inside: its interval, '' without one.
    mark: letter of its note.
    after: small text behind it.
    track: where the small drawing has its parts, as CSS variables.
  """

  text: str
  inside: str = ''
  mark: str = ''
  after: str = ''
  track: str = ''


@dataclasses.dataclass
class PageTable:
  """A table, and the notes of its numbers.

  Attributes:
    label: for those who do not see the page.
    heads: of all columns, the first one included.
    lines: what the first column names, and the cells behind it.
    notes: collected by `value`.
  """

  label: str
  heads: Sequence[str]
  lines: list[tuple[Any, Sequence[Cell | str]]] = dataclasses.field(
    default_factory=list
  )
  notes: texts.Notes = dataclasses.field(default_factory=texts.Notes)

  def add(self, name: Any, cells: Sequence[Cell | str]) -> None:
    """One line."""
    self.lines.append((name, cells))

  def value(self, interval: Interval | None, kind: str) -> Cell | str:
    """A number with its interval and the letter of its note."""
    return value(interval, kind, self.notes)

  def values(
    self, found: dict[str, Interval], columns: Sequence[tuple[str, str, str]]
  ) -> list[Cell | str]:
    """Some of `found`; columns are name, heading and kind."""
    return [self.value(found.get(name), kind) for name, _, kind in columns]


def value(
  interval: Interval | None, kind: str, notes: texts.Notes
) -> Cell | str:
  """A number with its interval and the letter of its note.

  Args:
    interval: None is a dash.
    kind: as in `tables.Metric`.
    notes: of the table that it is in.

  Returns:
    The cell.
  """
  if interval is None:
    return texts.DASH
  return Cell(
    texts.number(interval.value, kind),
    texts.bounds(interval, kind),
    notes.mark(interval.note),
  )


def signed(gap: Interval | None, digits: int) -> Cell:
  """A difference and its interval with signs."""
  if gap is None or gap.value is None:
    return Cell(texts.DASH)
  if gap.low is None:
    return Cell(sign(gap.value, digits), intervals.missing(gap))
  low, high = sign(gap.low, digits), sign(gap.high, digits)
  return Cell(sign(gap.value, digits), f'{low} to {high}')


def sign(number: float, digits: int) -> str:
  """'+0.12' or '−0.12'."""
  return f'{number:+.{digits}f}'.replace('-', '−')


def track(interval: Interval, axis: tuple[float, float]) -> str:
  """CSS: where an interval and its number are on an axis, '' for none."""
  if interval.value is None:
    return ''
  low, high, middle = interval.low, interval.high, interval.value
  ends = (middle if low is None else low, middle if high is None else high)
  spots = zip('lhv', (*ends, middle))
  return ';'.join(f'--{name}:{_percent(x, axis)}' for name, x in spots)


def _percent(number: float, axis: tuple[float, float]) -> str:
  share = (number - axis[0]) / (axis[1] - axis[0])
  # An interval may pass the ends of its axis; the drawing may not.
  return f'{100 * min(max(share, 0.0), 1.0):.1f}%'


def p_value(p: float | None) -> str:
  """'0.012', '<0.001' or a dash."""
  if p is None:
    return texts.DASH
  return '<0.001' if p < 0.001 else f'{p:.3f}'


def sentence_case(text: str) -> str:
  """'size' -> 'Size'."""
  return text[:1].upper() + text[1:]


def sizes(row: ResultRow) -> str:
  """'6 subjects, 1 scan, 30 candidates, 9 lesions'."""
  return ', '.join(
    methods.counted(count, name)
    for name, count in (
      ('subject', row.num_subjects),
      ('scan', row.num_scans),
      ('candidate', row.num_candidates),
      ('lesion', row.num_lesions),
    )
  )


class Panel(NamedTuple):
  """Drawings under a heading.

  Attributes:
    head: plain text.
    drawings: one below the other.
    colour: CSS class of the heading.
  """

  head: str
  drawings: Sequence[figures.Drawing]
  colour: str = ''


def panels(study: StudyTables, draw: Callable, name: str) -> list[Panel]:
  """One drawing per test set.

  Args:
    study: all numbers.
    draw: a function of `figures` for the rows of one test set.
    name: what is drawn, for the ids and for those who do not see it.

  Returns:
    One panel each; none without rows.
  """
  look = look_of(study)
  made = []
  for i, (test, some) in enumerate(look.by_test(study.rows).items()):
    label = look.tests[test]
    drawing = figures.inline(
      draw,
      some,
      look,
      size=_PANEL,
      name=f'{name}-{i}',
      label=f'{name} on {label}',
    )
    made.append(Panel(label, [drawing], look.test_class(test)))
  return made
