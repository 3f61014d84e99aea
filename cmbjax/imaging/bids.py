"""A BIDS folder to the scans in it: which file is what, of whom.

Rule: one scan has one SWI (or magnitude and phase); more than one candidate
is a question to the person, never a silent choice.
"""

import dataclasses
import fnmatch
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import cmbjax
from cmbjax import files
from cmbjax.errors import InputError, NoInputError

BIDS_VERSION = '1.10.0'

_IMAGE = re.compile(r'\.nii(\.gz)?$')
_PROJECTION = re.compile(r'(^|_|-)m(in)?ip', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Entities:
  """The parts of a BIDS file name, `key-value_..._suffix.extension`."""

  values: dict[str, str]  # in the order of the name
  suffix: str
  extension: str

  def get(self, key: str) -> str | None:
    return self.values.get(key)

  def without(self, *keys: str) -> tuple[tuple[str, str], ...]:
    """The other entities, for grouping."""
    return tuple((k, v) for k, v in self.values.items() if k not in keys)


@dataclasses.dataclass(frozen=True)
class ScanFiles:
  """The files of one scan."""

  subject: str  # 'sub-01'
  session: str | None  # 'ses-1'
  name: str  # 'sub-01' or 'sub-01_ses-1'; unique in the cohort
  swi: pathlib.Path | None
  magnitude: pathlib.Path | tuple[pathlib.Path, ...] | None
  phase: pathlib.Path | tuple[pathlib.Path, ...] | None
  mask: pathlib.Path | None
  sidecar: dict[str, Any]  # of the SWI, else of the (first) magnitude


def entities(path: str | os.PathLike) -> Entities:
  """'sub-01_echo-2_part-mag_MEGRE.nii.gz' to its parts."""
  name = pathlib.Path(path).name
  stem, _, extension = name.partition('.')
  *pairs, suffix = stem.split('_')
  values = dict(p.split('-', 1) for p in pairs if '-' in p)
  return Entities(values, suffix, '.' + extension if extension else '')


def sidecar(
  path: str | os.PathLike, *, root: str | os.PathLike | None = None
) -> dict[str, Any]:
  """The JSON fields of an image, nearer files going before farther ones.

  Args:
    path: the image.
    root: the top of the data set; None: the nearest folder above that holds
      dataset_description.json, else the image's own folder.

  Raises:
    InputError: a JSON file that cannot be read.
  """
  path = pathlib.Path(path)
  if root is None:
    path = path.absolute()  # 'scan.nii' too lies in folders
    root = _dataset_root(path)
  root = pathlib.Path(root)
  own, fields = entities(path), {}
  for folder in _folders_down(root, path.parent):
    fitting = []
    for file in sorted(folder.glob('*.json')):
      found = entities(file)
      if found.suffix == own.suffix and all(
        own.get(k) == v for k, v in found.values.items()
      ):
        fitting.append((len(found.values), file))
    for _, file in sorted(fitting):
      fields.update(files.read_object(file))
  return fields


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
  content = files.read_object(path) if path.is_file() else {}
  return content.get('Simulated') is True


def as_paths(some: Any) -> tuple[pathlib.Path, ...]:
  """A magnitude or phase of `ScanFiles`, however many files it has."""
  if some is None:
    return ()
  return some if isinstance(some, tuple) else (some,)


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
    magnitude, phase = None, None  # which belongs to the SWI is not known
  first = magnitude[0] if isinstance(magnitude, tuple) else magnitude
  main = swi or first
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
    sidecar=sidecar(main, root=root),
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
      return _unwrap(magnitude), _unwrap(tuple(partners))
  return None, None


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
  time = sidecar(path).get('EchoTime')
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


def _unwrap(paths):
  return (paths[0] if len(paths) == 1 else paths) if paths else None


def _dataset_root(path):
  for folder in path.parents:
    if (folder / 'dataset_description.json').is_file():
      return folder
  return path.parent


def _folders_down(root, folder):
  chain = [folder]
  while chain[-1] != root and root in chain[-1].parents:
    chain.append(chain[-1].parent)
  return reversed(chain)
