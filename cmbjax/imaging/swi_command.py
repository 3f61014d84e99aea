"""`cmbjax swi`: magnitude and phase files to SWI files and their settings.

Rule: what lies beside the SWI is enough to make it again.
"""

import argparse
import pathlib
import sys


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
  scan = parser.add_argument_group('scan')
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
  _add_method(parser.add_argument_group('method'))


def _add_method(method) -> None:
  method.add_argument(
    '--high-pass',
    '--unwrapping-algorithm',
    dest='high_pass',
    choices=('homodyne', 'laplacian', 'laplacianslice', 'gaussian'),
    default='homodyne',
    help='default: homodyne',
  )
  method.add_argument(
    '--filter-size',
    type=float,
    metavar='MM',
    help='sigma of the high-pass; default: 3.8, 3.0, 1.9 at 1.5, 3, 7 T',
  )
  method.add_argument(
    '--phase-scaling-type',
    choices=(
      'negative',
      'positive',
      'triangular',
      'threshold',
      'cosine',
      'tanh',
      'negativetanh',
    ),
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
    choices=('pi', 'robust'),
    default='pi',
    help='robust: mask over the span of the image, as CLEAR-SWI does',
  )
  method.add_argument(
    '--multi-echo',
    choices=('postavg', 'freq'),
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
  from cmbjax.imaging import signal, swi

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
  options = _options(args, swi)
  mask = _read_mask(args.mask, scan.grid) if args.mask else None
  field = _read_field(args.mag_sensitivity_correction, scan.grid)
  result = swi.reconstruct(
    scan.magnitude,
    scan.phase,
    scan.grid.spacing_mm,
    options,
    echo_times_s=scan.echo_times_s,
    field_t=scan.field_t,
    mask=None if mask is None else mask.array > 0.5,
    sensitivity=None if field is None else field.array,
  )
  grid = scan.grid
  if args.resample:
    result, grid = _resampled(result, grid, args)
  notes = [
    *scan.notes,
    *(note for given in (mask, field) if given for note in given.notes),
    *_polarity_notes(result.polarity, options),
    *_unused_notes(args, result, options),
    *_assumed_notes(scan, result, options),
  ]
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  written = _write(args, grid, result, first + second)
  settings = _settings(args, scan, grid, result, options, notes, written)
  _write_settings(args, first[0], settings, written)
  for path in written.values():
    print(path)
  return 0


def _inputs(args):
  """(magnitude or real files, phase or imaginary files, which)."""
  from cmbjax.errors import InputError

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
  from cmbjax.errors import InputError

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


def _options(args, swi):
  return swi.Options(
    high_pass=args.high_pass,
    sigma_mm=args.filter_size,
    mask_kind=args.phase_scaling_type,
    mask_power=args.phase_scaling_strength,
    mask_threshold_rad=args.phase_scaling_threshold,
    phase_sign=None if args.phase_sign == 'auto' else int(args.phase_sign),
    mode=args.multi_echo,
    echoes=tuple(args.echoes) if args.echoes else None,
    mask_range=args.phase_scaling_range,
    mag_combine=' '.join(args.mag_combine),
    sensitivity=_sensitivity_kind(args.mag_sensitivity_correction),
    softplus=args.mag_softplus_scaling == 'on',
    mip_mm=args.mip_mm,
  )


def _sensitivity_kind(text):
  """'on' is the method of CLEAR-SWI; a file is not made here."""
  from cmbjax.imaging import magnitude

  text = 'boxsegment' if text == 'on' else text
  return text if text in magnitude.SENSITIVITIES else 'off'


def _read_field(text, grid):
  """The receive field of a file, None for the words."""
  from cmbjax.errors import InputError
  from cmbjax.imaging import magnitude, volume

  if text in (*magnitude.SENSITIVITIES, 'on'):
    return None
  if not text.endswith(('.nii', '.nii.gz')):
    raise InputError(
      f'--mag-sensitivity-correction: found {text!r}; give off, gaussian, '
      'boxsegment or a NIfTI file.'
    )
  field = volume.load(text)
  if not volume.same_grid(field, grid):
    raise InputError(
      f'{text}: is not on the grid of {grid.path} {grid.array.shape[:3]}; give '
      'a sensitivity map of the same scan.'
    )
  if not field.array.min() > 0:
    raise InputError(
      f'{text}: a sensitivity map must be above 0 everywhere, its smallest '
      f'value is {field.array.min():g}.'
    )
  return field


def _resampled(result, grid, args):
  """The result and its grid with voxels of another size."""
  from cmbjax.imaging import resample, swi

  new_mm = tuple(args.resample)
  result = swi.resampled(result, grid.spacing_mm, new_mm, mip_mm=args.mip_mm)
  return result, resample.to_spacing_volume(grid, new_mm)


def _read_mask(path, grid):
  from cmbjax.errors import InputError
  from cmbjax.imaging import volume

  mask = volume.load(path)
  if not volume.same_grid(mask, grid):
    raise InputError(
      f'{path}: is not on the grid of {grid.path} '
      f'{grid.array.shape[:3]}; give a mask of the same scan.'
    )
  return mask


def _polarity_notes(found, options):
  if options.phase_sign is None and not found.certain:
    yield (
      'the sign of the phase is not clear from the image '
      f'({found.voxels} voxels, median {found.median_rad:.2f} rad); veins were '
      'taken as negative, set --phase-sign if they come out bright'
    )
  measured = -1 if found.median_rad > 0 else 1
  if (
    options.phase_sign is not None
    and found.certain
    and (measured != options.phase_sign)
  ):
    yield (
      f'--phase-sign {options.phase_sign} goes against the image, where veins '
      f'have a phase of {found.median_rad:.2f} rad'
    )


def _assumed_notes(scan, result, options):
  """What nobody gave and no sidecar says."""
  if scan.field_t is None and options.sigma_mm is None:
    yield (
      'the field strength is not known, so the high-pass is that of 3 T, '
      f'{result.sigma_mm:g} mm; give --field or --filter-size if it is another'
    )


def _unused_notes(args, result, options):
  """Options that a person gave and that this scan has no use for."""
  one = len(result.echoes) == 1
  if options.mag_combine != 'average' and (one or options.mode != 'freq'):
    yield '--mag-combine has no effect: it needs --multi-echo freq and echoes'
  if options.mode == 'freq' and one:
    yield '--multi-echo freq has no effect: one echo is used'


def _write(args, grid, result, inputs):
  """Writes the images; their paths by suffix."""
  import numpy as np

  from cmbjax.errors import InputError
  from cmbjax.imaging import swi, volume

  factor = np.float32(255 / swi.unit_factor(result.swi, result.mask))
  images = {
    'swi': _bytes(result.swi * factor),
    'minIP': _bytes(result.min_ip * factor),
    'label-brain_mask': result.mask,
  }
  if result.tof is not None:
    images['TOF'] = result.tof
  if args.writesteps:
    images['desc-highpass_phase'] = result.phase
    images['desc-combined_magnitude'] = result.magnitude
  start = _start(inputs[0])
  taken = {pathlib.Path(p).resolve() for p in (*inputs, args.mask) if p}
  written = {}
  for suffix in images:
    path = pathlib.Path(args.out) / f'{start}{suffix}.nii.gz'
    if path.resolve() in taken:
      raise InputError(f'{path}: is an input; choose another --out.')
    written[suffix] = path
  for suffix, path in written.items():
    volume.save(path, images[suffix], grid)
  return written


def _bytes(image):
  import numpy as np

  return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _start(path):
  """'sub-01_acq-x_' of a BIDS name, '' of any other."""
  from cmbjax.imaging import bids

  parts = bids.entities(path)
  if parts.get('sub') is None:
    return ''
  return ''.join(f'{k}-{v}_' for k, v in parts.without('part', 'echo'))


def _settings(args, scan, grid, result, options, notes, written):
  import dataclasses
  import platform

  import nibabel
  import numpy
  import scipy

  import cmbjax
  from cmbjax.imaging import swi

  return {
    'GeneratedBy': [{'Name': 'cmbjax swi', 'Version': cmbjax.__version__}],
    'Versions': {
      'python': platform.python_version(),
      'numpy': numpy.__version__,
      'scipy': scipy.__version__,
      'nibabel': nibabel.__version__,
    },
    'Arguments': {
      k: v
      for k, v in vars(args).items()
      if v is None or isinstance(v, str | int | float | list)
    },
    'Options': dataclasses.asdict(options),
    'EchoTimes': scan.echo_times_s,
    'EchoesUsed': result.echoes,
    'MagneticFieldStrength': scan.field_t,
    'HighPassSigmaMm': result.sigma_mm,
    'SliceAxis': 'xyz'[result.slice_axis],
    'VoxelMm': list(grid.spacing_mm),
    'PhaseSign': {
      'Used': result.polarity.sign,
      'Measured': options.phase_sign is None,
      'MedianInVeins': round(result.polarity.median_rad, 4),
      'Voxels': result.polarity.voxels,
      'Certain': result.polarity.certain,
    },
    'MaskGiven': args.mask is not None,
    'IntensityOf255': swi.unit_factor(result.swi, result.mask),
    'Notes': notes,
    'Files': [p.name for p in written.values()],
  }


def _write_settings(args, first, settings, written):
  """settings.json, and a sidecar that says what a later step must know."""
  from cmbjax import files
  from cmbjax.imaging import bids

  kept = (
    'EchoTime',
    'RepetitionTime',
    'FlipAngle',
    'MagneticFieldStrength',
    'Simulated',
  )
  fields = {k: v for k, v in bids.sidecar(first).items() if k in kept}
  if settings['MagneticFieldStrength']:
    fields['MagneticFieldStrength'] = settings['MagneticFieldStrength']
  used = settings['EchoesUsed']
  if settings['EchoTimes']:
    times = [settings['EchoTimes'][e - 1] for e in used]
    fields['EchoTime'] = sum(times) / len(times)
  fields['GeneratedBy'] = settings['GeneratedBy']
  out = pathlib.Path(args.out)
  files.write_json(out / f'{_start(first)}settings.json', settings)
  files.write_json(written['swi'].with_name(f'{_start(first)}swi.json'), fields)
