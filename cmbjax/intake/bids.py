"""A BIDS folder to the scans in it: which file is what, of whom.

Rule: one scan has one SWI (or magnitude and phase); more than one candidate
is a question to the person, never a silent choice.
"""

import fnmatch
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import cmbjax
from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import sidecars
from cmbjax.intake.filename import entities
from cmbjax.intake.scan_files import ScanFiles

BIDS_VERSION = '1.10.0'

_IMAGE = re.compile(r'\.nii(\.gz)?$')
_PROJECTION = re.compile(r'(^|_|-)m(in)?ip', re.IGNORECASE)


def find_scans(
  root: str | os.PathLike,
  *,
  participants: Iterable[str] = (),
  swi_pattern: str | None = None,
  failures: dict[str, str] | None = None,
) -> list[ScanFiles]:
  """All scans of a BIDS folder, sorted by subject and session.

  Args:
    root: the data set.
    participants: subject labels to keep, with or without 'sub-'; empty: all.
    swi_pattern: a shell pattern for the name of the SWI, when the usual names
      do not fit or more than one does.
    failures: filled with name and reason of each scan that cannot be used;
      None: the first of them is raised.

  Raises:
    NoInputError: no such folder, no subject, or no scan.
    InputError: more than one file could be the scan; the message lists them.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise NoInputError(
      f'{root}: no such folder; give the top of a BIDS data set.'
    )
  scans, bad = [], {}
  for name, folder in folders_of(root, participants).items():
    try:
      scan = _find_scan(root, name, folder, swi_pattern)
    except InputError as error:
      if failures is None:
        raise
      bad[name] = str(error)
      continue
    if scan is not None:
      scans.append(scan)
  if failures is not None:
    failures.update(bad)
  if not scans and not bad:
    wanted = swi_pattern or 'anat/*_swi, *_T2starw or *_MEGRE'
    raise NoInputError(
      f'{root}: no subject has a file named {wanted}; check the names or give '
      'a pattern of your own.'
    )
  return scans


def folders_of(
  root: str | os.PathLike, participants: Iterable[str] = ()
) -> dict[str, pathlib.Path]:
  """'sub-01' or 'sub-01_ses-1' to the folder whose anat/ is looked into.

  Raises:
    NoInputError, InputError: no subject, or not one that was asked for.
  """
  found = {}
  for subject in _subjects(pathlib.Path(root), participants):
    sessions = sorted(p for p in subject.glob('ses-*') if p.is_dir())
    found |= {f'{subject.name}_{p.name}': p for p in sessions}
    if not sessions:
      found[subject.name] = subject
  return found


def is_simulated(root: pathlib.Path) -> bool:
  """Whether a data set says that its scans are not of people."""
  path = root / 'dataset_description.json'
  content = files.read_object(path) if doors.is_there(path) else {}
  return content.get('Simulated') is True


def write_description(
  root: str | os.PathLike,
  name: str,
  *,
  kind: str = 'raw',
  extra: dict[str, Any] | None = None,
) -> pathlib.Path:
  """Writes dataset_description.json; `kind` is 'raw' or 'derivative'.

  Args:
    root: folder of the data set.
    name: of it.
    kind: 'raw' or 'derivative'.
    extra: further fields.
  """
  if kind not in ('raw', 'derivative'):
    raise InputError(f"kind: found {kind!r}; give 'raw' or 'derivative'.")
  fields = {'Name': name, 'BIDSVersion': BIDS_VERSION, 'DatasetType': kind}
  if kind == 'derivative':
    fields['GeneratedBy'] = [{'Name': 'cmbjax', 'Version': cmbjax.__version__}]
  path = pathlib.Path(root) / 'dataset_description.json'
  files.write_json(path, fields | (extra or {}))
  return path


def _subjects(root, participants):
  folders = sorted(p for p in root.glob('sub-*') if p.is_dir())
  if not folders:
    raise NoInputError(
      f'{root}: holds no sub-* folder; give the top of a BIDS data set.'
    )
  wanted = {'sub-' + p.removeprefix('sub-') for p in participants}
  missing = sorted(wanted - {f.name for f in folders})
  if missing:
    raise InputError(
      f'{root}: has no {", ".join(missing)}; it has '
      f'{", ".join(f.name for f in folders[:8])}'
      f'{" and more" if len(folders) > 8 else ""}.'
    )
  return [f for f in folders if not wanted or f.name in wanted]


def _find_scan(root, name, folder, swi_pattern):
  session = folder.name if folder.name.startswith('ses-') else None
  subject = (folder.parent if session else folder).name
  images = sorted(
    p
    for p in [*folder.glob('anat/*'), *folder.glob('swi/*')]
    if _IMAGE.search(p.name)
    and not _PROJECTION.search(p.name)
    and not files.is_hidden(p)
  )
  swi = _one_swi(name, images, swi_pattern)
  try:
    magnitude, phase = _signal_of(name, images)
  except InputError:
    if swi is None:
      raise
    magnitude, phase = (), ()  # which belongs to the SWI is not known
  main = swi or next(iter(magnitude), None)
  if main is None:
    return None
  return ScanFiles(
    subject=subject,
    session=session,
    name=name,
    swi=swi,
    magnitude=magnitude,
    phase=phase,
    mask=_one_mask(root, name, images),
    sidecar=sidecars.read(main, root=root),
  )


def _one_swi(name, images, pattern):
  if pattern is not None:
    return _only(name, [p for p in images if fnmatch.fnmatch(p.name, pattern)])
  for folder in ('anat', 'swi'):
    found = [
      p
      for p in images
      if p.parent.name == folder and entities(p).suffix.lower() == 'swi'
    ]
    if found:
      return _only(name, found)
  found = [
    p
    for p in images
    if entities(p).suffix == 'T2starw'
    and entities(p).get('part') is None
    and any('swi' in (entities(p).get(k) or '').lower() for k in ('acq', 'rec'))
  ]
  return _only(name, found)


def _signal_of(name, images):
  """(magnitude, phase) of the first kind of file that is there."""
  for suffix, part in (
    ('T2starw', 'mag'),
    ('T2starw', None),
    ('MEGRE', 'mag'),
    ('GRE', 'mag'),
  ):
    found = [
      p
      for p in images
      if entities(p).suffix == suffix
      and entities(p).get('part') == part
      and not (part is None and _named_swi(p))
    ]
    if found:
      magnitude = _echoes(name, found)
      partners = [
        q
        for p in magnitude
        for q in images
        if entities(q).suffix == suffix
        and entities(q).get('part') == 'phase'
        and entities(q).without('part') == entities(p).without('part')
      ]
      return magnitude, tuple(partners)
  return (), ()


def _named_swi(path):
  return any(
    'swi' in (entities(path).get(k) or '').lower() for k in ('acq', 'rec')
  )


def _echoes(name, found):
  """One file per echo, by echo time (the label where there is none)."""
  groups = {entities(p).without('part', 'echo') for p in found}
  if len(groups) > 1 or (
    len(found) > 1 and any(entities(p).get('echo') is None for p in found)
  ):
    _only(name, found, what='magnitude')
  return tuple(sorted(found, key=_echo_order))


def _echo_order(path):
  time = sidecars.read(path).get('EchoTime')
  seconds = float(time) if isinstance(time, int | float) else 0.0
  label = entities(path).get('echo') or '0'
  return (seconds, int(label) if label.isdecimal() else 0)


def _one_mask(root, name, images):
  own = [p for p in images if entities(p).suffix == 'mask']
  derived = [
    p
    for p in (root / 'derivatives').glob(f'*/{name.replace("_", "/")}/anat/*')
    if _IMAGE.search(p.name)
    and entities(p).suffix == 'mask'
    and 'truth' not in p.parts
    and not files.is_hidden(p)
  ]
  return _only(
    name,
    [
      p
      for p in own + sorted(derived)
      if 'brain'
      in (entities(p).get('label') or entities(p).get('desc') or '').lower()
    ],
    what='brain mask',
  )


def _only(name, found, *, what='SWI'):
  if len(found) > 1:
    named = 'name one with --swi-pattern (detect and review), or '
    fix = named if what == 'SWI' else ''
    raise InputError(
      f'{name}: {len(found)} files could be the {what} ('
      + ', '.join(str(p) for p in found)
      + f'); {fix}move the others away.'
    )
  return found[0] if found else None
