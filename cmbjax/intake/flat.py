"""A folder without BIDS names to the scans in it.

Rule: images are of one person when their names differ in words of roles only,
or when a folder holds them. Persons are neither merged nor split in silence.
"""

import dataclasses
import pathlib
import re
from collections.abc import Collection
from typing import NamedTuple

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.intake import (
  beside,
  choice,
  doubts,
  filename,
  listing,
  named_image,
  pairs,
  roles,
)
from cmbjax.intake.listing import Listing
from cmbjax.intake.named_image import NamedImage
from cmbjax.intake.owner import Owner
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.sidecars import Sidecars

_NUMBER = re.compile(r'(?:^|\s)\d+$')
_TIME = re.compile(
  r'(ses|session|visit|tp|timepoint|time|fu|followup|baseline|bl|month|m|year|y|'
  r'v|t|scan|exam|study|mri?|(mr )?d|pre|post)? ?[\d ]*( [is] ?\d+)?'
)
_MOST_SESSIONS = 20  # more folders of numbers are persons
_CASE = re.compile(r'_(\d{4})$')  # nnU-Net: the number of the channel
_NNUNET = ('imagesTr', 'imagesTs')
_NOT_ENTERED = ('derivatives', 'sourcedata', 'code', 'unusable')
# Of one examination these are the same.
_EXAM = (
  'PatientID', 'PatientName', 'StudyInstanceUID', 'AcquisitionDateTime',
  'MagneticFieldStrength', 'DeviceSerialNumber',
)  # fmt: skip


class Found(NamedTuple):
  """What a folder holds."""

  scans: tuple[ScanFiles, ...]
  broken: tuple[tuple[str, str], ...]  # (name, why)
  files: tuple[tuple[pathlib.Path, str], ...]  # of no scan, and why
  notes: tuple[str, ...]


def find(
  root: pathlib.Path,
  *,
  pattern: str | None = None,
  options: Collection[str] = (),
) -> Found:
  """All scans in and below a folder, by name.

  Args:
    root: the folder.
    pattern: shell pattern of the name of the SWI.
    options: that the calling command has, to be named in advice.

  Raises:
    InputError: the folder cannot be read, or an image has no name.
  """
  names, others = _without_data_sets(listing.read(root, enters=_is_entered))
  sidecars = Sidecars(None, names)
  images = _described(beside.with_kinds(list(names.images())))
  groups = _groups(_of_cases(beside.with_copies(images)))
  groups, merged = _with_series(root, groups, sidecars)
  sessions = _sessions(groups)
  scans, unused = [], list(others)
  broken = [
    (f'sub-{filename.plain(parts[-1]) or "x"}', why)
    for parts, why in names.closed.items()
  ]
  for group in groups:
    who = _who(root, group, options)
    try:
      _check_folders(who, sessions[group[0].person])
      _check_named(who, group, sessions)
      _check_alone(who, group, sidecars)
      scan = choice.choose(who, group, sidecars, pattern=pattern)
    except pairs.HalfError as error:
      unused += [(i.path, str(error)) for i in group]
      continue
    except InputError as error:
      broken.append((who.name, str(error)))
      continue
    if scan is None:
      unused += [(i.path, _why(i)) for i in group]
    else:
      scans.append(scan)
  scans.sort(key=lambda scan: scan.name)
  unused += beside.foreign(names) if scans else []
  notes = (*merged, *doubts.of(g[0].person for g in groups))
  return Found(tuple(scans), tuple(broken), tuple(unused), notes)


def _described(found) -> list[NamedImage]:
  """What the names say; a folder around all persons is not one of them."""
  images = [named_image.describe(path, parts) for path, parts in found]
  tops = {parts[:1] for _, parts in found}
  sessions = {image.session for image in images}
  if len({i.person for i in images}) > 1 or len(sessions) < 2 or len(tops) > 1:
    return images
  if () in tops or all(map(_is_time, sessions)):
    return images
  return _described([(path, parts[1:]) for path, parts in found])


