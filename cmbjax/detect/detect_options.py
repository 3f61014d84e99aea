"""The options of `cmbjax detect`, named as fMRIPrep names them."""

import argparse

from cmbjax.intake import dry_run
from cmbjax.weights import catalogue

EPILOG = """
IN is one SWI (.nii, .nii.gz), one magnitude with --phase, a folder of NIfTI
files, a BIDS data set or a DICOM folder. OUT becomes a BIDS derivative:

  OUT/sub-01/anat/sub-01_space-orig_seg-cmb_dseg.nii.gz   one label per lesion
  OUT/sub-01/anat/sub-01_space-orig_seg-cmb_dseg.tsv      its measures
  OUT/sub-01/anat/sub-01_space-orig_seg-cmb_dseg.json     counts, warnings
  OUT/sub-01.html  OUT/group_cmb.tsv  OUT/logs/

examples:
  cmbjax detect sub-01_swi.nii.gz out
  cmbjax detect scans out --weights runs/mine/models/NAME
  cmbjax detect mag.nii.gz out --phase phase.nii.gz
  cmbjax detect BIDS BIDS/derivatives/cmbjax participant --jobs 4

exit code: 0 all done, 1 some scans failed (the others are kept), 2 wrong use,
3 nothing to do, 130 interrupted. Research use only.
"""


LEVELS = ('participant', 'group')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options of the verb, named as fMRIPrep names them where it has them."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  parser.epilog = EPILOG
  parser.add_argument('input', metavar='IN', help='scan or scans, see below')
  parser.add_argument('out', metavar='OUT', help='folder for the results')
  parser.add_argument(
    'level',
    nargs='?',
    choices=LEVELS,
    default='participant',
    help='participant: scans and group table; group: only the group table',
  )
  _add_selection(parser.add_argument_group('which scans'))
  _add_method(parser.add_argument_group('method'))
  _add_output(parser.add_argument_group('output'))
  _add_running(parser.add_argument_group('running'))


def _add_selection(group) -> None:
  group.add_argument(
    '--participant-label',
    nargs='+',
    default=[],
    metavar='ID',
    help="subjects to do, with or without 'sub-'; default: all",
  )
  group.add_argument(
    '--session-label', nargs='+', default=[], metavar='ID', help='sessions'
  )
  group.add_argument(
    '--swi-pattern',
    metavar='PATTERN',
    help="name of the SWI in a BIDS data set, for example '*_acq-hr_swi.nii*'",
  )
  group.add_argument(
    '--series',
    nargs='+',
    type=int,
    default=[],
    metavar='N',
    help='numbers of the DICOM series to use, where several fit',
  )
  group.add_argument(
    '--phase',
    nargs='+',
    default=[],
    metavar='FILE',
    help='phase of IN, which is then a magnitude; the SWI is made from both',
  )
  group.add_argument(
    '--mask', metavar='FILE', help='brain mask of the one scan; default: made'
  )


def _add_method(group) -> None:
  group.add_argument(
    '--weights',
    metavar='W',
    help=f'bundled weights ({", ".join(catalogue.NAMES)}); a folder '
    'models/NAME of a finished study; or none: candidates and outlines '
    f'only; default: {catalogue.DEFAULT}',
  )
  group.add_argument(
    '--operating-point',
    choices=('high_sensitivity', 'balanced', 'high_precision'),
    default='high_sensitivity',
    help='from where on a candidate is a possible microbleed; definite ones '
    'are always above high_precision; default: high_sensitivity',
  )
  group.add_argument(
    '--threshold',
    type=float,
    metavar='P',
    help='a likelihood instead of an operating point, 0 to 1',
  )
  group.add_argument(
    '--candidates',
    '--generator',
    metavar='STAGE',
    help="how candidates are found: 'frst' (radial symmetry), 'learned' "
    "(small networks), or a function of your own as 'module:function'; "
    'default: as those that the '
    'networks learned from',
  )
  group.add_argument(
    '--atlas',
    metavar='FILE',
    help='label image in MNI space with a .tsv of names beside it (index, '
    'name, location), instead of the own region map',
  )
  group.add_argument(
    '--no-regions', action='store_true', help='do not name regions (faster)'
  )
  group.add_argument(
    '--polarity',
    action='store_true',
    help='read magnitude and phase beside an SWI too, to tell blood from '
    'calcium (seconds more)',
  )


def _add_output(group) -> None:
  group.add_argument(
    '--write-candidates',
    action='store_true',
    help='also *_desc-candidates.tsv: all candidates, with the reason why '
    'each dropped one was dropped, and their features',
  )
  group.add_argument(
    '--write-steps',
    action='store_true',
    help='also the scaled SWI, radial symmetry map, brain mask and regions',
  )
  group.add_argument(
    '--dicom-seg',
    action='store_true',
    help='for a DICOM folder: also OUT/sourcedata/dicom_seg/NAME.dcm, which '
    'carries the name of the patient as its images do',
  )
  group.add_argument('--no-report', action='store_true', help='no HTML pages')


def _add_running(group) -> None:
  group.add_argument(
    '--jobs',
    type=int,
    metavar='N',
    help='processes; default: by cores, memory and size of the scans',
  )
  group.add_argument(
    '--overwrite',
    action='store_true',
    help='do again what is done; without it only what is new or changed',
  )
  group.add_argument(
    '--dry-run',
    action='store_true',
    help=dry_run.HELP,
  )
