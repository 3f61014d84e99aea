"""Scanner files to magnitude and phase in radians, echoes in order of time.

Rule: what was found wrong with the input is repaired once, here, and said in
words; nothing later needs to know the vendor.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.imaging.phase import wrap
from cmbjax.imaging.swi_options import FIX_GE
from cmbjax.intake import sidecars

_TURN = 2 * np.pi
_NEAR_RAD = 0.1
_WIDEST_RAD = 300.0  # no unwrapped phase reaches this
_FULL_RANGES = (  # what scanners write for -pi..pi
  (0, 4095),  # 12 bits
  (-4096, 4094),  # Siemens, with its slope of 2
  (-2048, 2047),
  (-3142, 3142),  # Philips, milliradians
  (0, 65535),
  (-180, 180),  # degrees
)
_FULL_RANGE_PART = 0.02
_LATEST_ECHO_S = 0.5
_SAME_ECHO_S = 2e-5  # sidecars round
_HIGHEST_FIELD_T = 25.0
_MOST_NEGATIVE = 0.01  # part of a magnitude that interpolation may push below 0
_ALTERNATES = -0.8  # mean cosine between neighbouring slices


@dataclasses.dataclass(frozen=True)
class Signal:
  """A gradient-echo scan; arrays are [X, Y, Z, E] or [X, Y, Z, E, C]."""

  magnitude: np.ndarray  # float32
  phase: np.ndarray  # float32 rad
  grid: volume.Volume  # where it is; results are written like this
  echo_times_s: tuple[float, ...] | None  # ascending
  field_t: float | None
  notes: tuple[str, ...]  # what was repaired or assumed


def read(
  magnitude: Sequence[str | os.PathLike],
  phase: Sequence[str | os.PathLike],
  *,
  echo_times_s: Sequence[float] | None = None,
  field_t: float | None = None,
  cartesian: bool = False,
  coils: bool = False,
  rescale: bool = True,
  fix_ge: str = 'auto',
) -> Signal:
  """Reads one file of echoes [X, Y, Z, E, C] or one file per echo.

  Args:
    magnitude: files of magnitude, or of the real part.
    phase: files of phase, or of the imaginary part; as many.
    echo_times_s: in the order of the files; None: from the JSON sidecars.
    field_t: field strength; None: from the sidecar.
    cartesian: the files are real and imaginary parts.
    coils: the fourth axis is coils, not echoes: of one file with one echo, or
      of every file where each holds one echo; a list of files with 3 axes is
      a list of coils.
    rescale: whether phase may be brought to radians (`to_radians`).
    fix_ge: 'auto', 'on' or 'off': undo a phase that flips every slice.

  Raises:
    NoInputError: a file is missing.
    InputError: shapes or grids differ, or echo times do not fit.
  """
  paths = [pathlib.Path(p) for p in magnitude]
  partners = [pathlib.Path(p) for p in phase]
  if len(paths) != len(partners):
    raise InputError(
      f'found {len(paths)} magnitude and {len(partners)} phase files; give as '
      'many of each.'
    )
  notes: list[str] = []
  fields = [sidecars.read(p) for p in paths]
  _check_pairs(paths, fields, partners)
  firsts = [_trimmed(volume.load(p, num_dims=5)) for p in paths]
  if not cartesian:
    _check_magnitudes(firsts, partners)
  seconds = [
    _trimmed(_load_phase(p, rescale and not cartesian, notes)) for p in partners
  ]
  _check_grids(firsts, seconds)
  notes += [note for scan in (*firsts, *seconds) for note in scan.notes]
  first, second = _stack(firsts, coils), _stack(seconds, coils)
  if cartesian:
    first, second = np.hypot(first, second), np.arctan2(second, first)
  times = _echo_times(echo_times_s, fields, first.shape[3], paths[0])
  if times is not None and list(times) != sorted(times):
    order = np.argsort(times, kind='stable')
    first, second = first.take(order, 3), second.take(order, 3)
    times = tuple(sorted(times))
    notes.append('echoes were put in the order of their echo times')
  second = _fix_ge(first, second, fix_ge, notes)
  field_t = _field(field_t, fields[0], paths[0])
  return Signal(first, second, firsts[0], times, field_t, tuple(notes))


def to_radians(
  scaled: np.ndarray,
  *,
  unscaled: np.ndarray | None = None,
  units: str | None = None,
) -> tuple[np.ndarray, str]:
  """Phase as a file holds it to radians, and what was done, in words.

  Args:
    scaled: phase after the header's scale factor, any shape.
    unscaled: before it; None: the same.
    units: the sidecar's Units, if any.

  Returns:
    (float32 phase, note); the note is '' when nothing had to be done.

  Raises:
    InputError: the phase is constant.

  Source of the order of rules: MriResearchTools.jl (Eckstein et al.).
  """
  span = _range(scaled)
  if span[0] == span[1]:
    raise InputError(
      f'phase: every voxel is {span[0]:g}; give the phase image of this scan.'
    )
  if _is_turn(span):
    return np.asarray(scaled, np.float32), ''
  if unscaled is not None and _is_turn(_range(unscaled)):
    return np.asarray(unscaled, np.float32), (
      'the scale factor in the phase header is wrong and was ignored'
    )
  wide = span[1] - span[0]
  if str(units or '').lower() in ('rad', 'radians') and wide < _WIDEST_RAD:
    return np.asarray(scaled, np.float32), ''
  for image in (scaled, unscaled):
    full = None if image is None else _full_range(_range(image))
    if full is not None:
      return _linear(image, *full), (
        f'phase {full[0]}..{full[1]} was rescaled to -pi..pi'
      )
  return _linear(scaled, *span), (
    f'phase has an unknown unit; its range {span[0]:g}..{span[1]:g} was taken '
    'for -pi..pi (--no-phase-rescale if it is in radians)'
  )


def alternates(magnitude: np.ndarray, phase: np.ndarray) -> bool:
  """Whether neighbouring slices [X, Y, Z] differ by pi, as on some GE scans."""
  if magnitude.shape[2] < 3:
    return False
  signal = magnitude[::2, ::2] * np.exp(1j * phase[::2, ::2])
  pairs = np.einsum('xyz,xyz->z', signal[..., 1:], np.conj(signal[..., :-1]))
  total = np.abs(pairs).sum()
  return bool(total > 0 and pairs.real.sum() / total < _ALTERNATES)


def straighten(phase: np.ndarray) -> np.ndarray:
  """Turns every second slice by pi and inverts the sign (GE; `fix_ge_phase`
  of MriResearchTools.jl)."""
  turned = np.array(phase, np.float32)
  turned[:, :, 1::2] += np.float32(np.pi)
  return -wrap(turned)


def _load_phase(path, rescale, notes):
  scan = volume.load(path, num_dims=5)
  if not rescale:
    return scan
  if _is_turn(_range(scan.array)):  # the usual case, without a second reading
    return scan
  raw = volume.load(path, num_dims=5, scaled=False).array
  array, note = to_radians(
    scan.array, unscaled=raw, units=sidecars.read(path).get('Units')
  )
  if note:
    notes.append(f'{path.name}: {note}')
  return dataclasses.replace(scan, array=array)


def _trimmed(scan):
  """Without axes of length 1 at the end: one echo is one volume."""
  array = scan.array
  while array.ndim > 3 and array.shape[-1] == 1:
    array = array[..., 0]
  return dataclasses.replace(scan, array=array)


def _check_magnitudes(scans, partners):
  """A phase image given as magnitude is the commonest slip."""
  for scan, partner in zip(scans, partners):
    if os.path.realpath(scan.path) == os.path.realpath(partner):
      raise InputError(
        f'{scan.path}: was given as magnitude and as phase; give two files.'
      )
    if (scan.array < 0).mean() > _MOST_NEGATIVE:
      raise InputError(
        f'{scan.path}: has values below 0, which a magnitude has not; are '
        '--mag and --phase the right way round?'
      )


def _check_pairs(paths, fields, partners):
  """Magnitude and phase of one echo stand at the same place in both lists."""
  for path, mine, partner in zip(paths, fields, partners):
    its = sidecars.read(partner)
    one, other = (_number(f.get('EchoTime')) for f in (mine, its))
    if one and other and abs(one - other) > _SAME_ECHO_S:
      raise InputError(
        f'{partner}: has an echo time of {1000 * other:g} ms, its magnitude '
        f'{path} one of {1000 * one:g} ms; give both lists in one order.'
      )


def _check_grids(firsts, seconds):
  for scan in (*firsts[1:], *seconds):
    if not volume.same_grid(firsts[0], scan):
      raise InputError(
        f'{scan.path}: its grid {scan.array.shape[:3]} is not that of '
        f'{firsts[0].path} {firsts[0].array.shape[:3]}; a slice may be missing '
        'or the files belong to different scans.'
      )
  for first, second in zip(firsts, seconds):
    if first.array.shape != second.array.shape:
      raise InputError(
        f'{second.path}: has shape {second.array.shape}, its magnitude '
        f'{first.array.shape}; give echoes (and coils) of the same scan.'
      )


def _stack(scans, coils):
  """Files to one float32 array [X, Y, Z, E] or [X, Y, Z, E, C]."""
  arrays = [np.asarray(s.array, np.float32) for s in scans]
  shapes = {a.shape for a in arrays}
  if len(shapes) > 1:
    raise InputError(
      f'{scans[0].path} and others: have shapes '
      f'{", ".join(map(str, sorted(shapes)))}; give one shape for all echoes.'
    )
  num_axes = arrays[0].ndim
  if len(arrays) == 1:
    array = arrays[0][..., None] if num_axes == 3 else arrays[0]
  elif num_axes == 3 or (num_axes == 4 and coils):
    array = np.stack(arrays, axis=3)
  else:
    raise InputError(
      f'{scans[0].path}: has shape {arrays[0].shape}; with several files each '
      'is one echo of 3 axes, or of 4 with --coils (coils last).'
    )
  if not coils or (len(arrays) > 1 and num_axes == 4):
    return array
  if array.ndim == 5:
    raise InputError(
      f'{scans[0].path}: has 5 axes, so echoes and coils are known; leave the '
      'coils option out.'
    )
  return array[:, :, :, None, :]


def _echo_times(given, fields, num_echoes, path):
  """Seconds, one for each echo, in the order of the files; None: unknown."""
  if given is None:
    found = [f.get('EchoTime') for f in fields]
    if len(found) == 1 and isinstance(found[0], list):
      found = found[0]
    if len(found) != num_echoes or any(_number(t) is None for t in found):
      return None
    given, key = found, 'EchoTime'
  else:
    key = 'echo times'
  times = tuple(float(t) for t in given)
  if len(times) != num_echoes:
    raise InputError(
      f'{key}: found {len(times)} for {num_echoes} echoes in {path}; give one '
      'for each echo.'
    )
  if not all(0 < t < _LATEST_ECHO_S for t in times) or len(set(times)) < len(
    times
  ):
    raise InputError(
      f'{key}: found {", ".join(f"{t:g}" for t in times)} s for {path}; '
      f'expected different numbers between 0 and {_LATEST_ECHO_S:g} s.'
    )
  return times


def _field(given, fields, path):
  """Tesla, as given or from the sidecar; None: unknown."""
  field_t = given
  if field_t is None:
    field_t = _number(fields.get('MagneticFieldStrength'))
  if field_t is not None and not 0 < field_t <= _HIGHEST_FIELD_T:
    raise InputError(
      f'field strength: found {field_t:g} for {path}; give tesla, above 0 '
      f'and up to {_HIGHEST_FIELD_T:g}.'
    )
  return field_t


def _fix_ge(magnitude, phase, fix_ge, notes):
  if fix_ge not in FIX_GE:
    raise InputError(
      f'fix_ge: found {fix_ge!r}; give one of {", ".join(FIX_GE)}.'
    )
  first = (slice(None),) * 3 + (0,) * (magnitude.ndim - 3)
  if fix_ge == 'off' or (
    fix_ge == 'auto' and not alternates(magnitude[first], phase[first])
  ):
    return phase
  notes.append('the phase flipped every second slice (GE), which was undone')
  return straighten(phase)


def _range(image) -> tuple[float, float]:
  return float(image.min()), float(image.max())


def _is_turn(span):
  return abs(span[1] - span[0] - _TURN) <= _NEAR_RAD


def _full_range(span):
  for low, high in _FULL_RANGES:
    near = _FULL_RANGE_PART * (high - low)
    if abs(span[0] - low) <= near and abs(span[1] - high) <= near:
      return low, high
  return None


def _linear(image, low, high):
  scale = _TURN / (high - low)
  return ((np.asarray(image, np.float64) - low) * scale - np.pi).astype(
    np.float32
  )


def _number(value: Any) -> float | None:
  return float(value) if files.is_number(value) and value > 0 else None