def _is_time(session: str | None) -> bool:
  """Whether a folder is of a session, not of a person: a day, a number."""
  if session is None:
    return True
  text = roles.words(session)  # '001' is how persons are numbered
  return bool(_TIME.fullmatch(text)) and not re.fullmatch(r'\d{3}', text)


def _without_data_sets(names: Listing) -> tuple[Listing, list]:
  """Without BIDS data sets below (results of ours are one), which are said."""
  tops = [
    parts
    for parts, held in names.folders.items()
    if parts and 'dataset_description.json' in held
  ]
  kept = {
    parts: held
    for parts, held in names.folders.items()
    if not any(parts[: len(top)] == top for top in tops)
  }
  why = 'a BIDS data set of its own, which is read by itself only'
  return (
    names._replace(folders=kept),
    [(names.root.joinpath(*top), why) for top in tops],
  )


def _is_entered(parts) -> bool:
  return parts[-1].lower() not in _NOT_ENTERED


def _why(image) -> str:
  return f'{image.role}, and no scan goes with it' if image.role else 'no scan'


def _groups(images) -> list[list[NamedImage]]:
  """The images of each person and session.

  dcm2niix adds a letter to a name that it gave already: of 5 and 5a both are
  of one person.
  """
  groups: dict[tuple, list[NamedImage]] = {}
  known = {image.person for image in images}
  for image in images:
    person = re.sub(r'(?<=\d)[a-d]$', '', image.person)
    person = person if person in known else image.person
    groups.setdefault((person, image.session), []).append(image)
  return list(groups.values())


def _sessions(groups) -> dict[str, set]:
  """Those of each person."""
  found: dict[str, set] = {}
  for group in groups:
    found.setdefault(group[0].person, set()).add(group[0].session)
  return found


def _who(root, group, options) -> Owner:
  """What a group is called; alone, by its name if nothing else is left."""
  label = next((i.label for i in group if i.label), '')
  if not label:
    first = group[0].path
    label = filename.plain(
      filename.stem(first) if len(group) == 1 else root.name
    )
    if not label:
      raise InputError(
        f'{first}: its name has no letter or digit to call the subject by; '
        'rename it.'
      )
  session = filename.plain(group[0].session or '')
  return Owner(f'sub-{label}', f'ses-{session}' if session else None, options)


def _check_folders(who, sessions):
  """Folders below a person's are sessions, when they are called so.

  Raises:
    InputError: they may be persons.
  """
  several = len(sessions) > 1 and not all(map(_is_time, sessions))
  if several or len(sessions) > _MOST_SESSIONS:
    listed = ', '.join(sorted(filter(None, sessions))[:6])
    raise InputError(
      f'{who.name}: its folder holds others ({listed}) that may be persons or '
      'sessions; call sessions ses-1, ses-2, ..., or give the folder above the '
      'persons by itself.'
    )


def _check_named(who, group, known):
  """A folder holds images of nobody who is elsewhere too.

  Raises:
    InputError: the name of one is that of another person.
  """
  for image in group:
    if image.role in roles.SCAN and image.rest and image.rest in known:
      raise InputError(
        f'{who.name}: {image.path} is called after {image.rest!r}, who has '
        'images elsewhere; move, rename or remove it.'
      )


def _check_alone(who, group, sidecars):
  """A folder of a person holds one scan.

  Raises:
    InputError: its names are of several.
  """
  scans = [i for i in group if i.role in roles.SCAN]
  rests = {i.rest for i in scans}
  if len(rests) < 2 or _is_one_exam(scans):
    return
  if not _is_one_exam(_asked(scans, sidecars), sidecars):
    folder = scans[0].path.parent
    listed = ', '.join(i.path.name for i in scans[:6])
    raise InputError(
      f'{who.name}: {folder} holds more than one scan ({listed}); give that '
      'folder by itself if they are of several persons, or put each scan into '
      'a folder of its own.'
    )


