"""A cohort folder to examples in memory, through a data set built once.

Rule: a build is whole or absent, and is used again only while the files, the
gates and the code that made it are the same, and what it holds is what was
written: HASHES, written last, lists every file.
"""

import contextlib
import errno
import fcntl
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
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cmbjax import files, sealed
from cmbjax.data import persons
from cmbjax.errors import InputError, NoInputError

HASHES = 'hashes.json'
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

Columns = TypeVar('Columns', bound=tuple)


class Examples(NamedTuple):
  """N candidates; every field has N rows, sorted by cohort and key."""

  image: np.ndarray  # [N, 24, 24, 12] float32 0..1, the SWI
  label: np.ndarray  # [N] int8, 1 = cmb
  subject: np.ndarray  # [N] str 'sub-3T001'
  scan: np.ndarray  # [N] str 'sub-3T001' or 'sub-3T001_ses-1'
  key: np.ndarray  # [N] str 'subject/scan/candidate'; the only join column
  centre: np.ndarray  # [N, 3] int32, RAS voxel index
  centre_mm: np.ndarray  # [N, 3] float32, RAS world
  spacing_mm: np.ndarray  # [N, 3] float32 of the scan
  score: np.ndarray  # [N] float32 of the detector
  lesion: np.ndarray  # [N] int32, truth lesion of the scan, 0 for a mimic
  cohort: np.ndarray  # [N] str
  beside: np.ndarray  # [N, 24, 24, 12, C - 1] float32 0..1, further channels


class Scans(NamedTuple):
  """M scans, also those without a candidate."""

  scan: np.ndarray  # [M] str
  subject: np.ndarray  # [M] str
  cohort: np.ndarray  # [M] str
  num_lesions: np.ndarray  # [M] int32, all that the truth holds
  num_missed: np.ndarray  # [M] int32, those that no candidate shows
  num_candidates: np.ndarray  # [M] int32
  truth: (
    np.ndarray
  )  # [M] str: 'labels', 'points', 'candidates' (misses unknown)
  simulated: np.ndarray  # [M] bool
  spacing_mm: np.ndarray  # [M, 3] float32
  field_t: np.ndarray  # [M] float32, NaN when not known
  echo_time_s: np.ndarray  # [M] float32, NaN when not known
  mask_ml: np.ndarray  # [M] float32, volume of the brain mask
  contrast: np.ndarray  # [M] float32, see `tables.image_facts`
  person: np.ndarray  # [M] str, see `persons.person_of`


class Lesions(NamedTuple):
  """L true lesions, also those that no candidate shows."""

  key: np.ndarray  # [L] str 'subject/scan/lesion-003'
  subject: np.ndarray  # [L] str
  scan: np.ndarray  # [L] str
  cohort: np.ndarray  # [L] str
  lesion: np.ndarray  # [L] int32, as in `Examples.lesion`
  diameter_mm: np.ndarray  # [L] float32, NaN when not known
  region: np.ndarray  # [L] str, '' when not known
  centre_mm: np.ndarray  # [L, 3] float32, RAS world
  why: np.ndarray  # [L] str, '' when a candidate shows it
  score: np.ndarray  # [L] float32 of the candidate that a gate stopped, or NaN
  image: np.ndarray  # [L] object: float32 [16, 16, 8] when missed, else None


def build(
  cohort_name: str,
  folder: str | pathlib.Path,
  data_dir: str | pathlib.Path,
  *,
  config: str = 'native',
  candidates: str = 'frst',
  jobs: int | None = None,
) -> pathlib.Path:
  """Builds a cohort's patches once, and finds them the next time.

  The result is data_dir/FINGERPRINT/COHORT/CONFIG/VERSION. Candidate tables
  are in data_dir/tables, so that another config, or a run after a kill, does
  not search again. A build of which a file was changed is made again, with a
  word on standard error.

  Args:
    cohort_name: any name of small letters, digits and '_'.
    folder: the scans and their truth, see `cohort.read_cohort`.
    data_dir: where data sets are kept.
    config: 'native', 'resampled', or with further channels, see
      `channels.data_set`.
    candidates: how they are found: 'frst', 'hessian' or 'module:function',
      see `detect.stages`.
    jobs: threads; None: one per core.

  Returns:
    The folder for `load`.

  Raises:
    InputError: whatever is wrong with the cohort; nothing is left behind.
  """
  builder_class = builder_class_of(cohort_name)
  channels = _known(builder_class, config).channels
  mark = _fingerprint(folder, channels, candidates)
  data_dir = pathlib.Path(data_dir)
  return _build_once(
    builder_class,
    folder,
    data_dir / mark,
    mark=mark,
    config=config,
    again=True,
    tables_dir=data_dir / 'tables',
    candidates=candidates,
    jobs=jobs,
  )


