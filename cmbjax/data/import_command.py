"""`cmbjax import`: a public data set or a table of points to a cohort."""

import argparse
import pathlib
import sys

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
  add('--layout', required=True, choices=('lupolab', 'valdo', 'points'))
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
    help='scans that the table does not name: without a truth, or without a '
    'microbleed; default: unlabelled',
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
  )
  made = importers.import_cohort(arguments.source, arguments.out, options)
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
