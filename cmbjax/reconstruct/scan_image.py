"""The files of one scan to its SWI, its brain mask and further channels."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cmbjax.errors import InputError
from cmbjax.imaging import (
  appearance,
  brain,
  mask_values,
  slices,
  swi,
  volume,
)
from cmbjax.intake import facts
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import channels as channels_lib
from cmbjax.reconstruct import signal
from cmbjax.reconstruct.channels import ONLY_SWI

_NO_SWI = {  # what cannot be searched for microbleeds
  appearance.PHASE: 'a phase',
  appearance.LABELS: 'labels',
  appearance.PROJECTION: 'a projection through several slices',
}
_REPAIRS = {
  appearance.OVERFLOWED: 'they were put back',
  appearance.SHIFTED: 'it was shifted until black is 0',
  appearance.INVERTED: 'it was inverted',
}
SMALLEST_MM = 10.0  # longest side; below it the header is not in mm


class ScanImage(NamedTuple):
  """The SWI of one scan, its slice axis last, and where it is from."""

  volume: volume.Volume  # not scaled; in the order of `slices.last`
  mask: np.ndarray  # bool [X, Y, Z], the brain
  made: str  # 'given', 'reconstructed' or 'magnitude' (no phase: no SWI)
  notes: tuple[str, ...]  # what was repaired, and what is not sure
  beside: Mapping[str, np.ndarray] = {}  # [X, Y, Z] 0..1
  lacking: Mapping[str, str] = {}  # channel: why it is not there
  sign_certain: bool = False  # veins are negative in the phase, for certain


def load_image(
  found: ScanFiles, channels: Sequence[str] = ONLY_SWI
) -> ScanImage:
  """The SWI of a scan, made where there is none, and its brain mask.

  Measured channels are what the SWI is made of, or would be: the high-passed
  phase (of several echoes the last one's) and the magnitude (their mean,
  without the first; without any phase the last one), scaled as the SWI. A
  channel that cannot be had is in `lacking`, and the SWI is there all the
  same.

  Raises:
    InputError: a damaged file, or one that is not on the scan's grid.
  """
  beside = channels_lib.measured(channels)
  image, mask, made, notes, rebuilt = _image(found, beside)
  if found.mask is not None:
    given = mask_values.read(found.mask)
    mask = slices.array_like(given, image)
    notes = (*notes, *given.notes)
  elif mask is None:
    with named(image.path):
      mask = brain.brain_mask(image.array, image.spacing_mm)
  notes += _holes(image, mask)
  result = ScanImage(image, mask, made, notes)
  if not beside:
    return result
  return _with_channels(result, found, beside, rebuilt)


def _image(found: ScanFiles, beside: Sequence[str]) -> tuple:
  """The SWI: as given, else reconstructed, else (no phase) the magnitude.

  Also the brain mask and images `beside`, where it was reconstructed. All have
  the slice axis last.
  """
  if found.swi is not None:
    given = _usable(volume.load(found.swi))
    return given, None, 'given', given.notes, None
  if not found.phase:
    longest = _usable(volume.load(found.magnitude[-1]))
    return longest, None, 'magnitude', longest.notes, None
  made, grid, notes = _reconstruct(found, beside)
  image = dataclasses.replace(grid, array=made.swi)
  return image, made.mask, 'reconstructed', notes, made


def _of_a_head(image: volume.Volume) -> volume.Volume:
  """The image, unless its header makes it smaller than any piece of one."""
  shape = image.array.shape[:3]
  sides = [n * side for n, side in zip(shape, image.spacing_mm)]
  if max(sides) < SMALLEST_MM:
    size = ' x '.join(f'{side:.3g}' for side in sides)
    raise InputError(
      f'{image.path}: shows {size} mm, which is no head; check the voxel sizes '
      'of its header, which cmbjax takes for mm.'
    )
  return image


def righted(image: volume.Volume) -> tuple[volume.Volume, str]:
  """The image as it would have been, and why it is none to detect in.

  Args:
    image: as a file has it.

  Returns:
    (the image, slice axis last: shifted, turned or with overflowed voxels put
    right where that is needed, which its notes say; '' or what it shows
    instead of an SWI, for certain).
  """
  image = slices.last(image)
  seen = appearance.look(image.array, image.spacing_mm)
  signs = ', '.join(seen.signs)
  name = image.path.name if image.path else 'image'
  if seen.kind in _NO_SWI and seen.certain:
    return image, f'{_NO_SWI[seen.kind]}: {signs}'
  notes = image.notes
  if seen.kind in _REPAIRS:
    notes += (f'{name}: {signs}; {_REPAIRS[seen.kind]}',)
    if not seen.certain:
      notes += (
        f'{name}: where black is, is a guess; check that it is an SWI and not '
        'a phase, and use the image before it was scaled if you can',
      )
  elif signs:
    notes += (f'{name}: {signs}; check that it is an SWI',)
  array = appearance.repaired(image.array, seen)
  return dataclasses.replace(image, array=array, notes=notes), ''


def _usable(image: volume.Volume) -> volume.Volume:
  """The image put right, slice axis last; refused where it shows no SWI."""
  righted_one, why = righted(_of_a_head(image))
  if why:
    raise InputError(f'{image.path}: shows {why}; give the SWI itself.')
  return righted_one


def _holes(image: volume.Volume, mask: np.ndarray) -> tuple[str, ...]:
  """What is said of voxels of the brain that have no value."""
  if image.unknown is None:
    return ()
  unknown = image.unknown  # of several echoes: in any of them
  unknown = unknown.reshape(*unknown.shape[:3], -1).any(-1)
  count = int((unknown & mask).sum())
  if not count:
    return ()  # NaN is how many programs mark what is outside of the brain
  part = count / max(1, int(mask.sum()))
  return (
    f'{image.path.name if image.path else "image"}: {count:,} voxels of the '
    f'brain ({part:.2g} of it) are NaN and were taken for 0, as dark as a '
    'microbleed; what is found there, or is not, means nothing',
  )


@contextlib.contextmanager
def named(path: pathlib.Path | None) -> Iterator[None]:
  """What is wrong with an image is said with the name of its file."""
  try:
    yield
  except InputError as error:
    if path is None or str(path) in str(error):
      raise
    raise InputError(f'{path}: {error}') from error


def _reconstruct(
  found: ScanFiles, beside: Sequence[str], image: ScanImage | None = None
) -> tuple[swi.Swi, volume.Volume, tuple[str, ...]]:
  """Magnitude and phase to an SWI and what is wanted `beside` it; on the grid
  of `image` and with its mask, where one is given."""
  read = signal.read(
    found.magnitude,
    found.phase,
    fields=found.facts,
    cartesian=found.cartesian,
  )
  grid = slices.last(_of_a_head(read.grid))
  if image is not None:
    volume.check_grid(grid, image.volume)
  read.echoes.lay(grid)
  with named(found.magnitude[0]):
    made = swi.from_echoes(
      read.echoes,
      grid.spacing_mm,
      read.options(),
      echo_times_s=read.echo_times_s,
      field_t=read.field_t,
      mask=None if image is None else image.mask,
      usual_sign=read.usual_sign,
      beside=beside,
    )
  notes = tuple(read.notes)
  if not made.polarity.certain:
    notes += (_said_of_sign(read, made),)
  return made, grid, notes


def _said_of_sign(read, made):
  """How veins were taken to be, where the image does not show it."""
  how = 'negative' if made.polarity.sign > 0 else 'positive'
  usual = 'a guess' if read.usual_sign is None else "as on its maker's scanners"
  return (
    'the sign of the phase is not clear from the image; veins were taken as '
    f'{how}, {usual}; if they come out bright, make the SWI with cmbjax swi '
    f'--phase-sign {-made.polarity.sign}'
  )


def _with_channels(
  image: ScanImage,
  found: ScanFiles,
  wanted: Sequence[str],
  rebuilt: swi.Swi | None,
) -> ScanImage:
  """The same with further channels; `rebuilt` is what the SWI was made with."""
  lacking, notes = absent(found, wanted), ()
  wanted = [name for name in wanted if name not in lacking]
  if not wanted:
    return image._replace(lacking=lacking)
  try:
    if rebuilt is None and found.phase:
      rebuilt, _, notes = _reconstruct(found, wanted, image)
    if rebuilt is None:
      given = _usable(volume.load(found.magnitude[-1]))
      magnitude = slices.array_like(given, image.volume)
      notes = given.notes
    else:
      magnitude = rebuilt.magnitude
    make = {
      'phase': lambda: channels_lib.of_phase(rebuilt.phase),
      'magnitude': lambda: swi.scale_to_unit(magnitude, image.mask),
    }
    beside = {name: make[name]() for name in wanted}
  except InputError as error:
    why = str(error).rstrip('.')
    return image._replace(lacking=lacking | dict.fromkeys(wanted, why))
  notes = tuple(dict.fromkeys((*image.notes, *notes)))  # a file read twice
  certain = rebuilt is not None and rebuilt.polarity.certain
  return image._replace(
    notes=notes, beside=beside, lacking=lacking, sign_certain=certain
  )


def absent(found: ScanFiles, wanted: Sequence[str]) -> dict[str, str]:
  """Channels without a file, and why they cannot be had."""
  files_of = {'phase': found.phase, 'magnitude': found.magnitude}
  if not found.magnitude:  # a phase alone is not high-passed
    files_of['phase'] = ()
  return {
    name: f'there is no {name} beside the SWI'
    for name in wanted
    if not files_of[name]
  }


def signal_files(
  found: ScanFiles, channels: Sequence[str] = ONLY_SWI
) -> tuple[pathlib.Path, ...]:
  """Magnitude and phase where they are read: without an SWI, or as channels."""
  if found.swi is not None and not channels_lib.measured(channels):
    return ()
  return (*found.magnitude, *found.phase)


def echo_time_s(found: ScanFiles) -> float | None:
  """Mean echo time of what the SWI of a scan was made from; None: not known.

  Of several echoes that is all but the first one, and without a phase the
  last one, which is taken for an SWI.
  """
  times = found.sidecar.get(facts.ECHO)
  if found.swi is None and len(found.magnitude) > 1:
    used = slice(1, None) if found.phase else slice(-1, None)
    times = [
      found.facts.get(p, {}).get(facts.ECHO) for p in found.magnitude[used]
    ]
  times = times if isinstance(times, list) else [times]
  some = [facts.number(time, facts.ECHO)[0] for time in times]
  known = [time for time in some if time is not None]
  return sum(known) / len(known) if known else None
