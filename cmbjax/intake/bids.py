"""A BIDS folder to the scans in it: which file is what, of whom.

Rule: a session holds one scan, in its folder or in anat/ or swi/ there; what
other programs made of it counts only as its brain mask.
"""

import dataclasses
import os
import pathlib
from collections.abc import Collection, Iterable
from typing import Any

import cmbjax
from cmbjax import doors, files
from cmbjax.errors import InputError, NoInputError
from cmbjax.intake import choice, filename, listing, named_image, roles
from cmbjax.intake.listing import Listing
from cmbjax.intake.named_image import NamedImage
from cmbjax.intake.owner import PATTERN, Owner
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.sidecars import Sidecars

BIDS_VERSION = '1.10.0'

_PLACES = ('anat', 'swi')
# Of other suffixes no scan is made, whatever the rest of the name says.
_SUFFIXES = ('swi', 't2starw', 'megre', 'gre', 't2star')


def find_scans(
  root: str | os.PathLike,
  *,
  participants: Iterable[str] = (),
  swi_pattern: str | None = None,
  failures: dict[str, str] | None = None,
  without: list[str] | None = None,
  options: Collection[str] = (),
) -> list[ScanFiles]:
  """All scans of a BIDS folder, sorted by subject and session.

  Args:
    root: the data set.
    participants: subject labels to keep, with or without 'sub-'; empty: all.
    swi_pattern: a shell pattern for the name of the SWI, when the usual names
      do not fit or more than one does.
    failures: filled with name and reason of each scan that cannot be used;
      None: the first of them is raised.
    without: filled with the names of subjects or sessions without a scan.
    options: that the calling command has, to be named in advice.

  Raises:
    NoInputError: no such folder, no subject, or no scan.
    InputError: more than one file could be the scan; the message lists them.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise NoInputError(
      f'{root}: no such folder; give the top of a BIDS data set.'
    )
  names = _read(root, participants)
  sidecars = Sidecars(root, names)
  derived = _derived(names)
  scans, bad = [], _closed(names, is_said=failures is not None)
  for who in _scans(names, options):
    if {who.name, who.subject} & set(bad):
      continue
    try:
      scan = choice.choose(
        who,
        _checked(who, _images(names, who)),
        sidecars,
        pattern=swi_pattern,
        masks=derived.get(who.name, ()),
      )
    except InputError as error:
      if failures is None:
        raise
      bad[who.name] = str(error)
      continue
    if scan is not None:
      scans.append(scan)
    elif without is not None:
      without.append(who.name)
  if failures is not None:
    failures.update(bad)
  if not scans and not bad:
    raise _nothing(root, swi_pattern, options)
  return scans


def _closed(names, *, is_said: bool) -> dict[str, str]:
  """Subjects or sessions some folder of which cannot be listed, and why.

  Raises:
    InputError: nobody would say it, or it is one of masks or truths, which may
      be anybody's.
  """
  bad = {}
  for parts, why in names.closed.items():
    if parts[0] == 'derivatives' or not is_said:
      raise InputError(why)
    bad['_'.join(p for p in parts if p.startswith(('sub-', 'ses-')))] = why
  return bad


def _nothing(root, pattern, options) -> NoInputError:
  wanted = pattern or 'anat/*_swi, *_T2starw, *_MEGRE or *_GRE'
  fix = f' or give a {PATTERN}' if PATTERN in options else ''
  return NoInputError(
    f'{root}: no subject has a file named {wanted}; check the names{fix}.'
  )


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


def _read(root, participants) -> Listing:
  """The names of the subjects that were asked for, and what is derived."""
  subjects = sorted(p.name for p in root.glob('sub-*') if p.is_dir())
  if not subjects:
    raise NoInputError(
      f'{root}: holds no sub-* folder; give the top of a BIDS data set.'
    )
  wanted = {'sub-' + p.removeprefix('sub-') for p in participants}
  missing = sorted(wanted - set(subjects))
  if missing:
    raise InputError(
      f'{root}: has no {", ".join(missing)}; it has '
      f'{", ".join(subjects[:8])}{" and more" if len(subjects) > 8 else ""}.'
    )
  kept = wanted or set(subjects)

  def enters(parts) -> bool:
    if parts[0] == 'derivatives' and len(parts) <= 2:
      return True
    below = parts[2:] if parts[0] == 'derivatives' else parts
    if len(below) == 1:
      return below[0] in kept
    is_place = below[-1] in _PLACES
    if len(below) == 2:
      return is_place or below[-1].startswith('ses-')
    return len(below) == 3 and is_place and below[1].startswith('ses-')

  return listing.read(root, enters=enters)


def _scans(names, options) -> list[Owner]:
  """Each session; each subject that has none, or images beside them."""
  found = []
  with_sessions = {
    parts[0]
    for parts in names.folders
    if len(parts) == 2 and parts[1].startswith('ses-')
  }
  for parts in names.folders:
    if not parts or not parts[0].startswith('sub-') or len(parts) > 2:
      continue
    if len(parts) == 2 and parts[1].startswith('ses-'):
      found.append(Owner(*parts, options))
    elif len(parts) == 1:
      who = Owner(parts[0], None, options)
      if parts[0] not in with_sessions or _images(names, who):
        found.append(who)
  return sorted(found, key=lambda who: (who.subject, who.session or ''))


def _images(names: Listing, who: Owner) -> list[NamedImage]:
  """The images of one scan, in its folder, anat/ and swi/."""
  own = (who.subject, *([who.session] if who.session else []))
  return [
    _strict(named_image.describe(path))
    for place in ((), *((place,) for place in _PLACES))
    for path, _ in names.images_in(*own, *place)
  ]


def _checked(who: Owner, images: list[NamedImage]) -> list[NamedImage]:
  """A file in the folder of another person or session is of nobody.

  Raises:
    InputError: the name of one says so.
  """
  for image in images:
    if image.role not in roles.SCAN:
      continue
    for key, own in (('sub', who.subject), ('ses', who.session)):
      said = filename.entities(image.path).get(key)
      own = own and own.removeprefix(f'{key}-')
      if said and own and not _is_one_label(said, own):
        raise InputError(
          f'{who.name}: {image.path} is of {key}-{said} by its name and of '
          f'{key}-{own} by its folder; move or rename it.'
        )
  return images


def _is_one_label(one: str, other: str) -> bool:
  """'01' is '1' where somebody has written numbers twice."""
  if one.isdecimal() and other.isdecimal():
    return int(one) == int(other)
  return one == other


def _strict(image: NamedImage) -> NamedImage:
  """Only a gradient echo is (part of) a scan."""
  suffix = filename.entities(image.path).suffix.lower()
  is_scan = suffix in _SUFFIXES or roles.of_words(f'x {suffix}')
  if image.role in roles.SCAN and not is_scan:
    return dataclasses.replace(image, role=roles.OTHER)
  return image


def _derived(names: Listing) -> dict[str, list[pathlib.Path]]:
  """Name of a scan -> brain masks that other programs made; the truth of a
  simulation is not an input."""
  found: dict[str, list[pathlib.Path]] = {}
  for path, parts in names.images('derivatives'):
    if len(parts) < 3 or parts[1] == 'truth':
      continue
    if named_image.describe(path).role == roles.BRAIN_MASK:
      name = '_'.join(p for p in parts[2:] if p[:4] in ('sub-', 'ses-'))
      found.setdefault(name, []).append(path)
  return found