def _of_cases(images) -> list[NamedImage]:
  """nnU-Net's CASE_0000: the last number is a channel, not a person."""
  if not images or not _is_nnunet(images):
    return images
  channels = _channels(images)
  return [_of_case(image, channels) for image in images]


def _is_nnunet(images) -> bool:
  """By its folders, else by the same channels of several cases."""
  if any(i.path.parent.name in _NNUNET for i in images):
    return True
  channels: dict[str, set[str]] = {}
  for image in images:
    match = _CASE.search(filename.stem(image.path))
    if match:
      base = filename.stem(image.path)[: match.start()]
      channels.setdefault(base, set()).add(match[1])
    elif image.role not in (roles.LESIONS, roles.BRAIN_MASK):
      return False
  kinds = set(map(frozenset, channels.values()))
  return len(kinds) == 1 and kinds <= _CHANNELS and (
    len(channels) > 1 or kinds == {frozenset({'0000'})}
  )  # fmt: skip


_CHANNELS = {
  frozenset(f'{n:04d}' for n in range(count)) for count in range(1, 5)
}


def _channels(images) -> dict[int, str]:
  """Channel -> its name, of the dataset.json above."""
  for folder in dict.fromkeys(i.path.parent for i in images):
    top = folder.parent if folder.name in _NNUNET else folder
    path = top / 'dataset.json'
    if doors.is_there(path):
      content = files.read_object(path)
      named = content.get('channel_names') or content.get('modality')
      if isinstance(named, dict):
        return {int(n): str(v) for n, v in named.items() if n.isdecimal()}
  return {}


def _of_case(image, channels) -> NamedImage:
  match = _CASE.search(filename.stem(image.path))
  if not match or image.role == roles.LESIONS:
    return image
  number = int(match[1])
  said = roles.of_words(f'x {roles.words(channels.get(number, ""))}')
  person = _NUMBER.sub('', image.person)
  return dataclasses.replace(
    image,
    person=person,
    label=image.label.removesuffix(match[1]),
    role=said or image.role,
  )


def _with_series(root, groups, sidecars):
  """Groups that are the series of one examination, joined.

  dcm2niix ends a name with the number of the series, so that magnitude,
  phase, projection and SWI of Siemens differ in it.
  """
  by_base: dict[tuple, list] = {}
  for group in groups:
    first = group[0]
    base = _NUMBER.sub('', first.person) if first.series else None
    key = (base, first.session) if base is not None else (id(group),)
    by_base.setdefault(key, []).append(group)
  result, notes = [], []
  for (base, *_), some in by_base.items():
    images = [image for group in some for image in group]
    several = len(some) > 1 and not isinstance(base, int)
    if several and _is_one_exam(_asked(images, sidecars), sidecars):
      label = next((_without_number(i) for i in images), '')
      result.append(
        [dataclasses.replace(i, person=base, label=label) for i in images]
      )
      listed = ', '.join(i.path.name for i in images)
      notes.append(f'taken for the series of one person: {listed}')
    else:
      result += some
  return result, notes


def _without_number(image) -> str:
  number = _NUMBER.search(image.person)
  return image.label.removesuffix(number[0].strip()) if number else image.label


def _asked(images, sidecars) -> list[NamedImage]:
  """With the roles of their JSON; of a bad one, as they are."""
  return [named_image.by_header(i, sidecars, strict=False) for i in images]


def _is_one_exam(images, sidecars=None) -> bool:
  """Whether the images are different images of one scan: each role once."""
  if not all(i.series for i in images):
    return False
  seen = [(i.role, i.echo) for i in images if i.role in (*roles.SCAN,)]
  if len(set(seen)) < len(seen) or not seen:
    return False
  if len({role for role, _ in seen}) < len(seen) and len(seen) == len(images):
    return False
  if any(role == roles.UNKNOWN for role, _ in seen) or len(images) < 2:
    return False
  facts = [sidecars.of(i.path) for i in images] if sidecars else []
  return not any(
    len({str(f[name]) for f in facts if name in f}) > 1 for name in _EXAM
  )
