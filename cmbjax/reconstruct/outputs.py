"""An SWI to its files, and to the settings that make it again.

Rule: what is beside the SWI is enough to make it again.
"""

import dataclasses
import pathlib
import platform

import nibabel
import numpy as np
import scipy

import cmbjax
from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.imaging import resample, swi, volume
from cmbjax.intake import filename, sidecars

# Fields of the magnitude's sidecar that are true of its SWI too.
_KEPT = (
  'EchoTime',
  'RepetitionTime',
  'FlipAngle',
  'MagneticFieldStrength',
  'Simulated',
)


def resampled(result, grid, args):
  """The result and its grid with voxels of another size.

  Args:
    result: of `swi.reconstruct`.
    grid: the volume that it was made from.
    args: of the command; `resample` has the voxel sizes in mm.
  """
  new_mm = tuple(args.resample)
  result = swi.resampled(result, grid.spacing_mm, new_mm, mip_mm=args.mip_mm)
  return result, resample.to_spacing_volume(grid, new_mm)


def notes_of(args, scan, result, options):
  """What a person has to know of this SWI, sentence by sentence.

  Args:
    args: of the command.
    scan: what was read.
    result: of `swi.reconstruct`.
    options: how it was made.
  """
  found, asked = result.polarity, options.phase_sign
  if asked is None and not found.certain:
    usual = ", as on its maker's scanners" if scan.usual_sign else ''
    yield (
      'the sign of the phase is not clear from the image '
      f'({found.voxels} voxels, median {found.median_rad:.2f} rad); veins were '
      f'taken as {"negative" if found.sign > 0 else "positive"}{usual}, set '
      '--phase-sign if they come out bright'
    )
  measured = -1 if found.median_rad > 0 else 1
  if asked is not None and found.certain and measured != asked:
    yield (
      f'--phase-sign {asked} goes against the image, where veins '
      f'have a phase of {found.median_rad:.2f} rad'
    )
  one = len(result.echoes) == 1
  if options.mag_combine != 'average' and (one or options.mode != 'freq'):
    yield '--mag-combine has no effect: it needs --multi-echo freq and echoes'
  if options.mode == 'freq' and one:
    yield '--multi-echo freq has no effect: one echo is used'
  if scan.field_t is None and options.sigma_mm is None:
    yield (
      'the field strength is not known, so the high-pass is that of 3 T, '
      f'{result.sigma_mm:g} mm; give --field or --filter-size if it is another'
    )


def write_images(args, result, *, grid, inputs):
  """Writes the images on a grid, never over an input; paths by suffix.

  Args:
    args: of the command.
    result: of `swi.reconstruct`.
    grid: where it is in the world.
    inputs: paths of the files that were read.
  """
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
  return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def _start(path):
  """'sub-01_acq-x_' of a BIDS name, '' of any other."""
  parts = filename.entities(path)
  if parts.get('sub') is None:
    return ''
  return ''.join(f'{k}-{v}_' for k, v in parts.without('part', 'echo'))


def settings_of(args, scan, result, *, options, voxel_mm, notes):
  """All that decided how the SWI looks.

  Args:
    args: of the command.
    scan: what was read.
    result: of `swi.reconstruct`.
    options: how it was made.
    voxel_mm: of the results.
    notes: what was said of it.
  """
  return {
    'GeneratedBy': [{'Name': 'cmbjax swi', 'Version': cmbjax.__version__}],
    'Versions': {
      'python': platform.python_version(),
      'numpy': np.__version__,
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
    'VoxelMm': list(voxel_mm),
    'PhaseSign': {
      'Used': result.polarity.sign,
      'Measured': options.phase_sign is None
      and (result.polarity.certain or scan.usual_sign is None),
      'MedianInVeins': round(result.polarity.median_rad, 4),
      'Voxels': result.polarity.voxels,
      'Certain': result.polarity.certain,
    },
    'MaskGiven': args.mask is not None,
    'IntensityOf255': swi.unit_factor(result.swi, result.mask),
    'Notes': notes,
  }


def write_settings(args, settings, written, *, first):
  """settings.json, and a sidecar that says what a later step must know.

  Args:
    args: of the command.
    settings: of `settings_of`.
    written: images by suffix.
    first: the first magnitude, whose name and sidecar are kept.
  """
  settings = {**settings, 'Files': [p.name for p in written.values()]}
  fields = {k: v for k, v in sidecars.read(first).items() if k in _KEPT}
  if settings['MagneticFieldStrength']:
    fields['MagneticFieldStrength'] = settings['MagneticFieldStrength']
  if settings['EchoTimes']:
    times = [settings['EchoTimes'][e - 1] for e in settings['EchoesUsed']]
    fields['EchoTime'] = sum(times) / len(times)
  fields['GeneratedBy'] = settings['GeneratedBy']
  out, start = pathlib.Path(args.out), _start(first)
  files.write_json(out / f'{start}settings.json', settings)
  files.write_json(out / f'{start}swi.json', fields)
