"""A built data set on disk: written once, and checked before it is read.

Rule: a build is whole or absent, and is used again only while the files, the
gates and the code that made it are the same, and what it holds is what was
written: HASHES, written last, lists every file.
"""

import contextlib
import errno
import functools
import importlib
import importlib.util
import io
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from cmbjax import doors, files, locks, sealed
from cmbjax.data import lesion_labels
from cmbjax.errors import InputError, NoInputError
from cmbjax.reconstruct.channels import CHANNELS

HASHES = 'hashes.json'
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def is_built(folder: str | pathlib.Path) -> bool:
  """Whether a folder is a data set that was built, not a cohort."""
  return doors.is_there(pathlib.Path(folder) / 'dataset_info.json')


def metadata(builder_folder: str | pathlib.Path) -> dict[str, Any]:
  """What a data set says of itself: fingerprint, simulated, gates, scans.

  A row of 'scans' also lists every true lesion with its size and region, every
  missed one with why it was missed and a picture, and counts the candidates
  that each gate dropped.

  Raises:
    NoInputError: this folder holds no data set.
    InputError: one of its files is not what was written.
  """
  path = pathlib.Path(builder_folder) / 'metadata.json'
  if not doors.is_there(path):
    raise NoInputError(f'{path.parent}: holds no built data set.')
  if not doors.is_there(path.parent / HASHES):
    _note_unsealed(path.parent)
  elif why := sealed.damage(path.parent / HASHES, path.parent):
    raise damaged(path.parent, why)
  return files.read_object(path)


@functools.cache
def _note_unsealed(folder: pathlib.Path) -> None:
  print(
    f'note: {folder}: has no {HASHES} (built without `cmbjax build`), '
    'so damage of its files may go unnoticed.',
    file=sys.stderr,
  )


def builder_class_of(given: str) -> type:
  """The builder of 'tfds_builders/NAME', or of a name; else a plain one.

  Raises:
    NoInputError: the builder folder does not exist.
    InputError: the name holds other characters than small letters, digits, _.
  """
  from cmbjax.data import cohort_builder

  name, room = pathlib.Path(given).name, pathlib.Path(given).parent.name
  stem = f'{name}_dataset_builder'
  (home,) = importlib.util.find_spec('tfds_builders').submodule_search_locations
  if room in ('', 'tfds_builders') and (
    doors.is_there(pathlib.Path(home, name, f'{stem}.py'))
  ):
    return importlib.import_module(f'tfds_builders.{name}.{stem}').Builder
  if name != given:
    raise NoInputError(
      f'{given}: holds no {stem}.py; give a builder folder such as '
      'tfds_builders/NAME.'
    )
  if not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise InputError(
      f'cohort name: found {name!r}; use small letters, digits and _, a letter '
      'first.'
    )
  base = cohort_builder.CohortBuilder
  names = {'name': name, '__module__': base.__module__}
  return type(base)('Builder', (base,), names, skip_registration=True)


def fingerprint(
  folder: str | pathlib.Path, channels: Sequence[str], candidates: str
) -> str:
  """Of a cohort's data set: see `cohort_builder.fingerprint`.

  Args:
    folder: the cohort.
    channels: that the patches have.
    candidates: how they are found, see `candidates.stages`.

  Raises:
    InputError: as `cohort.read_cohort`, or the stage is unknown.
  """
  from cmbjax.candidates.gates import Gates
  from cmbjax.data import cohort as cohorts  # late: TFDS needs a second
  from cmbjax.data import cohort_builder

  cohort = cohorts.read_cohort(folder)
  cohorts.tell_left_out(cohort)
  gates = Gates(generator=candidates)
  return cohort_builder.fingerprint(cohort, gates=gates, channels=channels)


def config_of(builder_class: type, config: str):
  """The builder's config of that name.

  Raises:
    InputError: it has none.
  """
  configs = {known.name: known for known in builder_class.BUILDER_CONFIGS}
  if config not in configs:
    raise InputError(
      f'patches: found {config!r}, allowed are native and resampled, and '
      f'behind them those that are wanted of {", ".join(CHANNELS[1:])}, in '
      f'this order, as {list(configs)[-1]}.'
    )
  return configs[config]


