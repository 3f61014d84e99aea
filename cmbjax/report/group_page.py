"""The results of all scans to one page with a table and a strip of counts.

Rule: a scan that failed is listed with its reason, and counts in no total.
"""

import collections
import os
import pathlib
import statistics
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from cmbjax import doors, files
from cmbjax.report import pages
from cmbjax.report.texts import DASH

LOCATIONS = ('lobar', 'deep', 'infratentorial')
_TABLE = 'group_cmb.tsv'
_STRIP = (640, 84)  # width and largest height of the strip, px
_OFTEN = 3  # a warning of so many scans is written once, above the table
_PATTERNS = {'unknown': DASH, 'none': DASH}
_COLUMNS = (
  ('Scan', 'text'), ('Definite', 'number'), ('Possible', 'number'),
  ('Lobar', 'number'), ('Deep', 'number'), ('Infratentorial', 'number'),
  ('Volume mm³', 'number'), ('Grade', 'number'), ('ARIA-H', 'number'),
  ('Pattern', 'text'), ('Protocol', 'text'), ('Warnings', 'text'),
)  # fmt: skip
_SUMMED = ('definite', 'possible', *LOCATIONS, 'volume_mm3')
_BANDS = {'none': 0, 'mild': 1, 'moderate': 2, 'severe': 3}


def write_group(
  rows: Sequence[Mapping[str, Any]],
  folder: str | os.PathLike,
) -> pathlib.Path:
  """Writes the page of all scans.

  Args:
    rows: one mapping per scan; only 'name' must be there. A row with 'error'
      is a scan that failed. 'page' is the link to the scan's own page,
      relative to `folder`; the others are the columns of the group table,
      microbleeds by place, and 'warnings'.
    folder: made when missing; a table of the same numbers in it is linked.

  Returns:
    Path of the page.
  """
  folder = files.make_folder(folder)
  link = _TABLE if doors.is_there(folder / _TABLE) else ''
  files.write_text(folder / 'group.html', page(rows, table=link))
  return folder / 'group.html'


def page(rows: Sequence[Mapping[str, Any]], *, table: str = '') -> str:
  """The whole page as text."""
  done = [row for row in rows if not row.get('error')]
  signs = _signs(done)
  return pages.render(
    'group.html',
    styles=('base.css', 'group.css'),
    script='group.js',
    skip=('scans', 'scans'),
    eyebrow='microbleeds on SWI',
    simulated=_simulated(done),
    failed=[row for row in rows if row.get('error')],
    totals=_totals(done),
    strip=_strip(done),
    signs=signs,
    columns=_COLUMNS,
    lines=[_line(row, signs) for row in done],
    sums=[f'{_sum(done, name):.0f}' for name in _SUMMED],
    table=table,
  )


def _simulated(done) -> str:
  """Which scans are simulated, '' for none."""
  count = sum(bool(row.get('simulated')) for row in done)
  if count < len(done):
    return f'{count} of {len(done)} scans' if count else ''
  return 'all scans' if count else ''


def _totals(done) -> list[tuple[str, str]]:
  counted = [row['counted'] for row in done if row.get('counted') is not None]
  return [
    ('Scans', str(len(done))),
    ('With microbleeds', str(sum(count > 0 for count in counted))),
    ('Definite', str(_sum(done, 'definite'))),
    ('Possible', str(_sum(done, 'possible'))),
    (
      'Median per scan',
      f'{statistics.median(counted):g}' if counted else DASH,
    ),
    ('Most', str(max(counted)) if counted else DASH),
    ('Scans with warnings', str(sum(bool(r.get('warnings')) for r in done))),
  ]


def _sum(rows, name) -> int | float:
  return sum(row.get(name) or 0 for row in rows)


def _strip(done) -> dict[str, Any] | None:
  """One dot per scan along its count; equal counts pile up."""
  known = [row for row in done if row.get('counted') is not None]
  if len(known) < 2:
    return None  # one dot says less than the table
  width, highest = _STRIP
  most = max(max(row['counted'] for row in known), 4)
  tallest = max(collections.Counter(row['counted'] for row in known).values())
  rise = min(9.5, (highest - 30) / tallest)  # dots touch, or fit the height
  height = round(30 + rise * tallest)

  def across(count):
    return f'{14 + (width - 28) * count / most:.1f}'

  piles, dots = collections.Counter(), []
  for row in sorted(known, key=lambda r: str(r['name'])):
    count = row['counted']
    dots.append(
      {
        'x': across(count),
        'y': f'{height - 26 - rise * piles[count]:.1f}',
        'title': f'{row["name"]}: {count}',
        'link': _address(row),
      }
    )
    piles[count] += 1
  # At most a dozen numbers below the strip, or they run into each other.
  step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**9) if most / s <= 12)
  ticks = [(across(count), count) for count in range(0, most + 1, step)]
  return {'width': width, 'height': height, 'ticks': ticks, 'dots': dots}


def _signs(done) -> dict[str, str]:
  """Warnings that many scans have, with the sign of each."""
  times = collections.Counter(
    text for row in done for text in dict.fromkeys(row.get('warnings') or ())
  )
  often = [text for text, count in times.items() if count >= _OFTEN]
  often.sort(key=lambda text: -times[text])
  return {text: f'W{n}' for n, text in enumerate(often, start=1)}


def _line(row, signs) -> dict[str, Any]:
  """Texts of a scan, each with what it is sorted by."""
  volume, band = row.get('volume_mm3'), row.get('aria_h')
  held = 'not established' if row.get('not_established') else None
  pattern = str(row.get('pattern') or DASH).replace('_', ' ')
  cells = [
    *(_cell(row.get(n)) for n in ('definite', 'possible', *LOCATIONS)),
    _cell(None if volume is None else f'{volume:.0f}', volume),
    _cell(held or row.get('grade'), -1 if held else None),
    _cell(held or band, _BANDS.get(band, -1)),
    _cell(held or _PATTERNS.get(pattern, pattern), -1 if held else None),
    _cell(_protocol(row)),
  ]
  given = row.get('warnings') or ()
  return {
    'name': row['name'],
    'link': _address(row),
    'cells': cells,
    'warnings': len(given),
    'shared': [text for text in signs if text in given],
    'own': [text for text in given if text not in signs],
  }


def _cell(text, key=None) -> tuple[Any, Any]:
  """A text and its key; what is not known comes before all numbers."""
  if text is None:
    return DASH, -1
  return text, text if key is None else key


def _protocol(row) -> str:
  parts = []
  if row.get('field_t') is not None:
    parts.append(f'{row["field_t"]:.3g} T')
  if row.get('echo_time_s') is not None:
    parts.append(f'TE {1000 * row["echo_time_s"]:.3g} ms')
  if row.get('spacing_mm'):
    sides = '×'.join(f'{side:.3g}' for side in row['spacing_mm'])
    parts.append(f'{sides} mm')
  return ', '.join(parts) or DASH


def _address(row) -> str:
  """A link to a file beside or below the page, and to nothing else."""
  page_name = row.get('page')
  if not page_name:
    return ''
  # './' and quoted: a name such as 'javascript:...' is a file then.
  return './' + urllib.parse.quote(str(page_name).replace(os.sep, '/'))
