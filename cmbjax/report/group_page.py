"""The results of all scans to one page with a table and a strip of counts.

Rule: a scan that failed stands in the table with its reason, and is in no
total.
"""

import collections
import html
import os
import pathlib
import statistics
import string
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import cmbjax
from cmbjax import files
from cmbjax.report import pages

escape = html.escape
DASH = '–'
LOCATIONS = ('lobar', 'deep', 'infratentorial')
_STRIP = (640, 84)  # width and largest height of the strip, px
_OFTEN = 3  # scans with one warning; from here on it is told once
_PATTERNS = {'unknown': DASH, 'none': DASH}


def row_of(result) -> dict[str, Any]:
  """A `ScanResult` as a row of the group page (and of its table)."""
  counts = result.counts
  places = counts.get('by_location', {})
  row = {
    'name': result.name,
    'simulated': bool(result.simulated),
    'field_t': result.protocol.get('field_t'),
    'echo_time_s': result.protocol.get('echo_time_s'),
    'spacing_mm': tuple(result.spacing_mm),
    'warnings': tuple(result.warnings),
    'page': None,
    'error': '',
  }
  for name in ('definite', 'possible', 'counted', 'too_large', 'volume_mm3'):
    row[name] = counts.get(name)
  for name in ('grade', 'aria_h', 'pattern'):
    row[name] = counts.get(name)
  for name in LOCATIONS:
    entry = places.get(name, 0)
    row[name] = sum(entry.values()) if hasattr(entry, 'values') else entry
  return row


def write_group(
  rows: Sequence[Mapping[str, Any]],
  folder: str | os.PathLike,
  *,
  table: str = 'group_cmb.tsv',
  name: str = 'group.html',
) -> pathlib.Path:
  """Writes the page of all scans.

  Args:
    rows: one mapping per scan, see `row_of`; only 'name' must be there. A row
      with 'error' is a scan that failed. 'page' is the link to the scan's own
      page, relative to `folder`.
    folder: made when missing.
    table: file beside the page that holds the same numbers; linked if it is
      there.
    name: file name of the page.

  Returns:
    Path of the page.
  """
  folder = files.make_folder(folder)
  link = table if table and (folder / table).is_file() else ''
  files.write_text(folder / name, page(rows, table=link))
  return folder / name


def page(rows: Sequence[Mapping[str, Any]], *, table: str = '') -> str:
  """The whole page as text."""
  done = [row for row in rows if not row.get('error')]
  failed = [row for row in rows if row.get('error')]
  script = pages.read('group.js')
  return string.Template(pages.read('group.html')).substitute(
    css=pages.read('base.css') + pages.read('group.css'),
    policy=pages.policy(script),
    script=script,
    notices=_notices(done, failed),
    totals=_totals(done),
    strip=_strip(done),
    table=_table(done),
    failed=_failed(failed),
    download=_download(table),
    version=escape(cmbjax.__version__),
  )


def _notices(done, failed) -> str:
  parts = []
  simulated = sum(bool(row.get('simulated')) for row in done)
  if simulated:
    which = 'all scans'
    if simulated < len(done):
      which = f'{simulated} of {len(done)} scans'
    parts.append(
      '<p class="notice"><strong>Simulated data.</strong> A physics simulator '
      f'made {which}; they are not of people.</p>'
    )
  if failed:
    what = 'One scan' if len(failed) == 1 else f'{len(failed)} scans'
    parts.append(
      f'<p class="notice"><strong>{what} failed.</strong> '
      '<a href="#failed">See why.</a></p>'
    )
  return ''.join(parts)


def _totals(done) -> str:
  counted = [row['counted'] for row in done if row.get('counted') is not None]
  values = [
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
  return ''.join(
    f'<div><dt>{escape(head)}</dt><dd>{escape(value)}</dd></div>'
    for head, value in values
  )


def _sum(rows, name) -> int | float:
  return sum(row.get(name) or 0 for row in rows)


def _strip(done) -> str:
  """One dot per scan along its count; equal counts pile up."""
  known = [row for row in done if row.get('counted') is not None]
  if len(known) < 2:
    return ''
  width, highest = _STRIP
  most = max(max(row['counted'] for row in known), 4)
  piles: dict[int, int] = {}
  tallest = max(
    sum(row['counted'] == count for row in known)
    for count in {row['counted'] for row in known}
  )
  rise = min(9.5, (highest - 30) / tallest)
  height = round(30 + rise * tallest)
  dots = []
  for row in sorted(known, key=lambda r: str(r['name'])):
    level = piles.get(row['counted'], 0)
    piles[row['counted']] = level + 1
    x = 14 + (width - 28) * row['counted'] / most
    y = height - 26 - rise * level
    title = f'{row["name"]}: {row["counted"]}'
    dot = (
      f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(title)}'
      '</title></circle>'
    )
    link = _address(row)
    dots.append(f'<a href="{link}">{dot}</a>' if link else dot)
  step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**9) if most / s <= 12)
  ticks = ''.join(
    f'<text x="{14 + (width - 28) * count / most:.1f}" y="{height - 4}">'
    f'{count}</text>'
    for count in range(0, most + 1, step)
  )
  return (
    '<figure class="strip"><figcaption>Microbleeds per scan, definite and '
    f'possible</figcaption><svg viewBox="0 0 {width} {height}" role="group" '
    f'aria-label="Microbleeds of every scan"><path d="M0 {height - 19}'
    f'H{width}"/>{ticks}{"".join(dots)}</svg></figure>'
  )