def write_once(
  builder_class: type,
  folder: str | pathlib.Path,
  home: pathlib.Path,
  *,
  mark: str,
  config: str,
  overwrite: bool = False,
  again: bool = False,
  **how: Any,
) -> pathlib.Path:
  """Builds below `home` unless the same is there; one process at a time.

  Args:
    builder_class: of TFDS.
    folder: the cohort.
    home: gets NAME/CONFIG/VERSION.
    mark: fingerprint of what decides the records.
    config: name of the builder's config.
    overwrite: build whatever is there.
    again: what is there but damaged is built again, with a word; `home` is
      only for data sets of this mark.
    **how: further arguments of the builder.

  Returns:
    The folder.

  Raises:
    InputError: something is wrong with the cohort, or another or a damaged
      data set is there.
  """
  config_of(builder_class, config)
  final = home / builder_class.name / config / str(builder_class.VERSION)
  files.check_place(home, utf8=True)
  with locks.alone_in(home, wait=True):
    if final.exists() and not overwrite:  # TFDS moves it there when whole
      why = sealed.damage(final / HASHES, final)
      if not why and metadata(final).get('fingerprint') == mark:
        _say(final)
        return final
      if not (why and again):
        what = 'was built from other files or by other code'
        what = f'is damaged ({why})' if why else what
        raise InputError(
          f'{final}: {what}; overwrite it or give another data_dir.'
        )
      print(
        f'note: {final}: is damaged ({why}); it is built again.',
        file=sys.stderr,
      )
    _remove_leftovers(final)
    builder = builder_class(data_dir=str(home), config=config, **how)
    _prepare(builder, pathlib.Path(folder))
    inside = [path for path in sorted(final.iterdir()) if path.is_file()]
    sealed.write_list(final / HASHES, {path.name: path for path in inside})
  _say(final)
  return final


def _say(final: pathlib.Path) -> None:
  """How the lesions of its scans are counted, and what else is to be known."""
  scans = metadata(final)['scans']
  for key, about in (('said', 'truth of '), ('notes', '')):
    of = {row['scan']: tuple(row.get(key, ())) for row in scans}
    for sentence in lesion_labels.together(of, about=about):
      print(f'note: {sentence}', file=sys.stderr)


def _remove_leftovers(final: pathlib.Path) -> None:
  """Removes what a kill left, or shall be overwritten; the lock is ours."""
  if final.exists():
    shutil.rmtree(final)
  for old in final.parent.glob(f'incomplete.*_{final.name}'):  # TFDS's names
    shutil.rmtree(old)


def _prepare(builder, folder: pathlib.Path) -> None:
  """Runs the builder; what is there under the final name is complete."""
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()  # ours counts scans
  settings = tfds.download.DownloadConfig(
    manual_dir=str(folder.absolute()), try_download_gcs=False
  )
  try:
    with (
      tempfile.TemporaryDirectory() as unused,
      # It announces itself, and standard output is for the folder.
      contextlib.redirect_stdout(io.StringIO()),
    ):
      builder.download_and_prepare(
        download_dir=unused, download_config=settings
      )
  except Exception as error:
    cause = _input_error_in(error) or _no_room_in(error, builder)
    if cause is None:
      raise
    raise cause from None


def _input_error_in(error: BaseException | None) -> InputError | None:
  """TFDS wraps what a generator raises; the person needs the first line."""
  while error is not None:
    inner = error.__cause__ or error.__context__
    if isinstance(error, InputError) and not isinstance(inner, InputError):
      return error
    error = inner
  return None


def _no_room_in(error: BaseException | None, builder) -> InputError | None:
  """What the system said of the place, somewhere below TFDS's words."""
  while error is not None:
    for reason in map(os.strerror, _NO_ROOM):
      # array_record raises a RuntimeError that quotes the system.
      if isinstance(error, OSError | RuntimeError) and reason in str(error):
        return InputError(
          f'{builder.data_path}: cannot be written ({reason}); free some space '
          'or give another data_dir.'
        )
    error = error.__cause__ or error.__context__
  return None


def open_checked(builder_folder: pathlib.Path):
  """The TFDS builder of a data set, all of whose files are as written.

  Raises:
    NoInputError: this folder holds no data set.
    InputError: it is damaged.
  """
  import tensorflow_datasets as tfds

  metadata(builder_folder)
  try:
    return tfds.builder_from_directory(str(builder_folder))
  except Exception as error:  # of JSON, of protobuf, of TFDS itself
    raise damaged(builder_folder, error) from error


def damaged(folder: pathlib.Path, why: Any) -> InputError:
  """The error to raise for a damaged data set."""
  first = (str(why).splitlines() or [''])[0]
  return InputError(
    f'{folder}: is damaged ({first}); remove this folder and build again.'
  )
