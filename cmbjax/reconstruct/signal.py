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
from cmbjax.imaging.swi_options import AS_IT_IS, FIX_GE, SwiOptions
from cmbjax.intake import facts, sidecars
from cmbjax.reconstruct import echo_files, fitting, pairs

_ALTERNATES = -0.8  # mean cosine between neighbouring slices


@dataclasses.dataclass(frozen=True)
class Signal:
  """A gradient-echo scan; arrays are [X, Y, Z, E] or [X, Y, Z, E, C]."""

  echoes: echo_files.EchoesOfFiles  # one is read when it is asked for
  grid: volume.Volume  # where it is, without voxels; results are like this
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

  @property
  def magnitude(self) -> np.ndarray:
    """Of all echoes, float32."""
    return self._all(self.echoes.magnitude)

  @property
  def phase(self) -> np.ndarray:
    """Of all echoes, float32 rad."""
    return self._all(self.echoes.phase)

  def _all(self, read):
    count = self.echoes.shape[3]
    array = np.stack([np.asarray(read(n), np.float32) for n in range(count)], 3)
    return array if self.echoes.has_coils else array[..., 0]


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
  firsts, seconds = _pair(paths, partners, known, cartesian, notes)
  if rescale and not cartesian:
    notes += _to_radians(seconds)
  grid = firsts.grids[0]
  for one in (*firsts.grids, *seconds.grids):
    notes += one.notes
  echoes = echo_files.EchoesOfFiles(
    firsts, seconds, coils=coils, cartesian=cartesian
  )
  times = _echo_times(
    echo_times_s, firsts.fields, num_echoes=echoes.shape[3], path=grid.path
  )
  times = _by_time(echoes, times, notes)
  is_turned = _fix_ge(echoes, fix_ge, notes)
  notes += facts.remarks(firsts.fields)
  field_t = _field(field_t, firsts.fields[0], grid.path)
  return _with_history(
    Signal(echoes, grid, times, field_t, tuple(notes)),
    {p.name: fields for p, fields in zip(seconds.paths, seconds.fields)},
    maker={**firsts.fields[0], **seconds.fields[0]},
    is_turned=is_turned,
  )


def alternates(magnitude: np.ndarray, phase: np.ndarray) -> bool:
  """Whether neighbouring slices [X, Y, Z] differ by pi, as on some GE scans."""
  if magnitude.shape[2] < 3:
    return False
  signal = magnitude[::2, ::2] * np.exp(1j * phase[::2, ::2])
  pairs = np.einsum('xyz,xyz->z', signal[..., 1:], np.conj(signal[..., :-1]))
  total = np.abs(pairs).sum()
  return bool(total > 0 and pairs.real.sum() / total < _ALTERNATES)


def _pair(paths, partners, known, cartesian, notes):
  """Magnitudes and phases, the right way round."""
  if len(paths) != len(partners):
    raise InputError(
      f'found {len(paths)} magnitude and {len(partners)} phase files; give as '
      'many of each.'
    )
  mine, its = ([known.get(p, {}) for p in part] for part in (paths, partners))
  pairs.check_echoes(paths, partners, mine, its)
  firsts = echo_files.Files(paths, mine)
  seconds = echo_files.Files(partners, its)
  why = pairs.are_swapped(firsts, seconds, mine, its, cartesian=cartesian)
  if why:
    firsts, seconds = seconds, firsts
    notes.append(_swapped(firsts.grids[0], seconds.grids[0], why, cartesian))
  _check_grids(firsts.grids, seconds.grids)
  if not cartesian:
    for n, (path, partner) in enumerate(zip(firsts.paths, seconds.paths)):
      fitting.check_is_phase(partner, path, firsts[n].array, seconds[n].array)
  return firsts, seconds


def _to_radians(scans):
  """Phases are in radians from now on; what is done, sentence by sentence."""
  said: dict[pathlib.Path, str] = {}  # a file may be read more than once
  scans.change(lambda scan, fields: _in_radians(scan, fields, said))
  for number in range(len(scans)):
    scans[number]  # read, so that it is said
  return list(said.values())


def _in_radians(scan, fields, said):
  """The same phase in radians; what was done is said."""
  if phase_units.is_turn(scan.array):  # the usual case: read once
    return scan
  raw = None
  if scan.array.dtype.kind == 'f':  # whole numbers are not scaled
    raw = echo_files.load(scan.path, scaled=False).array
  try:
    array, note = phase_units.to_radians(
      scan.array, unscaled=raw, fields=fields
    )
  except InputError as error:
    raise InputError(f'{scan.path}: {error}') from error
  if note:
    said[scan.path] = f'{scan.path.name}: {note}'
  return dataclasses.replace(scan, array=array)


def _with_history(found, phases, *, maker, is_turned):
  """The same with what a scanner or a program did to its phase.

  Args:
    found: a Signal.
    phases: the JSON fields of each phase file, by name.
    maker: the JSON fields that name the scanner.
    is_turned: its sign was inverted here.
  """
  last = found.echoes.shape[3] - 1  # has most phase
  seen = slices.last(found.grid)
  pair = (
    volume.in_order(array[..., -1], found.grid, seen)
    for array in (found.echoes.magnitude(last), found.echoes.phase(last))
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


def _by_time(echoes, times, notes):
  """The times in their order, and the echoes too."""
  if times is None or list(times) == sorted(times):
    return times
  echoes.put(np.argsort(times, kind='stable'))
  notes.append('echoes were put in the order of their echo times')
  return tuple(sorted(times))


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


def _fix_ge(echoes, fix_ge, notes):
  """Whether slices were turned back; what is wrong with a phase is noted."""
  if fix_ge not in FIX_GE:
    raise InputError(
      f'fix_ge: found {fix_ge!r}; give one of {", ".join(FIX_GE)}.'
    )
  first = echoes.magnitude(0)[..., 0], echoes.phase(0)[..., 0]
  notes += filter(None, [fitting.turned(*first)])
  if fix_ge == 'off' or (fix_ge == 'auto' and not alternates(*first)):
    return False
  notes.append('the phase flipped every second slice (GE), which was undone')
  echoes.straightened()
  return True


def _echo_time(value: Any) -> float | None:
  """Seconds; a number of another unit stays as it is, and is refused."""
  if files.is_number(value) and value > 0:
    return float(value)
  return facts.number(value, facts.ECHO)[0]