def build_with(
  builder_class: type,
  folder: str | pathlib.Path,
  data_dir: str | pathlib.Path,
  *,
  config: str = 'native',
  candidates: str = 'frst',
  jobs: int | None = None,
  overwrite: bool = False,
  runner=None,
) -> pathlib.Path:
  """As `build`, but to the usual place of TFDS, data_dir/NAME/CONFIG/VERSION.

  Raises:
    InputError: also when another cohort, or other code, was built there, or
      what was built there is damaged, and `overwrite` is not set.
  """
  channels = _known(builder_class, config).channels
  return _build_once(
    builder_class,
    folder,
    pathlib.Path(data_dir),
    mark=_fingerprint(folder, channels, candidates),
    config=config,
    tables_dir=pathlib.Path(data_dir) / 'tables',
    candidates=candidates,
    jobs=jobs,
    overwrite=overwrite,
    runner=runner,
  )


def build_drawn(
  builder_class: type,
  data_dir: str | pathlib.Path,
  *,
  config: str,
  num: int,
  seed: int,
  overwrite: bool = False,
  runner=None,
) -> pathlib.Path:
  """As `build_with`, for a builder that draws its records and reads no scans.

  Args:
    num: how many records.
    seed: 0 or more.

  Raises:
    InputError: a number out of range, or another set lies there already.
  """
  for name, value, least in (('num', num, 1), ('seed', seed, 0)):
    if value < least:
      raise InputError(f'--{name}: is {value}, must be {least} or more.')
  return _build_once(
    builder_class,
    pathlib.Path(data_dir),
    pathlib.Path(data_dir),
    mark=builder_class.fingerprint(config, num=num, seed=seed),
    config=config,
    overwrite=overwrite,
    num=num,
    seed=seed,
    runner=runner,
  )


def is_built(folder: str | pathlib.Path) -> bool:
  """Whether a folder is a data set that was built, not a cohort."""
  return (pathlib.Path(folder) / 'dataset_info.json').is_file()


def load_as(
  cohort_name: str,
  builder_folder: str | pathlib.Path,
  *,
  config: str,
  candidates: str | None = None,
) -> tuple[Examples, Scans]:
  """Examples and scans of a built data set under the name of a cohort.

  Args:
    cohort_name: that the rows get.
    builder_folder: as for `load`.
    config: 'native', 'resampled' or one with further channels, which it has
      to be built with.
    candidates: the stage that has to have found them; None: any. Patches that
      were drawn without scans were found by none, and fit every stage.

  Raises:
    InputError: it was built with another config, or other candidates.
  """
  made = pathlib.Path(builder_folder).resolve().parent.name
  examples, scans = load(builder_folder), load_scans(builder_folder)
  grid = np.abs(examples.spacing_mm - (0.5, 0.5, 2.0)).max()
  kind, *beside = config.split('_')
  made_kind, *made_beside = made.split('_')
  if made_kind not in ('native', 'resampled'):  # drawn: the protocol's name
    made_kind, made_beside = made, []
  if {made_kind, kind} == {'native', 'resampled'} or (
    kind == 'resampled' and made_kind != kind and grid > 1e-3
  ):
    raise InputError(
      f'{builder_folder}: holds {made} patches, config.patches is {kind}; '
      'make them equal.'
    )
  if made_beside != beside:
    raise InputError(
      f'{builder_folder}: holds {_spoken(made_beside)}, config.channels is '
      f'{_spoken(beside)}; make them equal, or build it with --config={config}.'
    )
  stage = candidates_of(builder_folder)
  if None not in (stage, candidates) and stage != candidates:
    raise InputError(
      f'{builder_folder}: holds candidates of {stage}, config.candidates is '
      f'{candidates}; make them equal, or build it with '
      f'--candidates={candidates}.'
    )
  return (
    examples._replace(cohort=np.full(len(examples.key), cohort_name)),
    scans._replace(cohort=np.full(len(scans.scan), cohort_name)),
  )


