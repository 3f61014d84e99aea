"""Scanner files to magnitude and phase in radians, echoes in order of time.

Rule: what was found wrong with the input is repaired once, here, and said in
words; nothing later needs to know the vendor.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.imaging import filtered, phase_units, polarity, slices, volume
from cmbjax.imaging.phase import wrap
from cmbjax.imaging.swi_options import AS_IT_IS, FIX_GE, SwiOptions
from cmbjax.intake import facts, sidecars
from cmbjax.reconstruct import fitting, pairs

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
  is_filtered: bool = False  # the phase is high-passed already, for certain
  usual_sign: int | None = None  # of a phase of this scanner; None: unknown

  def options(self, given: SwiOptions | None = None) -> SwiOptions:
    """How to make the SWI: a phase is high-passed once, unless a person asked
    for another filter than the usual one."""
    given = given or SwiOptions()
    if not self.is_filtered or given.high_pass != SwiOptions.high_pass:
      return given
    return dataclasses.replace(given, high_pass=AS_IT_IS)


def read(
  magnitude: Sequence[str | os.PathLike],
  phase: Sequence[str | os.PathLike],
  *,
  fields: Mapping[pathlib.Path, Mapping[str, Any]] | None = None,
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
    fields: the JSON fields of each file, as `ScanFiles.facts`; None: of the
      JSON files beside them.
    echo_times_s: in the order of the files; None: from the JSON fields.
    field_t: field strength; None: from the JSON fields.
    cartesian: the files are real and imaginary parts.
    coils: the fourth axis is coils, not echoes: of one file with one echo, or
      of every file where each holds one echo; a list of files with 3 axes is
      a list of coils.
    rescale: whether phase may be brought to radians (`phase_units`).
    fix_ge: 'auto', 'on' or 'off': undo a phase that flips every slice.

  Raises:
    NoInputError: a file is missing.
    InputError: shapes or grids differ, or echo times do not fit.
  """
  paths = [pathlib.Path(p) for p in magnitude]
  partners = [pathlib.Path(p) for p in phase]
  notes: list[str] = []
  known = fields
  if known is None:
    known = {path: sidecars.read(path) for path in (*paths, *partners)}
  (firsts, mine), (seconds, its) = _pair(
    paths, partners, known, cartesian=cartesian, notes=notes
  )
  if not cartesian:
    seconds = _phases(seconds, its, notes, rescale=rescale)
  notes += [note for scan in (*firsts, *seconds) for note in scan.notes]
  first, second = _stack(firsts, coils), _stack(seconds, coils)
  if cartesian:
    first, second = np.hypot(first, second), np.arctan2(second, first)
  times = _echo_times(
    echo_times_s, mine, num_echoes=first.shape[3], path=firsts[0].path
  )
  first, second, times = _by_time(first, second, times, notes)
  given, second = second, _fix_ge(first, second, fix_ge, notes)
  notes += facts.remarks(mine)
  field_t = _field(field_t, mine[0], firsts[0].path)
  return _with_history(
    Signal(first, second, firsts[0], times, field_t, tuple(notes)),
    {scan.path.name: fields for scan, fields in zip(seconds, its)},
    maker={**mine[0], **its[0]},
    is_turned=second is not given,
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


def _pair(paths, partners, known, *, cartesian, notes):
  """(volumes, JSON fields) of magnitudes and of phases, the right way round."""
  if len(paths) != len(partners):
    raise InputError(
      f'found {len(paths)} magnitude and {len(partners)} phase files; give as '
      'many of each.'
    )
  mine, its = ([known.get(p, {}) for p in part] for part in (paths, partners))
  pairs.check_echoes(paths, partners, mine, its)
  firsts, seconds = (
    [_trimmed(volume.load(p, num_dims=5)) for p in part]
    for part in (paths, partners)
  )
  why = pairs.are_swapped(firsts, seconds, mine, its, cartesian=cartesian)
  if why:
    firsts, seconds, mine, its = seconds, firsts, its, mine
    notes.append(_swapped(firsts[0], seconds[0], why, cartesian))
  _check_grids(firsts, seconds)
  if not cartesian:
    for one, other in zip(firsts, seconds):
      fitting.check_is_phase(other.path, one.path, one.array, other.array)
  return (firsts, mine), (seconds, its)


def _phases(scans, its, notes, *, rescale):
  """The same in radians; what was done is noted."""
  if not rescale:
    return scans
  return [_in_radians(s, f, notes) for s, f in zip(scans, its)]


def _in_radians(scan, fields, notes):
  """The same phase in radians; what was done is noted."""
  if phase_units.is_turn(scan.array):  # the usual case: read once
    return scan
  raw = _trimmed(volume.load(scan.path, num_dims=5, scaled=False)).array
  try:
    array, note = phase_units.to_radians(
      scan.array, unscaled=raw, fields=fields
    )
  except InputError as error:
    raise InputError(f'{scan.path}: {error}') from error
  if note:
    notes.append(f'{scan.path.name}: {note}')
  return dataclasses.replace(scan, array=array)


def _with_history(found, phases, *, maker, is_turned):
  """The same with what a scanner or a program did to its phase.

  Args:
    found: a Signal.
    phases: the JSON fields of each phase file, by name.
    maker: the JSON fields that name the scanner.
    is_turned: its sign was inverted here.
  """
  one = (slice(None),) * 3 + (-1,) * (found.phase.ndim - 3)  # has most phase
  seen = slices.last(found.grid)
  pair = (
    volume.in_order(array[one], found.grid, seen)
    for array in (found.magnitude, found.phase)
  )
  is_filtered = filtered.is_high_passed(*pair, seen.spacing_mm)
  named = [name for name, fields in phases.items() if pairs.is_filtered(fields)]
  usual = polarity.usual_sign(str(maker.get('Manufacturer') or ''))
  # Simulated scans have one sign for all makers; a filter may change it.
  if is_filtered or named or maker.get('Simulated') is True:
    usual = None
  return dataclasses.replace(
    found,
    notes=(*found.notes, *_said_of_filter([*phases][-1], is_filtered, named)),
    is_filtered=is_filtered,
    usual_sign=-usual if usual and is_turned else usual,
  )


def _said_of_filter(name, is_filtered, named):
  """What the voxels and the JSON files of the phase say of a high-pass."""
  if is_filtered:
    how = 'its voxels and its JSON file' if named else 'its voxels'
    yield (
      f'{name}: is high-passed already, by {how}, and was not high-passed '
      'again; if you have the phase as acquired, give that'
    )
    return
  for each in named:
    yield (
      f'{each}: is high-passed already, by its JSON file, but its voxels do '
      'not bear that out, so it was high-passed, which weakens veins if it is '
      'true; give the phase as acquired'
    )


def _swapped(first, second, why, cartesian):
  names = ('real', 'imaginary') if cartesian else ('magnitude', 'phase')
  return (
    f'{names[0]} and {names[1]} were given the wrong way round ({why}); '
    f'{first.path.name} was taken as {names[0]}, {second.path.name} as '
    f'{names[1]}'
  )


def _trimmed(scan):
  """Without axes of length 1 at the end: one echo is one volume."""
  array = scan.array
  while array.ndim > 3 and array.shape[-1] == 1:
    array = array[..., 0]
  return dataclasses.replace(scan, array=array)


def _check_grids(firsts, seconds):
  for scan in (*firsts[1:], *seconds):
    if volume.same_grid(firsts[0], scan):
      continue
    ours, theirs = scan.array.shape[:3], firsts[0].array.shape[:3]
    if ours == theirs:
      off = np.abs(scan.affine - firsts[0].affine).max()
      raise InputError(
        f'{scan.path}: has another affine than {firsts[0].path} (by '
        f'{off:.3g}), so its voxels are at other places; give files of one '
        'scan, or correct the header that is wrong.'
      )
    raise InputError(
      f'{scan.path}: its grid {ours} is not that of {firsts[0].path} {theirs}; '
      'a slice may be missing or the files belong to different scans.'
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
      'is one echo of 3 axes, or of 4 (coils last) with cmbjax swi --coils.'
    )
  if not coils or (len(arrays) > 1 and num_axes == 4):
    return array
  if array.ndim == 5:
    raise InputError(
      f'{scans[0].path}: has 5 axes, so echoes and coils are known; leave '
      '--coils out.'
    )
  return array[:, :, :, None, :]


def _echo_times(given, fields, *, num_echoes, path):
  """Seconds, one for each echo, in the order of the files; None: unknown."""
  given_in_json = given is None
  if given_in_json:
    found = [f.get(facts.ECHO) for f in fields]
    if len(found) == 1 and isinstance(found[0], list):
      found = found[0]
    found = [_echo_time(t) for t in found]
    if len(found) != num_echoes or None in found:
      return None
    given, key = found, facts.ECHO
  else:
    key = 'echo times'
  times = tuple(float(t) for t in given)
  if len(times) != num_echoes:
    raise InputError(
      f'{key}: found {len(times)} for {num_echoes} echoes in {path}; give one '
      'for each echo.'
    )
  latest = facts.LATEST_ECHO_S
  if not all(0 < t < latest for t in times) or len(set(times)) < len(times):
    in_ms = given_in_json and max(times) >= latest
    raise InputError(
      f'{key}: found {", ".join(f"{t:g}" for t in times)} s for {path}; '
      f'expected different numbers between 0 and {latest:g} s'
      + ('; write seconds, 28 ms are 0.028.' if in_ms else '.')
    )
  return times


def _by_time(first, second, times, notes):
  """Both and the times with echoes in the order of time."""
  if times is None or list(times) == sorted(times):
    return first, second, times
  order = np.argsort(times, kind='stable')
  notes.append('echoes were put in the order of their echo times')
  return first.take(order, 3), second.take(order, 3), tuple(sorted(times))


def _field(given, fields, path):
  """Tesla, as given or from the sidecar; None: unknown."""
  field_t = given
  if field_t is None:
    said = fields.get(facts.FIELD)
    is_other = files.is_number(said) and said > facts.HIGHEST_FIELD_T
    field_t = said if is_other else facts.known(fields, facts.FIELD)
  if field_t is not None and not 0 < field_t <= facts.HIGHEST_FIELD_T:
    raise InputError(
      f'field strength: found {field_t:g} for {path}; give tesla, above 0 '
      f'and up to {facts.HIGHEST_FIELD_T:g}.'
    )
  return field_t


def _fix_ge(magnitude, phase, fix_ge, notes):
  """The phase as it was acquired; what is wrong with it is noted."""
  if fix_ge not in FIX_GE:
    raise InputError(
      f'fix_ge: found {fix_ge!r}; give one of {", ".join(FIX_GE)}.'
    )
  first = (slice(None),) * 3 + (0,) * (magnitude.ndim - 3)
  notes += filter(None, [fitting.turned(magnitude[first], phase[first])])
  if fix_ge == 'off' or (
    fix_ge == 'auto' and not alternates(magnitude[first], phase[first])
  ):
    return phase
  notes.append('the phase flipped every second slice (GE), which was undone')
  return straighten(phase)


def _echo_time(value: Any) -> float | None:
  """Seconds; a number of another unit stays as it is, and is refused."""
  if files.is_number(value) and value > 0:
    return float(value)
  return facts.number(value, facts.ECHO)[0]
