"""`cmbjax swi`: magnitude and phase files to SWI files and their settings."""

import argparse
import pathlib
import sys

from cmbjax import files
from cmbjax.imaging import swi_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Options named as CLEAR-SWI names them, lengths in mm instead of voxels."""
  files = parser.add_argument_group('input and output')
  files.add_argument(
    '-m',
    '--mag',
    '--magnitude',
    dest='mag',
    nargs='+',
    metavar='FILE',
    help='magnitude: one file (echoes, then coils, last) or one per echo',
  )
  files.add_argument(
    '-p', '--phase', nargs='+', metavar='FILE', help='phase, as many files'
  )
  files.add_argument(
    '--real', nargs='+', metavar='FILE', help='instead of --mag'
  )
  files.add_argument(
    '--imag', nargs='+', metavar='FILE', help='instead of --phase'
  )
  files.add_argument(
    '-o', '--out', required=True, metavar='DIR', help='folder for the results'
  )
  files.add_argument(
    '--mask', metavar='FILE', help='your own brain mask; default: made here'
  )
  files.add_argument(
    '--writesteps', action='store_true', help='also the phase of every echo'
  )
  _add_scan(parser.add_argument_group('scan'))
  method = parser.add_argument_group('method')
  _add_phase(method)
  _add_magnitude(method)


def _add_scan(scan) -> None:
  """What the files do not say of themselves."""
  scan.add_argument(
    '-t',
    '--echo-times',
    nargs='+',
    metavar='MS',
    help='in ms, in the order of the echoes; default: from the JSON sidecars',
  )
  scan.add_argument(
    '-e',
    '--echoes',
    nargs='+',
    type=int,
    metavar='N',
    help='echoes to use, from 1; default: all but the first of several',
  )
  scan.add_argument(
    '--field', type=float, metavar='T', help='field strength; default: sidecar'
  )
  scan.add_argument(
    '--coils',
    action='store_true',
    help='the fourth axis is coils, not echoes (one file may hold 5 axes)',
  )
  scan.add_argument(
    '--phase-sign',
    choices=('auto', '1', '-1'),
    default='auto',
    help='1: veins have negative phase, -1: positive; default: measured',
  )
  scan.add_argument(
    '--no-phase-rescale', action='store_true', help='phase is in radians'
  )
  scan.add_argument(
    '--fix-ge-phase',
    choices=swi_options.FIX_GE,
    default='auto',
    help='undo a phase that flips every second slice',
  )


def _add_phase(method) -> None:
  """High-pass and mask."""
  method.add_argument(
    '--high-pass',
    '--unwrapping-algorithm',
    dest='high_pass',
    choices=(*swi_options.HIGH_PASSES, swi_options.AS_IT_IS),
    default='homodyne',
    help='none: the phase is high-passed already; default: homodyne, or none '
    'where the voxels show that it is',
  )
  method.add_argument(
    '--filter-size',
    type=float,
    metavar='MM',
    help='sigma of the high-pass; default: 3.8, 3.0, 1.9 at 1.5, 3, 7 T',
  )
  method.add_argument(
    '--phase-scaling-type',
    choices=swi_options.MASK_KINDS,
    default='negative',
    help='shape of the phase mask; default: negative',
  )
  method.add_argument(
    '--phase-scaling-strength',
    type=float,
    default=4.0,
    metavar='N',
    help='power of the mask, steepness of the tanh kinds; default: 4',
  )
  method.add_argument(
    '--phase-scaling-threshold',
    type=float,
    metavar='RAD',
    help='phase at which the mask reaches 0; default: pi, less at short echoes',
  )
  method.add_argument(
    '--phase-scaling-range',
    choices=swi_options.MASK_RANGES,
    default='pi',
    help='robust: mask over the span of the image, as CLEAR-SWI does',
  )


def _add_magnitude(method) -> None:
  """Echoes, the magnitude that is weighted, and the projection."""
  method.add_argument(
    '--multi-echo',
    choices=swi_options.MODES,
    default='postavg',
    help='mean of the SWIs, or one SWI of the mean frequency',
  )
  method.add_argument(
    '--mag-combine',
    nargs='+',
    default=['average'],
    metavar=('HOW', 'VALUE'),
    help='magnitude with --multi-echo freq: SNR, average, last, echo N, '
    'SE MS (as a single echo at that time) or closest MS; default: average',
  )
  method.add_argument(
    '--mag-sensitivity-correction',
    default='off',
    metavar='off|gaussian|boxsegment|FILE',
    help='divide by a receive field: from the magnitude ("on" is boxsegment) '
    'or from a file; default: off',
  )
  method.add_argument(
    '--mag-softplus-scaling',
    choices=('on', 'off'),
    default='off',
    help='press dark noise of the magnitude towards 0; default: off',
  )
  method.add_argument(
    '--resample',
    nargs=3,
    type=float,
    metavar=('DX', 'DY', 'DZ'),
    help='voxel size in mm of the results (x: left-right), means of the voxels '
    'they cover; default: as acquired',
  )
  method.add_argument(
    '-s',
    '--mip-mm',
    type=float,
    default=10.0,
    metavar='MM',
    help='thickness of the minimum projection; default: 10',
  )


def run(args: argparse.Namespace) -> int:
  """Reconstructs and writes; prints a line for each file.

  Returns:
    0, the exit code.

  Raises:
    InputError, NoInputError: files or options that do not fit.
  """
  from cmbjax.imaging import swi
  from cmbjax.reconstruct import inputs, outputs

  files.check_place(args.out)
  paths, facts, scan = _read(args)
  options = scan.options(inputs.options_of(args))
  mask = inputs.read_mask(args.mask, scan.grid) if args.mask else None
  field = inputs.read_field(args.mag_sensitivity_correction, scan.grid)
  result = swi.from_echoes(
    scan.echoes,
    scan.grid.spacing_mm,
    options,
    echo_times_s=scan.echo_times_s,
    field_t=scan.field_t,
    mask=None if mask is None else mask.array,
    sensitivity=None if field is None else field.array,
    usual_sign=scan.usual_sign,
  )
  grid = scan.grid
  if args.resample:
    result, grid = outputs.resampled(result, grid, args)
  notes = [
    *scan.notes,
    *(note for given in (mask, field) if given for note in given.notes),
    *outputs.notes_of(args, scan, result, options),
  ]
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  settings = outputs.settings_of(
    args, scan, result, options=options, voxel_mm=grid.spacing_mm, notes=notes
  )
  with files.together():
    written = outputs.write_images(args, result, grid=grid, inputs=paths)
    outputs.write_settings(
      args, settings, written, first=paths[0], facts=facts[paths[0]]
    )
  for path in written.values():
    print(path)
  return 0


def _read(args):
  """(paths, the first magnitude first, JSON fields of each, the signal)."""
  from cmbjax.intake import sidecars
  from cmbjax.reconstruct import inputs, signal

  first, second, cartesian = inputs.inputs(args)
  paths = [pathlib.Path(path) for path in (*first, *second)]
  facts = {path: sidecars.read(path) for path in paths}
  scan = signal.read(
    first,
    second,
    fields=facts,
    echo_times_s=inputs.seconds(args.echo_times),
    field_t=args.field,
    cartesian=cartesian,
    coils=args.coils,
    rescale=not args.no_phase_rescale,
    fix_ge=args.fix_ge_phase,
  )
  return paths, facts, scan