def _spoken(beside: Sequence[str]) -> str:
  return ' + '.join(['swi', *beside])


def builder_class_of(cohort_name: str) -> type:
  """The builder in tfds_builders, or a plain one of the given name.

  Raises:
    InputError: the name holds other characters than small letters, digits, _.
  """
  from cmbjax.data import cohort_builder

  _check_name(cohort_name)
  home = importlib.util.find_spec('tfds_builders')
  for folder in home.submodule_search_locations if home else ():
    stem = f'{cohort_name}_dataset_builder'
    if pathlib.Path(folder, cohort_name, f'{stem}.py').is_file():
      name = f'tfds_builders.{cohort_name}.{stem}'
      found = importlib.import_module(name).Builder
      if not hasattr(found, 'fingerprint'):  # it reads scans
        return found
  base = cohort_builder.CohortBuilder
  names = {'name': cohort_name, '__module__': base.__module__}
  return type(base)('Builder', (base,), names, skip_registration=True)


def load(builder_folder: str | pathlib.Path) -> Examples:
  """Reads all examples of a built data set, sorted by key.

  Raises:
    NoInputError: there is no data set in this folder.
    InputError: it is damaged.
  """
  builder_folder = pathlib.Path(builder_folder)
  builder = _open(builder_folder)  # compares the hashes of all files
  expected = builder.info.splits['train'].num_examples
  try:
    source = builder.as_data_source('train')
    records = source.__getitems__(list(range(len(source))))
  except (RuntimeError, ValueError, IndexError, OSError) as error:
    raise _damaged(builder_folder, error) from error
  if len(records) != expected:
    raise _damaged(builder_folder, f'{len(records)} of {expected} records')
  records.sort(key=lambda record: record['key'])
  columns = {
    name: np.array([record[name] for record in records], dtype)
    for name, dtype in (
      ('image', np.float32),
      ('label', np.int8),
      ('centre', np.int32),
      ('centre_mm', np.float32),
      ('spacing_mm', np.float32),
      ('score', np.float32),
      ('lesion', np.int32),
    )
  }
  for name in ('subject', 'scan', 'key'):
    columns[name] = np.array([record[name].decode() for record in records])
  cohort = np.array([builder.info.name] * len(records))
  channels = columns.pop('image')
  if channels.ndim == 4:
    channels = channels[..., None]
  image = np.ascontiguousarray(channels[..., 0])
  return Examples(
    image=image, **columns, cohort=cohort, beside=channels[..., 1:]
  )


def seen(examples: Examples) -> np.ndarray:
  """What a network sees: [N, 24, 24, 12], or [..., C] of C > 1 channels."""
  if not examples.beside.shape[-1]:
    return examples.image
  return np.concatenate([examples.image[..., None], examples.beside], -1)


def subjects(folder: str | pathlib.Path) -> np.ndarray:
  """Labels of a built data set or of a cohort folder, before it is built.

  Raises:
    InputError: as `cohort.read_cohort`, or a damaged data set.
  """
  if is_built(folder):
    return load_scans(folder).subject
  from cmbjax.data import cohort as cohorts  # late: TFDS needs a second

  return np.array(cohorts.read_cohort(folder).subjects, str)


def load_scans(builder_folder: str | pathlib.Path) -> Scans:
  """Reads the facts of all scans of a built data set, sorted by name."""
  builder_folder = pathlib.Path(builder_folder)
  stored = metadata(builder_folder)
  rows = sorted(stored['scans'], key=lambda row: row['scan'])
  columns = {
    name: np.array([row[name] for row in rows], dtype)
    for name, dtype in (
      ('scan', str),
      ('subject', str),
      ('truth', str),
      ('num_lesions', np.int32),
      ('num_candidates', np.int32),
      ('spacing_mm', np.float32),
      ('mask_ml', np.float32),
      ('contrast', np.float32),
    )
  }
  for name in ('field_t', 'echo_time_s'):
    known = [_or_nan(row[name]) for row in rows]
    columns[name] = np.array(known, np.float32)
  simulated = bool(stored['simulated'])
  person = [row.get('person') or _unsaid(row, simulated) for row in rows]
  return Scans(
    **columns,
    person=np.array(person, str),
    cohort=np.array([builder_folder.parent.parent.name] * len(rows)),
    num_missed=np.array([len(row['missed']) for row in rows], np.int32),
    simulated=np.full(len(rows), simulated),
  )