_COLUMNS = (
  ('Scan', 'text'), ('Definite', 'number'), ('Possible', 'number'),
  ('Lobar', 'number'), ('Deep', 'number'), ('Infratentorial', 'number'),
  ('Volume mm³', 'number'), ('Grade', 'number'), ('ARIA-H', 'number'),
  ('Pattern', 'text'), ('Protocol', 'text'), ('Warnings', 'text'),
)  # fmt: skip
_BANDS = {'none': 0, 'mild': 1, 'moderate': 2, 'severe': 3}


def _table(done) -> str:
  if not done:
    return '<p>No scan was analysed.</p>'
  heads = ''.join(
    f'<th scope="col" aria-sort="none" data-kind="{kind}">'
    f'<button type="button">{head}</button></th>'
    for head, kind in _COLUMNS
  )
  shared = _shared(done)
  lines = ''.join(_line(row, shared) for row in done)
  sums = ''.join(
    f'<td data-head="{head}">{_sum(done, name):.{digits}f}</td>'
    for head, name, digits in (
      ('Definite', 'definite', 0),
      ('Possible', 'possible', 0),
      ('Lobar', 'lobar', 0),
      ('Deep', 'deep', 0),
      ('Infratentorial', 'infratentorial', 0),
      ('Volume mm³', 'volume_mm3', 0),
    )
  )
  return _legend(shared) + (
    '<div class="scroll" tabindex="0" role="region" aria-label="All scans">'
    f'<table class="cards"><thead><tr>{heads}</tr></thead><tbody>{lines}'
    f'</tbody><tfoot><tr><th scope="row">Together</th>{sums}'
    f'<td colspan="{len(_COLUMNS) - 7}"></td></tr></tfoot></table></div>'
  )


def _shared(done) -> dict[str, str]:
  """Warnings that many scans have, with the sign that stands for each."""
  times = collections.Counter(
    text for row in done for text in dict.fromkeys(row.get('warnings') or ())
  )
  often = [text for text, count in times.items() if count >= _OFTEN]
  often.sort(key=lambda text: -times[text])
  return {text: f'W{n}' for n, text in enumerate(often, start=1)}


def _legend(shared) -> str:
  if not shared:
    return ''
  items = ''.join(
    f'<div id="{sign.lower()}"><dt>{sign}</dt><dd>{escape(text)}</dd></div>'
    for text, sign in shared.items()
  )
  return (
    '<p class="sub">Warnings that several scans have:</p>'
    f'<dl class="legend">{items}</dl>'
  )


def _warnings(row, shared) -> str:
  """Signs of the shared ones, then the scan's own in full."""
  given = row.get('warnings') or ()
  signs = ', '.join(
    f'<a href="#{shared[text].lower()}" title="{escape(text)}">{shared[text]}'
    '</a>'
    for text in sorted(
      (text for text in given if text in shared),
      key=lambda text: int(shared[text][1:]),
    )
  )
  own = ''.join(f'<li>{escape(t)}</li>' for t in given if t not in shared)
  own = f'<ul class="warnings">{own}</ul>' if own else ''
  return signs + own or DASH


def _line(row, shared) -> str:
  name = escape(str(row['name']))
  link = _address(row)
  if link:
    name = f'<a href="{link}">{name}</a>'
  volume = row.get('volume_mm3')
  band = row.get('aria_h')
  pattern = str(row.get('pattern') or DASH).replace('_', ' ')
  cells = (
    ('Definite', row.get('definite'), None),
    ('Possible', row.get('possible'), None),
    ('Lobar', row.get('lobar'), None),
    ('Deep', row.get('deep'), None),
    ('Infratentorial', row.get('infratentorial'), None),
    ('Volume mm³', None if volume is None else f'{volume:.0f}', volume),
    ('Grade', row.get('grade'), None),
    ('ARIA-H', band, _BANDS.get(band, -1)),
    ('Pattern', _PATTERNS.get(pattern, pattern), None),
    ('Protocol', _protocol(row), None),
  )
  return (
    f'<tr><th scope="row" data-sort="{escape(str(row["name"]))}">{name}</th>'
    + ''.join(
      f'<td data-head="{head}" data-sort="{_key(text, key)}">'
      f'{DASH if text is None else escape(str(text))}</td>'
      for head, text, key in cells
    )
    + f'<td data-head="Warnings" data-sort="{len(row.get("warnings") or ())}">'
    + f'<div>{_warnings(row, shared)}</div></td></tr>'
  )


def _key(text, key) -> str:
  return escape(str(text if key is None else key)) if text is not None else '-1'


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
  return './' + urllib.parse.quote(str(page_name).replace(os.sep, '/'))


def _failed(failed) -> str:
  if not failed:
    return ''
  lines = ''.join(
    f'<tr><th scope="row">{escape(str(row["name"]))}</th>'
    f'<td data-head="Reason"><span>{escape(str(row["error"]))}</span></td></tr>'
    for row in failed
  )
  return (
    '<section id="failed" aria-labelledby="failed-head">'
    '<h2 id="failed-head">Failed</h2><table class="cards"><thead><tr>'
    '<th scope="col">Scan</th><th scope="col">Reason</th></tr></thead>'
    f'<tbody>{lines}</tbody></table></section>'
  )


def _download(table: str) -> str:
  if not table:
    return ''
  return (
    f'<p><a href="./{urllib.parse.quote(table)}" download>Table as a file</a> '
    f'<span class="small">{escape(table)}</span></p>'
  )
