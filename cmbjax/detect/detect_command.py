"""`cmbjax detect`: scans to measured microbleeds, tables and reports.

Rule: every scan that was asked for ends as done, skipped or failed, and the
exit code and the last line say how many.
"""

import argparse
import atexit
import pathlib
import shutil
import sys
import tempfile

from cmbjax import doors, files
from cmbjax.detect.detect_options import add_arguments
from cmbjax.errors import InputError, NoInputError
from cmbjax.weights import catalogue

__all__ = ['add_arguments', 'run']

SHOWN = 3  # scans, up to which warnings are printed in full


def run(args: argparse.Namespace) -> int:
  """Analyses all scans; returns the exit code.

  Raises:
    InputError, NoInputError: options or input that cannot be used.
  """
  from cmbjax.detect import derivatives, records
  from cmbjax.intake import dry_run, explain

  out = pathlib.Path(args.out)
  _check(args, out)
  if args.level == 'group':
    return _group(out, page=not args.no_report)
  found, source = _find(args, out)
  series = pathlib.Path(args.input)
  if found.kind == 'dicom':  # the folder may be called by the patient's name
    args.input = str(out / 'sourcedata')
  elif args.dicom_seg:
    raise InputError(
      f'--dicom-seg: {args.input} is no DICOM folder; a segmentation refers to '
      'the DICOM images that it was made on.'
    )
  settings = _settings(args, out)
  todo, ready, broken = _plan(found, settings, source, overwrite=args.overwrite)
  if args.dry_run:
    _tell(todo, ready, out)
    found = found._replace(broken=tuple(broken))
    return dry_run.show(explain.rows(source, found), found)
  dry_run.tell(source, found._replace(scans=()))  # theirs are warnings
  derivatives.write_dataset(out, pathlib.Path(args.input).resolve())
  failed = _work(args, settings, todo, ready, broken)
  if args.dicom_seg:
    failed += _segmentations(out, found.scans, series)
  path = records.write_group(out, page=settings.page)
  _summary(len(todo) + len(broken), len(ready), failed)
  print(path)
  if failed and found.kind == 'file':
    return 2  # the one file that was named cannot be used
  return 1 if failed else 0


def _segmentations(out, scans, source) -> int:
  """Writes them; how many failed."""
  from cmbjax.detect import dicom_seg

  failed = dicom_seg.write_all(out, scans, source)
  for name, why in failed.items():
    _say(f'{name}: no DICOM segmentation: {why}')
  return len(failed)


def _check(args, out):
  if args.threshold is not None and not 0 <= args.threshold < 1:
    raise InputError(
      f'--threshold: found {args.threshold:g}; give a likelihood from 0 to '
      'below 1.'
    )
  if args.jobs is not None and args.jobs < 1:
    raise InputError(f'--jobs: found {args.jobs}, must be 1 or more.')
  files.check_place(out)
  if args.threshold is not None and (args.weights or '').lower() == 'none':
    raise InputError(
      '--threshold: is a likelihood, and --weights none gives none; leave one '
      'of them out.'
    )
  _check_place(pathlib.Path(args.input), out)


def _check_place(source, out):
  """Results do not go among the scans, nor into somebody else's data set."""
  from cmbjax.detect import derivatives

  place, scans = out.resolve(), source.resolve()
  inside = place.is_relative_to(scans) and place.relative_to(scans).parts
  among = bool(inside) and inside[0].startswith('sub-')
  if source.is_dir() and (place == scans or among):
    raise InputError(
      f'{out}: {"lies among the scans of" if among else "is"} the input; give '
      f'another folder, for example {source / "derivatives" / "cmbjax"}.'
    )
  derivatives.refuse_others(out)


def _find(args, out):
  """(scans, the folder that they are in: of DICOM the converted one)."""
  from cmbjax.intake import scans

  source, work = pathlib.Path(args.input), out / 'sourcedata'
  work = _scratch(work) if args.dry_run else work
  found = scans.find(
    source,
    phase=[pathlib.Path(p) for p in args.phase],
    mask=pathlib.Path(args.mask) if args.mask else None,
    participants=args.participant_label,
    sessions=args.session_label,
    swi_pattern=args.swi_pattern,
    work=work,
    series=args.series,
  )
  return found, work if found.kind == 'dicom' else source


def _scratch(work) -> pathlib.Path:
  """Where a dry run converts DICOM, under the names of the real run."""
  from cmbjax.intake import dicom

  scratch = pathlib.Path(tempfile.mkdtemp(prefix='cmbjax-'))
  # At the end: its files are read until then.
  atexit.register(shutil.rmtree, scratch, ignore_errors=True)
  if doors.is_there(work / dicom.KEY_FILE):
    files.copy(work / dicom.KEY_FILE, scratch / dicom.KEY_FILE)
  return scratch


