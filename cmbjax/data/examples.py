"""A cohort folder to examples in memory, through a data set built once.

Rule: rows are sorted by key or scan, so that they are the same whatever the
order in which they were made.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from cmbjax import beam, files
from cmbjax.candidates import stages
from cmbjax.data import built
from cmbjax.data.built import metadata
from cmbjax.errors import InputError

Columns = TypeVar('Columns', bound=tuple)


class Examples(NamedTuple):
  """N candidates; every field has N rows, sorted by cohort and key."""

  image: np.ndarray  # [N, 24, 24, 12] float32 0..1, the SWI
  label: np.ndarray  # [N] int8, 1 = cmb
  subject: np.ndarray  # [N] str 'sub-3T001'
  scan: np.ndarray  # [N] str 'sub-3T001' or 'sub-3T001_ses-1'
  key: np.ndarray  # [N] str 'subject/scan/candidate'; the only join column
  centre: np.ndarray  # [N, 3] int32, voxel index, slice axis last
  centre_mm: np.ndarray  # [N, 3] float32, RAS world
  spacing_mm: np.ndarray  # [N, 3] float32 of the scan
  score: np.ndarray  # [N] float32 of the detector
  lesion: np.ndarray  # [N] int32, truth lesion of the scan, 0 for a mimic
  cohort: np.ndarray  # [N] str
  beside: np.ndarray  # [N, 24, 24, 12, C - 1] float16 0..1, further channels


class Scans(NamedTuple):
  """M scans, also those without a candidate."""

  scan: np.ndarray  # [M] str
  subject: np.ndarray  # [M] str
  cohort: np.ndarray  # [M] str
  num_lesions: np.ndarray  # [M] int32, all that the truth holds
  num_missed: np.ndarray  # [M] int32, those that no candidate shows
  num_candidates: np.ndarray  # [M] int32
  truth: np.ndarray  # [M] str: labels, points, candidates (misses unknown)
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
  cohort: str | type,
  folder: str | pathlib.Path,
  data_dir: str | pathlib.Path,
  *,
  config: str = 'native',
  candidates: str = stages.DEFAULT,
  jobs: int | None = None,
  apart: bool = True,
  overwrite: bool = False,
  runner: beam.BeamRunner | None = None,
) -> pathlib.Path:
  """Builds a cohort's patches once, and finds them the next time.

  Candidate tables are in data_dir/tables, so that another config, or a run
  after a kill, does not search again.

  Args:
    cohort: any name of small letters, digits and '_', 'tfds_builders/NAME', or
      a builder class of your own.
    folder: the scans and their truth, see `cohort.read_cohort`.
    data_dir: where data sets are kept.
    config: 'native', 'resampled', or with further channels, see
      `channels.data_set`.
    candidates: how they are found, see `candidates.stages`.
    jobs: threads; None: one per core.
    apart: to data_dir/FINGERPRINT/COHORT/CONFIG/VERSION, beside those of other
      files or code; a damaged one is built again, with a word. Else to the
      usual place of TFDS, data_dir/COHORT/CONFIG/VERSION.
    overwrite: what was built there may be replaced.
    runner: of Apache Beam; None: threads here.

  Returns:
    The folder for `load`.

  Raises:
    InputError: whatever is wrong with the cohort, and nothing is left behind;
      or another or a damaged data set is in its place.
  """
  builder = (
    built.builder_class_of(cohort) if isinstance(cohort, str) else cohort
  )
  channels = built.config_of(builder, config).channels
  mark = built.fingerprint(folder, channels, candidates)
  data_dir = pathlib.Path(data_dir)
  return built.write_once(
    builder,
    folder,
    data_dir / mark if apart else data_dir,
    mark=mark,
    config=config,
    overwrite=overwrite,
    again=apart,
    tables_dir=data_dir / 'tables',
    candidates=candidates,
    jobs=jobs,
    runner=runner,
  )


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
    candidates: the stage that has to have found them; None: any.

  Raises:
    InputError: it was built with another config, other candidates, or other
      code of an own stage.
  """
  made = pathlib.Path(builder_folder).resolve().parent.name
  examples, scans = load(builder_folder), load_scans(builder_folder)
  if made != config:
    raise InputError(
      f'{builder_folder}: holds {made} patches, config.patches and '
      f'config.channels ask for {config}; make them equal, or build it with '
      f'--config={config}.'
    )
  stored = metadata(builder_folder)
  stage = stored['candidates']
  if candidates not in (None, stage):
    raise InputError(
      f'{builder_folder}: holds candidates of {stage}, config.candidates is '
      f'{candidates}; make them equal, or build it with '
      f'--candidates={candidates}.'
    )
  if candidates is not None and stored['candidates_code'] != stages.code(stage):
    raise InputError(
      f'{builder_folder}: holds candidates of {stage}, whose code is another '
      'one now; build it again.'
    )
  return (
    examples._replace(cohort=np.full(len(examples.key), cohort_name)),
    scans._replace(cohort=np.full(len(scans.scan), cohort_name)),
  )


def load(builder_folder: str | pathlib.Path) -> Examples:
  """Reads all examples of a built data set, sorted by key.

  Raises:
    NoInputError: this folder holds no data set.
    InputError: it is damaged.
  """
  builder_folder = pathlib.Path(builder_folder)
  builder = built.open_checked(builder_folder)  # all files as written
  expected = builder.info.splits['train'].num_examples
  try:
    source = builder.as_data_source('train')
    records = source.__getitems__(list(range(len(source))))
  except (RuntimeError, ValueError, IndexError, OSError) as error:
    raise built.damaged(builder_folder, error) from error
  if len(records) != expected:
    raise built.damaged(builder_folder, f'{len(records)} of {expected} records')
  records.sort(key=lambda record: record['key'])
  columns = {
    name: np.array([record[name] for record in records], dtype)
    for name, dtype in (
      ('image', np.float16),  # as it is stored
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
  image = np.ascontiguousarray(channels[..., 0], np.float32)
  return Examples(
    image=image, **columns, cohort=cohort, beside=channels[..., 1:]
  )


def seen(examples: Examples) -> np.ndarray:
  """What a network sees: [N, 24, 24, 12], or float16 [..., C] where C > 1."""
  if not examples.beside.shape[-1]:
    return examples.image
  first = examples.image[..., None].astype(np.float16)  # as it was stored
  return np.concatenate([first, examples.beside], -1)


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
      ('person', str),
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
  return Scans(
    **columns,
    cohort=np.array([builder_folder.parent.parent.name] * len(rows)),
    num_missed=np.array([len(row['missed']) for row in rows], np.int32),
    simulated=np.full(len(rows), simulated),
  )


def load_lesions(
  builder_folder: str | pathlib.Path, *, cohort: str | None = None
) -> Lesions:
  """Reads all true lesions of a built data set, sorted by scan and number.

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
    for one in row['lesions']:
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
