"""Many scans, one after the other or several at once, to files.

Rule: a scan that fails is reported and leaves the others alone; a scan that
is done is not done again unless something that decides its numbers changed.
"""

import dataclasses
import datetime
import functools
import importlib
import json
import os
import pathlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cmbjax
from cmbjax import doors, files, workers
from cmbjax.candidates import stages
from cmbjax.detect import (
  chain,
  classifier,
  derivatives,
  established,
  memory,
  records,
)
from cmbjax.errors import told
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct.channels import ONLY_SWI, measured

# Whose code makes the numbers.
_ROOMS = (
  'imaging',
  'intake',
  'reconstruct',
  'candidates',
  'data',
  'models',
  'evaluation',
  'detect',
)
_FACTS = (  # fields of a sidecar that a result repeats or depends on
  'EchoTime',
  'MagneticFieldStrength',
  'Units',
  'Manufacturer',
  'ManufacturersModelName',
  'Simulated',
  'SimulationSeed',
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """The same for all scans of a run."""

  out: pathlib.Path
  weights: pathlib.Path | None  # None: those of the package
  fallback: pathlib.Path | None = None  # for scans without all its channels
  classify: bool = True
  options: chain.DetectOptions = dataclasses.field(
    default_factory=chain.DetectOptions
  )
  candidates: bool = False  # also the table of all candidates
  steps: bool = False  # also the images on the way
  page: bool = True


class Outcome(NamedTuple):
  """How one scan ended."""

  name: str
  record: dict[str, Any] | None  # None: it failed
  error: str = ''  # one line
  trace: str = ''  # of a bug


def mark_of(scan: ScanFiles, settings: Settings) -> str:
  """16 hex digits: same inputs, settings, weights and program.

  Raises:
    InputError: a file of the scan cannot be read.
  """
  channels, weights = ONLY_SWI, None
  stage = settings.options.candidates or stages.DEFAULT
  if settings.classify:
    known = classifier.described(settings.weights)
    weights, channels = known.fingerprint, known.channels
    stage = chain.stage_of(settings.options, known)
  if measured(channels) and settings.fallback is not None:
    weights = [weights, classifier.described(settings.fallback).fingerprint]
  content = [
    [path.name, files.digest(path), _facts(scan.facts.get(path, {}))]
    for path in chain.files_of(
      scan, chain.read_of(scan, channels, settings.options)
    )
  ]
  options = dataclasses.asdict(settings.options)
  # Of a file the content counts, not its name.
  options['atlas'] = _atlas(settings.options.atlas)
  options['candidates'] = [stage, stages.code(stage)]
  return files.digest(
    content,
    _facts(scan.sidecar),
    options,
    [settings.candidates, settings.steps, settings.page],
    weights,
    _program(),
  )


def _facts(sidecar: dict[str, Any]) -> dict[str, Any]:
  return {name: sidecar.get(name) for name in _FACTS}


def _atlas(path: pathlib.Path | None) -> list[str]:
  """Digests of an atlas and of the table of its names beside it."""
  if path is None:
    return []
  stem = path.name.removesuffix('.gz').removesuffix('.nii')
  table = path.with_name(stem + '.tsv')
  return [files.digest(p) for p in (path, table) if doors.is_there(p)]


def run(
  scans: Sequence[ScanFiles],
  settings: Settings,
  *,
  jobs: int,
  threads: int,
  gigabytes: float = 2.0,
) -> Iterator[Outcome]:
  """The outcome of every scan, as they come.

  Args:
    scans: what to do.
    settings: how.
    jobs: processes; 1: this one.
    threads: of each process.
    gigabytes: that the largest scan takes, for the message.

  Raises:
    InputError: a process was killed.
  """
  work = functools.partial(analyse, settings=settings, threads=threads)
  yield from workers.spread(work, scans, jobs, gigabytes=gigabytes)


def analyse(
  scan: ScanFiles, settings: Settings, threads: int | None = None
) -> Outcome:
  """One scan to its files and its record. Never raises for a bad scan.

  Args:
    scan: its files.
    settings: of the whole call.
    threads: None: one per core.
  """
  try:
    networks = load(settings.weights) if settings.classify else None
    fallback = None
    if networks and settings.fallback and measured(networks.channels):
      fallback = load(settings.fallback)
    mark = mark_of(scan, settings)
    # A kill from here on leaves no older result that looks finished.
    records.write_failure(settings.out, scan.name, 'was interrupted')
    analysis = chain.analyse(
      scan, networks, settings.options, fallback=fallback, threads=threads
    )
    with files.together():  # a full disk leaves the files of an older result
      written = derivatives.write_scan(
        settings.out,
        analysis,
        candidates=settings.candidates,
        steps=settings.steps,
        page=settings.page,
      )
    record = records.write_record(
      settings.out, analysis.result, mark, written, scan=scan
    )
  except Exception as error:  # a bug in one scan must not stop the others
    if said := told(error):
      return _failed(settings, scan.name, said[0])
    why = f'{type(error).__name__}: {error}'
    return _failed(settings, scan.name, why, traceback.format_exc())
  return Outcome(scan.name, record | {'shown': _shown(analysis.result)})


def _failed(settings, name, why, trace='') -> Outcome:
  records.write_failure(settings.out, name, why)
  return Outcome(name, None, why, trace)


@functools.cache
def load(weights: pathlib.Path | None) -> classifier.Classifier:
  """The classifier, read once in each process."""
  _compilation_cache()
  return classifier.load(weights)


class Log:
  """One file per run, a JSON object per line, written as things happen."""

  def __init__(self, out: pathlib.Path):
    now = datetime.datetime.now(datetime.UTC)
    folder = files.make_folder(out / 'logs')
    self.path = folder / f'run-{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}.jsonl'

  def add(self, event: str, **fields: Any) -> None:
    """Appends one line."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    line = json.dumps({'time': now, 'event': event, **fields}, default=str)
    # On the disk at once: a run that is killed is understood by its log.
    files.append_text(self.path, line + '\n')


class Share(NamedTuple):
  """Of a machine."""

  jobs: int  # processes
  threads: int  # of each
  gigabytes: float  # that the largest scan takes; 0: not asked


def needed(scans: Sequence[ScanFiles], settings: Settings) -> list[float]:
  """GB of memory that each scan takes, see `memory.gigabytes`."""
  channels = ONLY_SWI
  if settings.classify:
    channels = classifier.described(settings.weights).channels
  return [
    memory.gigabytes(scan, chain.read_of(scan, channels, settings.options))
    for scan in scans
  ]


def affordable(
  wanted: int | None, scans: Sequence[ScanFiles], settings: Settings
) -> Share:
  """What of this machine these scans get.

  Candidates run on threads, so few processes keep many cores busy.

  Args:
    wanted: processes; None: as many as fit into the memory.
    scans: what to do.
    settings: of the run.
  """
  cores = workers.cores()
  jobs = max(1, min(wanted or cores // 2, len(scans)))
  sizes = needed(scans, settings) if jobs > 1 else ()
  if not wanted and sizes:
    jobs = min(jobs, memory.processes(sizes))
  return Share(jobs, max(1, cores // jobs), round(max(sizes, default=0), 1))


def _shown(result) -> str:
  """A scan in one line."""
  tally = result.counts
  text = f'{tally["definite"]} definite, {tally["possible"]} possible'
  if tally['too_large']:
    text += f', {tally["too_large"]} too large'
  if tally['not_established']:
    text += f', grade {established.WORDS}'
  if result.warnings:
    count = len(result.warnings)
    text += f', {count} warning{"s" if count > 1 else ""}'
  return text


@functools.cache
def _program() -> str:
  """Digest of the version and of the source of every room in the chain."""
  sources = []
  for room in _ROOMS:
    folder = pathlib.Path(importlib.import_module(f'cmbjax.{room}').__file__)
    sources += sorted(folder.parent.glob('*.py'))
  return files.digest(cmbjax.__version__, *sources)


def _compilation_cache() -> None:
  """Compiled programs are kept for the next run and the next process."""
  import jax

  if jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    cache = pathlib.Path(home) / 'cmbjax' / 'compiled'
    jax.config.update('jax_compilation_cache_dir', str(cache))
    # The networks compile in seconds; small programs are not worth a file.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