def _settings(args, out):
  from cmbjax.detect import batch, chain, classifier, places

  classify = (args.weights or '').lower() != 'none'
  weights = catalogue.resolve(args.weights or None) if classify else None
  fallback = None
  # Who names weights wants those: a scan without a channel is an error then.
  if classify and not args.weights:
    fallback = catalogue.folder(catalogue.SWI_ONLY)
  atlas = pathlib.Path(args.atlas) if args.atlas else None
  if atlas is not None:  # a wrong one ends here, not in every scan
    places.load(atlas)
  options = chain.DetectOptions(
    operating_point=args.operating_point,
    threshold=args.threshold if classify else None,
    candidates=args.candidates,
    regions=not args.no_regions,
    atlas=atlas,
    phase=args.polarity,
  )
  folders = list(dict.fromkeys(filter(None, (weights, fallback))))
  _check_stage(args.candidates, folders)
  for folder in folders:  # wrong weights end here, not in every scan
    classifier.check(folder, args.operating_point, args.threshold)
  return batch.Settings(
    out=out,
    weights=weights,
    fallback=fallback,
    classify=classify,
    options=options,
    candidates=args.write_candidates,
    steps=args.write_steps,
    page=not args.no_report,
  )


def _check_stage(wanted, folders):
  """A candidate stage that is not there ends here, not in every scan."""
  from cmbjax.candidates import stages
  from cmbjax.detect import classifier

  if wanted is not None:
    stages.find(wanted, key='--candidates')
    return
  for folder in folders:
    key = f'{folder}/weights.json: candidates'
    stages.find(classifier.described(folder).candidates, key=key)


def _plan(found, settings, source, *, overwrite):
  """(scans to do, records of those done, [(name, why)] of broken ones)."""
  from cmbjax.detect import batch, records

  todo, ready, broken = [], [], list(found.broken)
  for scan in found.scans:
    if overwrite or not records.is_known(settings.out, scan.name):
      todo.append(scan)  # nothing to compare with, so nothing to read yet
      continue
    try:
      mark = batch.mark_of(scan, settings)
    except InputError as error:
      broken.append((scan.name, str(error)))
      continue
    record = records.done(settings.out, scan.name, mark)
    if record is None:
      records.refuse_another(settings.out, scan, source)
      todo.append(scan)
    else:
      ready.append(record)
  return todo, ready, broken


def _tell(todo, ready, out):
  """What --dry-run says beside its table."""
  for scan in todo:
    where = out.joinpath(scan.subject, scan.session or '', 'anat')
    _say(f'would do    {scan.name}  ->  {where}')
  for record in ready:
    _say(f'would skip  {record["row"]["name"]}  (done, nothing changed)')


def _work(args, settings, todo, ready, broken) -> int:
  """Does it, with progress and a log; the number of failures."""
  from cmbjax.detect import batch, records
  from cmbjax.progress import Progress

  log = batch.Log(settings.out)
  share = batch.affordable(args.jobs, todo, settings)
  log.add(
    'start',
    version=batch.cmbjax.__version__,
    settings={k: v for k, v in vars(args).items() if k != 'run'},
    jobs=share.jobs,
    todo=[scan.name for scan in todo],
    skipped=[record['row']['name'] for record in ready],
  )
  failed = []
  for name, why in broken:
    failed.append(name)
    records.write_failure(settings.out, name, why)
    _say(f'{name}: failed: {why}')
    log.add('failed', name=name, error=why)
  total = len(todo) + len(ready)
  try:
    with Progress('detect', total, done=len(ready)) as progress:
      for end in batch.run(todo, settings, **share._asdict()):
        if end.record is None:
          failed.append(end.name)
          progress.advance(note=f'{end.name} failed')
          _say(f'{end.name}: failed: {end.error}')
          log.add('failed', name=end.name, error=end.error, trace=end.trace)
        else:
          progress.advance(note=f'{end.name}: {end.record["shown"]}')
          if total <= SHOWN:
            _tell_warnings(end)
          log.add('done', name=end.name, **end.record)
  except BaseException as error:  # Ctrl-C too is in the log
    log.add('stopped', error=type(error).__name__)
    raise
  log.add('end', failed=failed)
  return len(failed)


def _tell_warnings(end):
  """Of many scans they are only counted here; the reports say them all."""
  for text in end.record['warnings']:
    _say(f'  {end.name}: {text}')
  if end.record['top_rejected']:
    _say(f'  {end.name}: not found, but nearest to it:')
  for row in end.record['top_rejected']:
    place = ', '.join(f'{v:.1f}' for v in row['centre_mm'])
    why = row['reason']
    if row['likelihood'] is not None:
      why += f' {row["likelihood"]:g}'
    _say(f'    {row["id"]} at ({place}) mm: {why}')


def _summary(tried, skipped, failed):
  done = tried - failed
  parts = [f'{done} done']
  if skipped:
    parts.append(f'{skipped} were done already')
  if failed:
    parts.append(f'{failed} failed (see logs)')
  _say('detect: ' + ', '.join(parts))


def _group(out, *, page):
  from cmbjax.detect import records

  if not records.records(out):
    raise NoInputError(f'{out}: holds no finished scan; run participant first.')
  print(records.write_group(out, page=page))
  return 0


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
