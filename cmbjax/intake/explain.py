"""Scans as they were found to a table that says what each file is.

Rule: no image of the input is missing from it: it is used, or in `left out`
with the reason.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cmbjax import files
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.scans import FoundScans
from cmbjax.intake.sidecars import Sidecars
from cmbjax.intake.truth_files import TruthFiles

NONE = '-'


class ScanRow(NamedTuple):
  """One scan, or what is not one; every cell is text."""

  person: str
  session: str
  swi: str
  magnitude: str
  phase: str
  echoes: str  # times in ms, else how many
  mask: str
  truth: str
  sidecar: str
  left_out: str  # 'FILE (why); ...'


def rows(
  root: pathlib.Path,
  found: FoundScans,
  truths: Mapping[str, TruthFiles | None] | None = None,
) -> list[ScanRow]:
  """The table of --dry-run: scans, then what cannot be used, then the rest.

  Args:
    root: the input; paths are shown below it.
    found: its scans.
    truths: name of a scan -> its truth, for commands that use one.
  """
  truths = truths or {}
  sidecars = Sidecars(root if found.kind == 'bids' else None)
  table = [
    _of_scan(root, scan, truths.get(scan.name), sidecars)
    for scan in found.scans
  ]
  for name, why in found.broken:
    subject, _, session = name.partition('_')
    table.append(_empty(subject, session, f'all ({why})'))
  unused = set(found.files)
  if unused:
    table.append(_empty(NONE, '', _listed(root, found.files)))
  table += [
    _empty(*name.partition('_')[::2], 'no scan')
    for name in found.left_out
    if found.kind == 'bids'
  ]
  return table


def text(table: Sequence[ScanRow]) -> str:
  """A line for each row, with tabs between cells, the names first."""
  lines = [tuple(name.replace('_', ' ') for name in ScanRow._fields), *table]
  return '\n'.join('\t'.join(line) for line in lines)


def _of_scan(root, scan: ScanFiles, truth, sidecars) -> ScanRow:
  used = {scan.swi, *scan.magnitude, *scan.phase, scan.mask}
  left_out = dict(scan.left_out)
  if truth is not None:
    used |= set(truth.paths)
    left_out |= dict(truth.left_out)
  jsons = sidecars.paths(scan.swi or scan.magnitude[0])
  return ScanRow(
    scan.subject,
    scan.session or NONE,
    _names(root, [scan.swi]),
    _names(root, scan.magnitude) + (' (real)' if scan.cartesian else ''),
    _names(root, scan.phase) + (' (imaginary)' if scan.cartesian else ''),
    _echoes(scan),
    _names(root, [scan.mask]),
    _names(root, [truth.path] if truth else []),
    _names(root, jsons),
    _listed(root, [row for row in left_out.items() if row[0] not in used]),
  )


def _empty(person, session, why) -> ScanRow:
  blank = [NONE] * (len(ScanRow._fields) - 3)
  return ScanRow(person, session or NONE, *blank, why)


def _echoes(scan) -> str:
  images = scan.magnitude or ((scan.swi,) if scan.swi else ())
  times = [scan.facts.get(p, {}).get('EchoTime') for p in images]
  if times and all(files.is_number(t) for t in times):
    return ', '.join(f'{1000 * t:g} ms' for t in times)
  return str(len(images))


def _names(root, paths: Iterable[pathlib.Path | None]) -> str:
  found = [_below(root, p) for p in paths if p is not None]
  return ', '.join(found) or NONE


def _listed(root, rows) -> str:
  return '; '.join(f'{_below(root, p)} ({why})' for p, why in rows) or NONE


def _below(root, path) -> str:
  """The path as it is below the input; elsewhere in full."""
  if root.is_dir() and path.is_relative_to(root):
    return os.path.relpath(path, root)
  return path.name if path.parent == root.parent else str(path)
