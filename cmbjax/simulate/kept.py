"""Simulated subjects that are there already, and whether they still are whole.

Rule: what a run made is compared with the hashes of then before it is used
again. A damaged subject is simulated again, with a word, and has to come out
as it was.
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence

from cmbjax import sealed
from cmbjax.errors import InputError

LISTS = '.hashes'  # folder in a cohort, a list per subject


def remember(
  out: pathlib.Path, label: str, *, mark: str, homes: Sequence[str]
) -> None:
  """Writes the list of a subject's files.

  Args:
    out: folder of the cohort.
    label: of the subject.
    mark: of the settings that made it.
    homes: its folders, relative to `out`.
  """
  found = [path for home in homes for path in (out / home).rglob('*')]
  members = {str(p.relative_to(out)): p for p in sorted(found) if p.is_file()}
  sealed.write_list(_list_of(out, label), members, mark=mark)


def forget(out: pathlib.Path, label: str) -> None:
  """Removes the list: the files are about to change."""
  _list_of(out, label).unlink(missing_ok=True)


def mark_of(out: pathlib.Path, label: str) -> str | None:
  """Settings that made a subject, as its list says; None: no whole list."""
  return _read(out, label).get('mark')


def is_whole(out: pathlib.Path, label: str) -> bool:
  """Whether a subject can be used as it is; says why not."""
  why = sealed.damage(_list_of(out, label), out)
  if why:
    print(
      f'note: {out / label}: is damaged ({why}); it is simulated again.',
      file=sys.stderr,
      flush=True,
    )
  return not why


def check_same(
  out: pathlib.Path, label: str, *, mark: str, new: Mapping[str, pathlib.Path]
) -> None:
  """What replaces a damaged subject has to be what it was.

  Args:
    out: folder of the cohort.
    label: of the subject.
    mark: of the settings that made it.
    new: each of its folders, relative to `out`, to where the new one is.

  Raises:
    InputError: a file differs from the list.
  """
  before = _read(out, label)
  if before.get('mark') != mark:
    return
  for home, place in new.items():
    for name, wanted in before['files'].items():
      path = pathlib.PurePosixPath(name)
      if not path.is_relative_to(home):
        continue
      file = place / path.relative_to(home)
      if not file.is_file() or sealed.sha256(file) != wanted:
        raise InputError(
          f'{out / label}: is damaged, and simulating it again gives another '
          f'{path.name}, as some package has another version than then; '
          'choose another folder or delete this one.'
        )


def _list_of(out: pathlib.Path, label: str) -> pathlib.Path:
  return out / LISTS / f'{label}.json'


def _read(out: pathlib.Path, label: str) -> dict:
  try:
    return sealed.read_json(_list_of(out, label))
  except InputError:
    return {}
