"""`cmbjax swi`: magnitude and phase files to SWI files and their settings."""

import argparse
import sys

from cmbjax.errors import InputError


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
  _add_method(parser.add_argument_group('method'))


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
    choices=('auto', 'on', 'off'),
    default='auto',
    help='undo a phase that flips every second slice',
  )


def _add_method(method) -> None:
  """High-pass, mask and projection."""
  method.add_argument(
    '--filter-size',
    type=float,
    metavar='MM',
    help='sigma of the high-pass; default: 3.8, 3.0, 1.9 at 1.5, 3, 7 T',
  )
  method.add_argument(
    '--phase-scaling-type',
    choices=('negative', 'positive', 'triangular'),
    default='negative',
    help='shape of the phase mask; default: negative',
  )
  method.add_argument(
    '--phase-scaling-strength',
    type=float,
    default=4.0,
    metavar='N',
    help='power of the mask; default: 4',
  )
  method.add_argument(
    '--phase-scaling-threshold',
    type=float,
    metavar='RAD',
    help='phase at which the mask reaches 0; default: pi, less at short echoes',
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
  from cmbjax.imaging import signal, swi, swi_outputs

  first, second, cartesian = _inputs(args)
  scan = signal.read(
    first,
    second,
    echo_times_s=_seconds(args.echo_times),
    field_t=args.field,
    cartesian=cartesian,
    coils=args.coils,
    rescale=not args.no_phase_rescale,
    fix_ge=args.fix_ge_phase,
  )
  options = _options_of(args)
  mask = _read_mask(args.mask, scan.grid) if args.mask else None
  result = swi.reconstruct(
    scan.magnitude,
    scan.phase,
    scan.grid.spacing_mm,
    options,
    echo_times_s=scan.echo_times_s,
    field_t=scan.field_t,
    mask=None if mask is None else mask.array > 0.5,
  )
  notes = [
    *scan.notes,
    *(mask.notes if mask else ()),
    *swi_outputs.notes_of(scan, result, options),
  ]
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  written = swi_outputs.write_images(
    args, result, grid=scan.grid, inputs=first + second
  )
  settings = swi_outputs.settings_of(
    args, scan, result, options=options, notes=notes
  )
  swi_outputs.write_settings(args, settings, written, first=first[0])
  for path in written.values():
    print(path)
  return 0


def _inputs(args):
  """(magnitude or real files, phase or imaginary files, which)."""
  polar, cartesian = (args.mag, args.phase), (args.real, args.imag)
  for pair, other, flag in (
    (polar, cartesian, False),
    (cartesian, polar, True),
  ):
    if all(pair) and not any(other):
      return list(pair[0]), list(pair[1]), flag
  raise InputError(
    'input: give --mag and --phase, or --real and --imag (both of one pair).'
  )


def _seconds(texts):
  """'2.7 10.4' or CLEAR-SWI's '[2.7,10.4]' in ms to seconds."""
  if texts is None:
    return None
  words = ' '.join(texts).replace('[', ' ').replace(']', ' ').replace(',', ' ')
  try:
    times = [float(w) for w in words.split()]
  except ValueError as error:
    raise InputError(
      f'--echo-times: found {" ".join(texts)}; give numbers in ms, for example '
      '2.7 10.4.'
    ) from error
  if not times or not all(0.5 <= t <= 500 for t in times):
    raise InputError(
      f'--echo-times: found {" ".join(texts)}; give ms between 0.5 and 500.'
    )
  return [t / 1000 for t in times]


def _options_of(args):
  """The options, by the names that they have here."""
  from cmbjax.imaging.swi import SwiOptions

  return SwiOptions(
    sigma_mm=args.filter_size,
    mask_kind=args.phase_scaling_type,
    mask_power=args.phase_scaling_strength,
    mask_threshold_rad=args.phase_scaling_threshold,
    phase_sign=None if args.phase_sign == 'auto' else int(args.phase_sign),
    echoes=tuple(args.echoes) if args.echoes else None,
    mip_mm=args.mip_mm,
  )


def _read_mask(path, grid):
  """A brain mask of a person's own, on the grid of the scan."""
  from cmbjax.imaging import volume

  mask = volume.load(path)
  if not volume.same_grid(mask, grid):
    raise InputError(
      f'{path}: is not on the grid of {grid.path} '
      f'{grid.array.shape[:3]}; give a mask of the same scan.'
    )
  return mask
