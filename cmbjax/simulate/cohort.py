"""A cohort of simulated subjects as a BIDS folder, one subject per process.

Rule: subject n is the same whether 10 or 100 are made, and a subject folder
is either whole or absent, so a run that was stopped continues where it ended.
Every subject has a list of the hashes of its files, and is compared with it
before it is used again.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Iterable

import cmbjax
from cmbjax import beam, doors, files, workers
from cmbjax.errors import InputError
from cmbjax.progress import Progress
from cmbjax.simulate import kept, subject_files
from cmbjax.simulate import scan as scan_module
from cmbjax.simulate.families import CLASSIC, VERSION
from cmbjax.simulate.protocols import COHORTS, MOST_LESIONS, Protocol
from cmbjax.simulate.randomised import NAME as RANDOMISED
from cmbjax.simulate.randomised import protocol_of

__all__ = ['COHORTS', 'fingerprint', 'simulate', 'subject_label']

_TRUTH = 'derivatives/truth'
_MARK = 'SimulationFingerprint'
_SEED = 'SimulationSeed'  # read by `data.persons`
_GIGABYTES = 2.5  # peak of one process


def subject_label(protocol: Protocol, number: int) -> str:
  """'sub-7T001': never the same in two cohorts."""
  return f'sub-{protocol.prefix}{number:03d}'


def people(cohort: str, numbers: Iterable[int], *, seed: int) -> dict[str, str]:
  """Label -> person of subjects before they are made, see `data.persons`.

  Args:
    cohort: its name.
    numbers: of the subjects, from 1.
    seed: of the cohort.
  """
  labels = (
    subject_label(protocol_of(cohort, number, seed=seed), number)
    for number in numbers
  )
  return {label: f'{label}@{seed}' for label in labels}


def fingerprint(
  protocol: Protocol, number: int, *, seed: int, slab_mm: float | None
) -> str:
  """16 hex digits of everything that decides how a subject looks.

  Args:
    protocol: how the subject is scanned.
    number: of the subject, from 1.
    seed: of the cohort.
    slab_mm: thickness of a slab; None: the whole head.
  """
  version = scan_module.version_of(protocol)
  drawn = dataclasses.asdict(protocol)
  families = drawn.pop('families')
  if families != CLASSIC:  # what was made before there were others stays
    drawn['families'] = [VERSION, families._asdict()]
  return files.digest(drawn, version, number, seed, slab_mm)


def simulate(
  cohort: str,
  *,
  subjects: int,
  out: str | os.PathLike,
  seed: int,
  jobs: int | None = None,
  first: int = 1,
  slab_mm: float | None = None,
  families: str = '',
  lesions: float | None = None,
  runner: beam.BeamRunner | None = None,
) -> pathlib.Path:
  """Writes subjects `first` .. `first + subjects - 1` of a cohort.

  Args:
    cohort: one of `PROTOCOLS`, or 'randomised'.
    subjects: how many.
    out: folder of the cohort; subjects that are there are kept, and one of
      which a file was changed is made again, with a word.
    seed: the cohort's seed, 0 or more.
    jobs: processes; None: one per core, as far as the memory allows.
    first: number of the first subject, from 1.
    slab_mm: only an axial slab round the ventricles; None: the whole head.
    families: of generators, see `randomised.protocol_of`.
    lesions: expected number of each person; 0: none; None: the cohort's.
    runner: of Apache Beam, instead of processes here.

  Returns the folder.

  Raises:
    InputError: a number out of range, an unknown cohort, a folder that cannot
      be written, or whose subjects have other settings, or are damaged and
      would come out otherwise now.
  """
  _check_numbers(subjects, seed, jobs, first, slab_mm, lesions)
  plan = functools.partial(
    protocol_of, cohort, seed=seed, families=families, lesions=lesions
  )
  plan(first)  # refuses unknown names
  out, numbers = pathlib.Path(out), range(first, first + subjects)
  todo = [n for n in numbers if not _is_done(out, plan, n, seed, slab_mm)]
  _write_top(out, cohort)
  jobs = min(jobs or workers.fit(_GIGABYTES), max(len(todo), 1))
  work = functools.partial(
    _make_subject, plan, out=out, seed=seed, slab_mm=slab_mm,
    workers=max(1, workers.cores() // jobs),
  )  # fmt: skip
  with Progress(
    f'simulate {cohort}', subjects, done=subjects - len(todo)
  ) as progress:
    results = (
      workers.spread(work, todo, jobs, gigabytes=_GIGABYTES)
      if runner is None
      else beam.run(work, todo, runner=runner, folder=out)
    )
    for label in results:
      progress.advance(note=label)
  _write_participants(out)
  return out


def _check_numbers(subjects, seed, jobs, first, slab_mm, lesions) -> None:
  for name, value, least in (
    ('subjects', subjects, 1),
    ('seed', seed, 0),
    ('jobs', jobs, 1),
    ('first', first, 1),
    ('slab_mm', slab_mm, 8),
    ('lesions', lesions, 0),
  ):
    if value is not None and not value >= least:  # NaN too
      raise InputError(f'{name}: found {value}, must be {least} or more.')
  if lesions is not None and lesions > MOST_LESIONS:
    raise InputError(
      f'lesions: found {lesions}, must be {MOST_LESIONS} or less.'
    )


def _is_done(out, plan, number, seed, slab_mm) -> bool:
  """Whether a whole subject with these settings is there."""
  protocol = plan(number)
  label = subject_label(protocol, number)
  sidecar = out / label / 'anat' / f'{label}_swi.json'
  found = kept.mark_of(out, label)
  if found is None:  # its list is damaged or lost
    if not doors.is_there(sidecar):
      return False
    found = files.read_object(sidecar).get(_MARK)
  wanted = fingerprint(protocol, number, seed=seed, slab_mm=slab_mm)
  if found != wanted:
    raise InputError(
      f'{out / label}: was made with another seed, slab, protocol, families, '
      f'number of lesions or version ({_MARK} {found}, wanted {wanted}); '
      'choose another folder '
      'or delete this one.'
    )
  return kept.is_whole(out, label)


def _homes(label: str) -> tuple[str, str]:
  """Folders of a subject in its cohort."""
  return label, f'{_TRUTH}/{label}'


def _make_subject(plan, number: int, *, out, seed, slab_mm, workers) -> str:
  """Simulates and writes one subject; returns its label."""
  protocol = plan(number)
  label = subject_label(protocol, number)
  scan = scan_module.make_scan(
    protocol, number, seed=seed, slab_mm=slab_mm, workers=workers
  )
  mark = fingerprint(protocol, number, seed=seed, slab_mm=slab_mm)
  for stale in out.glob(f'.partial-{label}-*'):
    shutil.rmtree(stale)
  temporary = out / f'.partial-{label}-{os.getpid()}'
  made = {_MARK: mark, _SEED: seed}
  try:
    subject_files.write_images(
      temporary / 'raw' / 'anat', label, scan, protocol=protocol, made=made
    )
    subject_files.write_truth(temporary / 'truth' / 'anat', label, scan)
    new = dict(zip(_homes(label), (temporary / 'raw', temporary / 'truth')))
    kept.check_same(out, label, mark=mark, new=new)
    kept.forget(out, label)
    target = out / _TRUTH / label
    shutil.rmtree(target, ignore_errors=True)
    shutil.rmtree(out / label, ignore_errors=True)
    files.make_folder(target.parent)
    # The raw folder comes last: where it is, the truth is too.
    os.replace(temporary / 'truth', target)
    os.replace(temporary / 'raw', out / label)
    kept.remember(out, label, mark=mark, homes=_homes(label))
  except OSError as error:
    raise InputError(
      f'{out}: {label} cannot be written ({error.strerror or error}); free '
      'some space or choose another folder.'
    ) from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return label


def _write_top(out, cohort: str) -> None:
  made = [{'Name': 'cmbjax simulate', 'Version': cmbjax.__version__}]
  top = {
    'Name': f'Simulated {cohort}',
    'BIDSVersion': '1.10.0',
    'DatasetType': 'raw',
    'GeneratedBy': made,
    'Simulated': True,
    'Cohort': cohort,
  }
  path = out / 'dataset_description.json'
  if doors.is_there(path):
    found = files.read_object(path)
    if found.get('Cohort') != cohort or not found.get('Simulated'):
      raise InputError(
        f'{out}: holds {found.get("Name", "another data set")!r}, not a '
        f'simulated {cohort}; choose another folder.'
      )
  files.write_json(path, top)
  truth = {**top, 'Name': top['Name'] + ': truth', 'DatasetType': 'derivative'}
  files.write_json(out / _TRUTH / 'dataset_description.json', truth)
  files.write_text(out / '.bidsignore', f'*_swi.*\n.partial-*\n{kept.LISTS}\n')
  field = f'{protocol_of(cohort, 1, seed=0).field_t:g} T'
  if cohort == RANDOMISED:
    field = "each subject's own field (see its sidecars)"
  files.write_text(out / 'README', _README.format(cohort=cohort, field=field))


_README = """Simulated scans of cohort {cohort}.

Nobody was scanned: susceptibility maps drawn on the MNI152 templates, their
dipole field, the gradient echo signal at {field}, and the SWI
made from it. The truth is under derivatives/truth. Made by cmbjax simulate.
"""


def _write_participants(out) -> None:
  """One line per subject that is there, from the truth tables."""
  lines = ['participant_id\tmicrobleeds']
  for folder in sorted(out.glob('sub-*')):
    name = folder.name
    table = out / _TRUTH / name / 'anat' / f'{name}_seg-cmb_dseg.tsv'
    if doors.is_there(table):
      count = len(files.read_text(table).splitlines()) - 1
      lines.append(f'{name}\t{count}')
  files.write_text(out / 'participants.tsv', '\n'.join(lines) + '\n')
  about = {'Description': 'Microbleeds in the truth.'}
  files.write_json(out / 'participants.json', {'microbleeds': about})
