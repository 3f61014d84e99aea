"""A cohort folder to labelled patches on disk, as a standard TFDS data set.

Rule: TensorFlow is never imported; the source path is never written; what one
scan gives does not depend on the other scans.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cmbjax import (
  beam,
  candidates,
  data,
  files,
  imaging,
  intake,
  reconstruct,
  workers,
)
from cmbjax.candidates import stages
from cmbjax.candidates.gates import Gates
from cmbjax.data import cohort as cohorts
from cmbjax.data import evidence, patches, tables
from cmbjax.errors import InputError
from cmbjax.progress import Progress
from cmbjax.reconstruct import channels as channels_lib
from cmbjax.reconstruct.channels import ONLY_SWI

LABELS = ('mimic', 'cmb')
SPLIT = 'train'  # the only one; test sets and folds are drawn at run time

_SCANS_AT_ONCE = 4  # each holds about 0.5 GB


@dataclasses.dataclass
class PatchConfig(tfds.core.BuilderConfig):
  """How patches are cut, and of which images."""

  grid_mm: tuple[float, float, float] | None = None  # None: the scan's own
  channels: tuple[str, ...] = ONLY_SWI


def _configs() -> list[PatchConfig]:
  """Both grids, each with every choice of channels."""
  grids = (
    ('native', "24x24x12 voxels of the scan's own grid,", None),
    ('resampled', '24x24x12 voxels of 0.5 x 0.5 x 2 mm,', patches.RESAMPLED_MM),
  )
  further = channels_lib.CHANNELS[1:]
  return [
    PatchConfig(
      name=channels_lib.data_set(name, ('swi', *more)),
      description=f'{text} of {", ".join(("SWI", *more))}.',
      grid_mm=grid_mm,
      channels=('swi', *more),
    )
    for count in range(len(further) + 1)
    for more in itertools.combinations(further, count)
    for name, text, grid_mm in grids
  ]


class CohortBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of all cohorts; a subclass adds a name, a README and a citation.

  Args:
    tables_dir: where candidate tables are kept between configs and runs;
      None: they are made again.
    jobs: threads; None: one per core.
    candidates: how they are found, see `candidates.stages`.
    runner: of Apache Beam, where scans are worked on; None: here.
    file_format: 'array_record' when None.
    **kwargs: as for every TFDS builder.
  """

  VERSION = tfds.core.Version('1.2.0')
  RELEASE_NOTES: dict[str, str] = {  # noqa: RUF012
    '1.0.0': 'First version.',
    '1.1.0': 'Metadata: all true lesions, and pictures of missed ones.',
    '1.2.0': 'Metadata: the person, for simulated ones with the seed.',
  }
  BUILDER_CONFIGS = _configs()
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'manual_dir is the cohort: what `cmbjax simulate` wrote, a BIDS folder '
    'with a label image or a table of points per scan, or the folders of the '
    'CMB labeler.'
  )

  def __init__(
    self,
    *,
    tables_dir: str | os.PathLike | None = None,
    jobs: int | None = None,
    candidates: str = stages.DEFAULT,
    runner: beam.BeamRunner | None = None,
    file_format: str | None = None,
    **kwargs,
  ):
    self._tables_dir = pathlib.Path(tables_dir) if tables_dir else None
    self._jobs = jobs
    self._gates = Gates(generator=candidates)
    self._runner = runner
    # The default of TFDS, tfrecord, needs TensorFlow.
    super().__init__(file_format=file_format or 'array_record', **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    count = channels_lib.depth(self.builder_config.channels)
    # README.md and CITATIONS.bib of a subclass's folder win.
    return self.dataset_info_from_configs(
      description=(
        'Candidates for cerebral microbleeds on susceptibility-weighted MRI, '
        'cut out and labelled.'
      ),
      features=tfds.features.FeaturesDict(
        {
          # 'bytes' reads ten times faster than the default encoding.
          'image': tfds.features.Tensor(
            shape=(*patches.PATCH, count) if count > 1 else patches.PATCH,
            dtype=np.float16,  # half the disk; its steps are below the noise
            encoding='bytes',
          ),
          'label': tfds.features.ClassLabel(names=list(LABELS)),
          'subject': tfds.features.Text(),
          'scan': tfds.features.Text(),
          'key': tfds.features.Text(),
          'centre': tfds.features.Tensor(shape=(3,), dtype=np.int32),
          'centre_mm': tfds.features.Tensor(shape=(3,), dtype=np.float32),
          'spacing_mm': tfds.features.Tensor(shape=(3,), dtype=np.float32),
          'score': tfds.features.Scalar(np.float32),
          'lesion': tfds.features.Scalar(np.int32),
        }
      ),
      supervised_keys=('image', 'label'),
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    return {SPLIT: self._generate_examples(pathlib.Path(dl_manager.manual_dir))}

  def _generate_examples(self, path: pathlib.Path) -> Iterator:
    cohort = cohorts.read_cohort(path)
    gates, jobs = self._gates, self._jobs or workers.cores()
    channels = self.builder_config.channels
    at_once = max(1, min(jobs, _SCANS_AT_ONCE, len(cohort.scans)))
    work = functools.partial(
      make_records,
      gates=gates,
      grid_mm=self.builder_config.grid_mm,
      channels=channels,
      tables_dir=self._tables_dir,
      jobs=max(1, jobs // at_once),
    )
    all_facts = []
    yield from self._records(work, cohort.scans, all_facts, at_once=at_once)
    self.info.metadata.update(_metadata(cohort, gates, channels, all_facts))

  def _records(self, work, items, all_facts, *, at_once) -> Iterator:
    """Keys and records of `work(item)`; fills `all_facts`."""
    if self._runner is None:
      results = in_order(work, items, at_once=at_once)
    else:
      home = pathlib.Path(self._data_dir_root)
      results = beam.run(work, items, runner=self._runner, folder=home)
    seen = _Seen()
    with Progress(f'candidates of {self.name}', len(items)) as progress:
      for facts, records in results:
        seen.check(facts, records)
        all_facts.append(facts)
        yield from ((record['key'], record) for record in records)
        progress.advance(note=facts['scan'])


def make_records(
  scan: cohorts.Scan,
  *,
  gates: Gates,
  grid_mm: tuple[float, float, float] | None,
  channels: Sequence[str] = ONLY_SWI,
  tables_dir: pathlib.Path | None,
  jobs: int = 1,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """One scan to its facts and its records.

  The candidate table is read from `tables_dir` when the same files, gates and
  code made it before; it is the same whatever the channels.

  Args:
    scan: with its files.
    gates: of the candidate stage.
    grid_mm: voxel size of the patches; None: the scan's own.
    channels: what a patch holds.
    tables_dir: where candidate tables are kept; None: nowhere.
    jobs: threads.
  """
  loaded = cohorts.load_scan(scan, channels)
  table, stored = None, None
  if tables_dir is not None:
    mark = files.digest(cohorts.scan_fingerprint(scan), *_how(gates))
    stored = tables_dir / f'{scan.name}-{mark}.npz'
    table = tables.load_table(stored)
  if table is None:
    table = tables.make_table(scan, loaded, gates=gates, jobs=jobs)
    if stored is not None:
      tables.save_table(stored, table)
  return table.facts, _records(scan, loaded, table, channels, grid_mm)


def fingerprint(
  cohort: cohorts.CohortFolder,
  *,
  gates: Gates,
  channels: Sequence[str] = ONLY_SWI,
) -> str:
  """16 hex digits: same value, same patches.

  Covers the names, sizes and bytes of all files that are read, the gates, and
  the code of the rooms that make patches of them, own candidate stages too.

  Args:
    cohort: whose files are read.
    gates: of the candidate stage.
    channels: what a patch holds.

  Raises:
    InputError: a scan lacks the files of a channel, or the candidate stage
      is unknown.
  """
  for scan in cohort.scans:
    cohorts.check_channels(scan, channels)
  mark = functools.partial(cohorts.scan_fingerprint, channels=channels)
  with concurrent.futures.ThreadPoolExecutor() as pool:
    scans = list(pool.map(mark, cohort.scans))
  return files.digest(
    scans,
    cohort.simulated,
    list(cohort.unlabelled),
    *_how(gates),
  )


def _how(gates: Gates) -> tuple:
  """What decides candidates besides the files."""
  return dataclasses.asdict(gates), stages.code(gates.generator), code_digest()


@functools.cache
def code_digest() -> str:
  """Over the source of everything between a scan's files and its patches."""
  sources = []
  for room in (imaging, intake, reconstruct, candidates, data):
    sources += sorted(pathlib.Path(room.__file__).parent.glob('*.py'))
  return files.digest(*sources)


def in_order(
  function: Callable, items: Iterable, *, at_once: int
) -> Iterator[Any]:
  """`map(function, items)` on threads, at most `at_once` + 1 ahead.

  Args:
    function: of one item.
    items: in the order of the results.
    at_once: threads.
  """
  waiting = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
    try:
      for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > at_once:  # finished scans wait in memory
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()


class _Seen:
  """Refuses one image under two subjects, and one key twice."""

  def __init__(self):
    self._images: dict[str, tuple[str, str]] = {}  # digest: subject, name
    self._keys: set[str] = set()

  def check(self, facts: dict[str, Any], records: list[dict[str, Any]]) -> None:
    self._check(facts['image'], facts['subject'], facts['scan'])
    for record in records:
      key, image = record['key'], record['image']
      if key in self._keys:
        raise InputError(f'{key}: this candidate is there twice.')
      self._keys.add(key)
      if image.min() < image.max():  # empty patches are all alike
        self._check(files.digest(image.tobytes()), record['subject'], key)

  def _check(self, digest, subject, name):
    other_subject, other = self._images.setdefault(digest, (subject, name))
    if other_subject != subject:
      raise InputError(
        f'{other} and {name} hold the same image, but belong to two subjects; '
        'one person under two names would be trained on and tested on, so '
        'remove one.'
      )


def _metadata(cohort, gates, channels, all_facts):
  """What `built.metadata` gives back; refuses a cohort without candidates.

  It is written last, so a data set that has it is whole.
  """
  if not any(facts['num_candidates'] for facts in all_facts):
    raise InputError(
      f'{cohort.folder}: none of its {len(all_facts)} scans has a candidate; '
      'check that the images are SWI (microbleeds dark) and the truth fits.'
    )
  return {
    'fingerprint': fingerprint(cohort, gates=gates, channels=channels),
    'simulated': cohort.simulated,
    **stages.facts(gates.generator),
    'gates': dataclasses.asdict(gates),
    'unlabelled': list(cohort.unlabelled),
    'scans': all_facts,
  }


def _records(scan, loaded, table, channels, grid_mm):
  seen = evidence.Evidence(
    loaded.swi, loaded.mask, loaded.spacing_mm, loaded.affine, loaded.beside
  )
  images = seen.patches(table.centre, channels=channels, grid_mm=grid_mm)
  affine = loaded.affine
  centre_mm = table.centre @ affine[:3, :3].T + affine[:3, 3]
  return [
    {
      'image': images[n].astype(np.float16),
      'label': int(table.label[n]),
      'subject': scan.subject,
      'scan': scan.name,
      'key': f'{scan.subject}/{scan.name}/{n:04d}',
      'centre': table.centre[n],
      'centre_mm': centre_mm[n].astype(np.float32),
      'spacing_mm': np.array(loaded.spacing_mm, np.float32),
      'score': np.float32(table.score[n]),
      'lesion': np.int32(table.lesion[n]),
    }
    for n in range(len(table.centre))
  ]
