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
from cmbjax.imaging import phase_units, volume
from cmbjax.imaging.swi_options import FIX_GE
from cmbjax.intake import sidecars
from cmbjax.reconstruct import echo_files, pairs

_LATEST_ECHO_S = 0.5
_HIGHEST_FIELD_T = 25.0
_ALTERNATES = -0.8  # mean cosine between neighbouring slices


@dataclasses.dataclass(frozen=True)
class Signal:
  """A gradient-echo scan; arrays are [X, Y, Z, E] or [X, Y, Z, E, C]."""

  echoes: echo_files.EchoesOfFiles  # one is read when it is asked for
  grid: volume.Volume  # where it is, without voxels; results are like this
  echo_times_s: tuple[float, ...] | None  # ascending
  field_t: float | None
  notes: tuple[str, ...]  # what was repaired or assumed

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
  if len(paths) != len(partners):
    raise InputError(
      f'found {len(paths)} magnitude and {len(partners)} phase files; give as '
      'many of each.'
    )
  notes: list[str] = []
  known = fields
  if known is None:
    known = {path: sidecars.read(path) for path in (*paths, *partners)}
  firsts, seconds = _pair(paths, partners, known, cartesian, notes)
  if not cartesian:
    _to_radians(seconds, notes, rescale=rescale)
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
  _fix_ge(echoes, fix_ge, notes)
  field_t = _field(field_t, firsts.fields[0], grid.path)
  return Signal(echoes, grid, times, field_t, tuple(notes))


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
  mine, its = ([known.get(p, {}) for p in part] for part in (paths, partners))
  pairs.check_echoes(paths, partners, mine, its)
  firsts = echo_files.Files(paths, mine)
  seconds = echo_files.Files(partners, its)
  why = pairs.are_swapped(firsts, seconds, mine, its, cartesian=cartesian)
  if why:
    firsts, seconds = seconds, firsts
    notes.append(_swapped(firsts.grids[0], seconds.grids[0], why, cartesian))
  _check_grids(firsts.grids, seconds.grids)
  return firsts, seconds


def _to_radians(scans, notes, *, rescale):
  """Phases are in radians from now on; what is done, and what they are, is
  noted."""
  notes += [
    f'{path.name}: is high-passed already, by its JSON file, and was '
    'high-passed once more, which weakens veins; give the phase as acquired'
    for path, fields in zip(scans.paths, scans.fields)
    if pairs.is_filtered(fields)
  ]
  if not rescale:
    return
  said: dict[pathlib.Path, str] = {}  # a file may be read more than once
  scans.change(lambda scan, fields: _in_radians(scan, fields, said))
  for number in range(len(scans)):
    scans[number]  # read, so that it is said
  notes += said.values()


def _in_radians(scan, fields, said):
  """The same phase in radians; what was done is said."""
  if phase_units.is_turn(scan.array):  # the usual case: read once
    return scan
  raw = None
  if not np.issubdtype(scan.array.dtype, np.integer):  # these are not scaled
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


def _swapped(first, second, why, cartesian):
  names = ('real', 'imaginary') if cartesian else ('magnitude', 'phase')
  return (
    f'{names[0]} and {names[1]} were given the wrong way round ({why}); '
    f'{first.path.name} was taken as {names[0]}, {second.path.name} as '
    f'{names[1]}'
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


def _echo_times(given, fields, *, num_echoes, path):
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
    field_t = _number(fields.get('MagneticFieldStrength'))
  if field_t is not None and not 0 < field_t <= _HIGHEST_FIELD_T:
    raise InputError(
      f'field strength: found {field_t:g} for {path}; give tesla, above 0 '
      f'and up to {_HIGHEST_FIELD_T:g}.'
    )
  return field_t


def _fix_ge(echoes, fix_ge, notes):
  if fix_ge not in FIX_GE:
    raise InputError(
      f'fix_ge: found {fix_ge!r}; give one of {", ".join(FIX_GE)}.'
    )
  if fix_ge == 'off':
    return
  if fix_ge == 'on' or alternates(
    echoes.magnitude(0)[..., 0], echoes.phase(0)[..., 0]
  ):
    notes.append('the phase flipped every second slice (GE), which was undone')
    echoes.straightened()


def _number(value: Any) -> float | None:
  return float(value) if files.is_number(value) and value > 0 else None