def _unsaid(row: dict, simulated: bool) -> str:
  """The person of a data set that was built before it named them."""
  label = row['subject']
  return persons.simulated(label, None) if simulated else label


def load_lesions(
  builder_folder: str | pathlib.Path, *, cohort: str | None = None
) -> Lesions:
  """Reads all true lesions of a built data set, sorted by scan and number.

  Patches that were drawn without scans have no list of lesions: L is then 0.

  Args:
    builder_folder: as for `load`.
    cohort: the name to give it; None: its own.
  """
  from cmbjax.data import tables

  builder_folder = pathlib.Path(builder_folder)
  stored = metadata(builder_folder)
  columns: dict[str, list] = {name: [] for name in Lesions._fields}
  for row in sorted(stored['scans'], key=lambda row: row['scan']):
    missed = {one['lesion']: one for one in row['missed']}
    for one in row.get('lesions', []):
      lost = missed.get(one['lesion'], {})
      text = lost.get('patch')
      values = (
        f'{row["subject"]}/{row["scan"]}/lesion-{one["lesion"]:03d}',
        row['subject'],
        row['scan'],
        cohort or builder_folder.parent.parent.name,
        one['lesion'],
        _or_nan(one['diameter_mm']),
        one['region'],
        one['centre_mm'],
        lost.get('why', ''),
        _or_nan(lost.get('score')),
        tables.image_of(text) if text else None,
      )
      for column, value in zip(columns.values(), values, strict=True):
        column.append(value)
  image = np.empty(len(columns['key']), object)
  image[:] = columns.pop('image')
  kinds = {'lesion': np.int32, 'diameter_mm': np.float32, 'score': np.float32}
  arrays = {n: np.array(c, kinds.get(n, str)) for n, c in columns.items()}
  place = np.array(columns['centre_mm'], np.float32).reshape(-1, 3)
  return Lesions(**arrays | {'centre_mm': place}, image=image)


def _or_nan(value: float | None) -> float:
  return np.nan if value is None else value


def candidates_of(builder_folder: str | pathlib.Path) -> str | None:
  """The candidate stage of a data set; None: it was drawn without scans."""
  stored = metadata(builder_folder)
  # Before there was a choice, 'gates' had it.
  return stored.get('candidates', stored.get('gates', {}).get('generator'))


def metadata(builder_folder: str | pathlib.Path) -> dict[str, Any]:
  """What a data set says of itself: fingerprint, simulated, gates, scans.

  A row of 'scans' also lists every true lesion with its size and region, every
  missed one with why it was missed and a picture, and counts the candidates
  that each gate dropped.

  Raises:
    NoInputError: there is no data set in this folder.
    InputError: one of its files is not what was written.
  """
  path = pathlib.Path(builder_folder) / 'metadata.json'
  if not path.is_file():
    raise NoInputError(f'{path.parent}: holds no built data set.')
  if not (path.parent / HASHES).is_file():
    _note_unsealed(path.parent)
  elif why := sealed.damage(path.parent / HASHES, path.parent):
    raise _damaged(path.parent, why)
  return files.read_object(path)


@functools.cache
def _note_unsealed(folder: pathlib.Path) -> None:
  print(
    f'note: {folder}: has no {HASHES} (built by an older cmbjax, or without '
    'its `build`), so damage of its files may go unnoticed.',
    file=sys.stderr,
  )


def select(columns: Columns, mask: np.ndarray) -> Columns:
  """The rows where `mask` [N] holds (or an index)."""
  return type(columns)(*(column[mask] for column in columns))


def concatenate(parts: Sequence[Columns]) -> Columns:
  """Several Examples, Scans or Lesions, one after the other.

  Raises:
    InputError: a key (of Scans: a scan) comes twice.
  """
  whole = type(parts[0])(*(np.concatenate(some) for some in zip(*parts)))
  names = whole.key if hasattr(whole, 'key') else whole.scan
  unique, counts = np.unique(names, return_counts=True)
  if (counts > 1).any():
    raise InputError(
      f'{unique[counts > 1][0]}: is in two cohorts; subjects need names that '
      'no other cohort uses.'
    )
  return whole


