"""Numbers, intervals and tables as pieces of a page.

Rule: every text from outside passes `escape` before it enters the page.
"""

import html
from collections.abc import Callable, Sequence

from cmbjax.evaluation.statistics import Interval
from cmbjax.report import figures, methods, tables
from cmbjax.report.looks import Look, look_of
from cmbjax.report.tables import Row, StudyTables

escape = html.escape

_PANEL = (4.4, 4.4)  # inches at 72 px


def sections(
  parts: Sequence[tuple[str, str, str]],
  titled: Callable[[str, str], str],
) -> tuple[str, str]:
  """The list of contents and the sections of a page, without empty ones.

  Args:
    parts: name, plain heading and content of each section.
    titled: name and heading to the plain title that stands above the section.
  """
  there = [part for part in parts if part[2]]
  nav = ''.join(
    f'<li><a href="#{name}">{escape(head)}</a></li>' for name, head, _ in there
  )
  body = ''.join(
    f'<section id="{name}" aria-labelledby="{name}-head">'
    f'<h2 id="{name}-head">{escape(titled(name, head))}</h2>{content}'
    '</section>\n'
    for name, head, content in there
  )
  return nav, body


def table(heads: Sequence[str], lines: Sequence[str], *, label: str) -> str:
  """A table that scrolls on its own and becomes cards on a telephone.

  Args:
    heads: plain texts.
    lines: whole `<tr>` elements.
    label: plain text, for those who do not see the page.
  """
  cells = ''.join(f'<th scope="col">{escape(head)}</th>' for head in heads)
  return (
    f'<div class="scroll" tabindex="0" role="region" aria-label="'
    f'{escape(label)}"><table class="cards"><thead><tr>{cells}</tr></thead>'
    f'<tbody>{"".join(lines)}</tbody></table></div>'
  )


def fold(head: str, content: str) -> str:
  """A part that is closed until somebody wants it; open on paper.

  Args:
    head: HTML.
    content: HTML.
  """
  return f'<details><summary>{head}</summary>{content}</details>'


def line(name: str, columns: Sequence[tuple[str, str]]) -> str:
  """One `<tr>`: a heading, then (column heading, content) pairs as HTML."""
  cells = ''.join(
    f'<td data-head="{escape(head)}"><span>{content}</span></td>'
    for head, content in columns
  )
  return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def value(interval: Interval | None, kind: str, marks: tables.Notes) -> str:
  """A number with its interval behind it, and a mark of its note."""
  if interval is None:
    return tables.DASH
  mark = marks.mark(interval.note)
  mark = f'<sup>{escape(mark)}</sup>' if mark else ''
  inside = tables.bounds(interval, kind)
  return (
    f'{tables.number(interval.value, kind)}{mark} '
    f'<span class="ci">{inside}</span>'
  )


def p_value(p: float | None) -> str:
  """'0.012', '<0.001' or a dash."""
  if p is None:
    return tables.DASH
  return '&lt;0.001' if p < 0.001 else f'{p:.3f}'


def sentence_case(text: str) -> str:
  """'size' -> 'Size'."""
  return text[:1].upper() + text[1:]


def sizes(row: Row) -> str:
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


def cell(interval: Interval | None, kind, marks, *, axis, colour) -> str:
  """Number, interval and a small drawing of both."""
  if interval is None:
    return tables.DASH
  mark = marks.mark(interval.note)
  mark = f'<sup>{escape(mark)}</sup>' if mark else ''
  value = f'<span class="value">{tables.number(interval.value, kind)}{mark}'
  inside = tables.bounds(interval, kind)
  text = f'<span>{value}</span>'
  if inside:
    text += f' <span class="ci">{inside}</span>'
  if interval.value is None:
    return text + '</span>'
  low = interval.value if interval.low is None else interval.low
  high = interval.value if interval.high is None else interval.high
  spots = zip('lhv', (low, high, interval.value))
  style = ';'.join(f'--{k}:{percent(x, axis)}' for k, x in spots)
  return (
    f'{text}<span class="track {colour}" style="{style}" '
    'aria-hidden="true"><i></i><b></b></span></span>'
  )


def percent(value: float, axis: tuple[float, float]) -> str:
  """Where a value lies on an axis, for CSS."""
  share = (value - axis[0]) / (axis[1] - axis[0])
  return f'{100 * min(max(share, 0.0), 1.0):.1f}%'


def notes(marks: tables.Notes) -> str:
  """The notes that a table refers to, as a list."""
  if not marks.texts:
    return ''
  items = ''.join(
    f'<li><sup>{escape(marks.mark(text))}</sup> {escape(text)}</li>'
    for text in marks.texts
  )
  return f'<ul class="notes" aria-label="Notes">{items}</ul>'


def signed(gap: Interval | None, digits: int) -> tuple[str, str]:
  """A difference and its interval as text with signs."""
  if gap is None or gap.value is None:
    return tables.DASH, ''
  value = sign(gap.value, digits)
  if gap.low is None:
    return value, ''
  return value, f'{sign(gap.low, digits)} to {sign(gap.high, digits)}'


def sign(value: float, digits: int) -> str:
  return f'{value:+.{digits}f}'.replace('-', '−')


def panels(study: StudyTables, draw, name: str, intro: str) -> str:
  """One drawing per test set, side by side where there is room."""
  look = look_of(study)
  groups = look.by_test(study.rows)
  if not groups:
    return ''
  panels = []
  for i, (test, some) in enumerate(groups.items()):
    label = look.tests[test]
    drawing = figures.inline(
      draw,
      some,
      look,
      size=_PANEL,
      name=f'{name}-{i}',
      label=f'{name} on {label}',
    )
    head = f'<h3 class="{look.test_class(test)}">{escape(label)}</h3>'
    panels.append(f'<figure>{head}{drawing}</figure>')
  return (
    f'<p class="sub">{escape(intro)}</p>'
    f'<div class="panels">{"".join(panels)}</div>'
  )


def row_name(row: Row, look: Look) -> str:
  """'7T on 3T_Btumor', the test set in its colour."""
  return (
    f'{escape(row.strategy_label)} '
    f'<span class="{look.test_class(row.test)}">on '
    f'{escape(row.test_label)}</span>'
  )
