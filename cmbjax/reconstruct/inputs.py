"""Words of `cmbjax swi` to files, options, mask and receive field.

Rule: what does not belong to the scan is refused before anything is computed.
"""

from cmbjax.errors import InputError
from cmbjax.imaging import magnitude, mask_values, volume
from cmbjax.imaging.swi_options import SwiOptions


def inputs(args):
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


def seconds(texts):
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


def options_of(args) -> SwiOptions:
  """The options, by the names that they have here."""
  return SwiOptions(
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
  text = 'boxsegment' if text == 'on' else text
  return text if text in magnitude.SENSITIVITIES else 'off'


def read_field(text, grid):
  """The receive field of a file, None for the words."""
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


def read_mask(path, grid):
  """A brain mask of a person's own, on the grid of the scan."""
  mask = mask_values.read(path)
  if not volume.same_grid(mask, grid):
    raise InputError(
      f'{path}: is not on the grid of {grid.path} '
      f'{grid.array.shape[:3]}; give a mask of the same scan.'
    )
  return mask