def shared_images(examples: Examples) -> list[tuple[str, str]]:
  """Pairs of keys with the very same image under two subjects.

  A build refuses them within a cohort; this finds them across cohorts.
  """
  first, pairs = {}, []
  for image, subject, key in zip(
    examples.image, examples.subject, examples.key
  ):
    mark = files.digest(np.ascontiguousarray(image).tobytes())
    other_subject, other = first.setdefault(mark, (subject, key))
    if other_subject != subject and image.min() < image.max():
      pairs.append((str(other), str(key)))
  return pairs


def _fingerprint(
  folder: str | pathlib.Path, channels: Sequence[str], candidates: str
) -> str:
  from cmbjax.data import cohort as cohorts  # late: TFDS needs a second
  from cmbjax.data import cohort_builder
  from cmbjax.detect.gates import Gates

  cohort = cohorts.read_cohort(folder)
  if cohort.unlabelled:
    print(
      f'note: {folder}: {len(cohort.unlabelled)} scans have no truth and are '
      f'left out ({", ".join(cohort.unlabelled[:5])}'
      f'{", ..." if len(cohort.unlabelled) > 5 else ""}).',
      file=sys.stderr,
    )
  gates = Gates(generator=candidates)
  return cohort_builder.fingerprint(cohort, gates=gates, channels=channels)


def _known(builder_class: type, config: str):
  """The builder's config of that name."""
  configs = {known.name: known for known in builder_class.BUILDER_CONFIGS}
  if config not in configs:
    raise InputError(
      f'patches: found {config!r}, allowed are {", ".join(configs)}.'
    )
  return configs[config]


def _build_once(
  builder_class,
  folder,
  home,
  *,
  mark,
  config,
  overwrite=False,
  again=False,
  **how,
) -> pathlib.Path:
  """Builds below `home` unless the same is there; one process at a time.

  With `again`, what is there but damaged was surely the same.
  """
  _known(builder_class, config)
  final = home / builder_class.name / config / str(builder_class.VERSION)
  with _lock(home, '.lock'):
    if (final / 'dataset_info.json').is_file() and not overwrite:
      why = sealed.damage(final / HASHES, final)
      if not why and metadata(final)['fingerprint'] == mark:
        return final
      if why and not again:
        raise InputError(
          f'{final}: is damaged ({why}); overwrite it or give another data_dir.'
        )
      if not why:
        raise InputError(
          f'{final}: was built from other files or by other code; overwrite it '
          'or give another data_dir.'
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
  return final


def _remove_leftovers(final: pathlib.Path) -> None:
  """Removes what a kill left, or shall be overwritten; the lock is ours."""
  if final.exists():
    shutil.rmtree(final)
  for old in final.parent.glob(f'incomplete.*_{final.name}'):  # TFDS's names
    shutil.rmtree(old)


def _prepare(builder, folder: pathlib.Path) -> None:
  """Runs the builder; what is there under the final name is complete."""
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()
  settings = tfds.download.DownloadConfig(
    manual_dir=str(folder.absolute()), try_download_gcs=False
  )
  try:
    with (
      tempfile.TemporaryDirectory() as unused,
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


def _open(builder_folder: pathlib.Path):
  import tensorflow_datasets as tfds

  metadata(builder_folder)
  try:
    return tfds.builder_from_directory(str(builder_folder))
  except Exception as error:  # of JSON, of protobuf, of TFDS itself
    raise _damaged(builder_folder, error) from error


def _damaged(folder: pathlib.Path, why: Any) -> InputError:
  first = (str(why).splitlines() or [''])[0]
  return InputError(
    f'{folder}: is damaged ({first}); remove this folder and build again.'
  )


@contextlib.contextmanager
def _lock(folder: pathlib.Path, name: str) -> Iterator[None]:
  """One build at a time; the system lets go when a process is killed."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / name).open('w')
  except OSError as error:
    raise InputError(
      f'{folder}: cannot be written ({error.strerror}); choose another folder.'
    ) from error
  with handle:
    with contextlib.suppress(OSError):  # a file system without locks
      fcntl.flock(handle, fcntl.LOCK_EX)
    yield


def _check_name(cohort_name: str) -> None:
  if not re.fullmatch('[a-z][a-z0-9_]*', cohort_name):
    raise InputError(
      f'cohort name: found {cohort_name!r}; use small letters, digits and _, '
      'a letter first.'
    )
