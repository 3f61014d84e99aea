"""`cmbjax import`: a public data set or a table of points to a cohort."""

import argparse
import pathlib
import sys

from cmbjax.intake import dry_run

EPILOG = """
layouts:
  lupolab  a folder per scan with *scaled*.nii, *finalcorrected*.nii (or
           *final_usercorrected*) and *false_positives*.nii
  valdo    task 2 of VALDO 2021: sub-*/sub-*_space-T2S_desc-masked_T2S.nii.gz
           and sub-*_space-T2S_CMB.nii.gz
  points   NIfTI images or a BIDS data set, and a table (.csv, .tsv, .xlsx)
           with a column that names the scan (scan, subject, file, ...) and
           x y z (mm) or i j k (voxels of the file); a row without numbers says
           that the scan has no microbleed
  pairs    NIfTI images or a BIDS data set, and a label image or mask beside
           each: NAME.nii.gz and NAME_label, _seg, _mask or _cmb, or imagesTr/
           and labelsTr/ as nnU-Net has them

Which file of a folder is the scan is decided as `cmbjax detect` does: masks,
phases, labels and projections are not scans, magnitude and phase of one name
are one. --dry-run prints what would be taken for what, and why not.

The images are copied (--link: linked). Run it again to go on: what is there
is kept. exit code: 0 all imported, 1 some scans failed, 2 wrong use, 3 nothing
found.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = EPILOG
  add = parser.add_argument
  add('source', metavar='SOURCE', help='folder as downloaded')
  add('out', metavar='OUT', help='cohort folder to write')
  add(
    '--layout',
    required=True,
    choices=('lupolab', 'valdo', 'points', 'pairs'),
  )
  add('--table', metavar='FILE', help='points; default: the one in SOURCE')
  add(
    '--axes',
    choices=('ras', 'lps'),
    default='ras',
    help='what x y z point to; DICOM and ITK use lps; default: ras',
  )
  add(
    '--first-index',
    type=int,
    choices=(0, 1),
    default=0,
    help='whether i j k count from 0 or (MATLAB) 1; default: 0',
  )
  add(
    '--unlisted',
    choices=('unlabelled', 'empty'),
    default='unlabelled',
    help='scans that no row or label image is of: without a truth, or '
    'without a microbleed; default: unlabelled',
  )
  add(
    '--suffix',
    choices=('swi', 'T2starw'),
    default='swi',
    help='what the images of a flat folder are; default: swi',
  )
  add(
    '--sidecar',
    metavar='FILE',
    help='JSON with what holds for all, such as {"EchoTime": 0.02, '
    '"MagneticFieldStrength": 3}',
  )
  add(
    '--prefix',
    default='',
    metavar='TEXT',
    help='put before each subject label, so that cohorts share none',
  )
  add('--link', action='store_true', help='symbolic links, no copies')
  _add_selection(add)
  add('--dry-run', action='store_true', help=dry_run.HELP)


def _add_selection(add) -> None:
  add(
    '--participant-label',
    nargs='+',
    default=[],
    metavar='ID',
    help='points, pairs: only these subjects, with or without sub-',
  )
  add(
    '--session-label',
    nargs='+',
    default=[],
    metavar='ID',
    help='points, pairs: only these sessions, with or without ses-',
  )
  add(
    '--swi-pattern',
    metavar='GLOB',
    help='points, pairs: which file is the SWI, by its name',
  )


def run(arguments: argparse.Namespace) -> int:
  """Imports; returns the exit code."""
  from cmbjax import files
  from cmbjax.data import import_sources, importers, lesion_labels
  from cmbjax.errors import InputError

  facts = files.read_object(arguments.sidecar) if arguments.sidecar else {}
  if arguments.table and arguments.layout != 'points':
    raise InputError('--table: goes with --layout points.')
  options = import_sources.ImportOptions(
    layout=arguments.layout,
    table=pathlib.Path(arguments.table) if arguments.table else None,
    axes=arguments.axes,
    first_index=arguments.first_index,
    unlisted=arguments.unlisted,
    suffix=arguments.suffix,
    facts=tuple(sorted(facts.items())),
    prefix=arguments.prefix,
    link=arguments.link,
    participants=tuple(arguments.participant_label),
    sessions=tuple(arguments.session_label),
    swi_pattern=arguments.swi_pattern,
  )
  source = pathlib.Path(arguments.source)
  planned = importers.plan(source, pathlib.Path(arguments.out), options)
  if arguments.dry_run:
    return dry_run.show(planned.rows(source), planned.found)
  dry_run.tell(source, planned.found)
  made = importers.import_cohort(source, arguments.out, options)
  for name, why in made.failed.items():
    print(f'cmbjax: {name}: {why}', file=sys.stderr)
  for sentence in lesion_labels.together(made.said):
    print(f'note: {sentence}', file=sys.stderr)
  parts = [f'{len(made.done)} imported']
  if made.kept:
    parts.append(f'{len(made.kept)} were there')
  if made.unlabelled:
    parts.append(f'{len(made.unlabelled)} of them without a truth')
  if made.failed:
    parts.append(f'{len(made.failed)} failed')
  print(f'{arguments.out}: {", ".join(parts)}')
  return 1 if made.failed else 0
