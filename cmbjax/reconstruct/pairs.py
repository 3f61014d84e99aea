"""Which of two images is the magnitude and which the phase.

Rule: two images that were given the wrong way round are put right only where
their JSON files or their voxels leave no doubt; else they are refused.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.imaging import slices, volume
from cmbjax.intake import roles

_SAME_ECHO_S = 2e-5  # JSON files round
_MOST_NEGATIVE = 0.01  # part of a magnitude that interpolation may push below 0
_FAR = 0.8  # of the range between neighbours: a wrap, or noise of a phase
# Simulated unmasked phase has 0.027 of such neighbours and more, magnitude
# 0.0003 and less. Sharp edges alone are no wraps: a phase fills its range too.
_WRAPPED = 0.003
_BINS = 20
_FLAT = 0.15  # of the mean bin: the noise of a phase is everywhere
_SLICES = 16

Facts = Sequence[Mapping[str, Any]]


def check_echoes(paths, partners, fields: Facts, others: Facts) -> None:
  """Magnitude and phase of one echo are at the same place in both lists.

  Raises:
    InputError: two echo times differ, or one file was given as both.
  """
  for path, partner, mine, its in zip(paths, partners, fields, others):
    if os.path.realpath(path) == os.path.realpath(partner):
      raise InputError(
        f'{path}: was given as magnitude and as phase; give two files.'
      )
    one, other = mine.get('EchoTime'), its.get('EchoTime')
    known = all(files.is_number(t) and t > 0 for t in (one, other))
    if known and abs(one - other) > _SAME_ECHO_S:
      raise InputError(
        f'{partner}: has an echo time of {1000 * other:g} ms, its magnitude '
        f'{path} one of {1000 * one:g} ms; give both lists in one order.'
      )


def are_swapped(
  firsts: Sequence[volume.Volume],
  seconds: Sequence[volume.Volume],
  fields: Facts,
  others: Facts,
  *,
  cartesian: bool = False,
) -> str:
  """Why the two are the wrong way round; '' where they are not.

  Args:
    firsts: magnitudes, or real parts.
    seconds: phases, or imaginary parts, as they are in their files.
    fields: the JSON fields of each first.
    others: the JSON fields of each second.
    cartesian: they are real and imaginary parts.

  Raises:
    InputError: they are something else, or what they are is in doubt.
  """
  wanted = (roles.REAL, roles.IMAGINARY) if cartesian else (
    roles.MAGNITUDE, roles.PHASE
  )  # fmt: skip
  said = {_said(*pair) for pair in zip(fields, others)}
  (first, second) = said.pop() if len(said) == 1 else ('', '')
  if (first, second) == wanted[::-1]:
    return 'by the ImageType in their JSON files'
  _check_kind(firsts[0], first, wanted)
  if cartesian:
    return ''
  # By number, as each may be read from its file: one is in memory.
  is_signed = any(_is_signed(firsts[n]) for n in range(len(firsts)))
  if _looks_wrapped(firsts[0]) and _looks_plain(seconds):
    if first == roles.MAGNITUDE or second == roles.PHASE:
      raise InputError(
        f'{firsts[0].path}: looks like a phase image and '
        f'{seconds[0].path} like its magnitude, but the ImageType of their '
        'JSON files says otherwise; give both the right way round, or correct '
        'the JSON files.'
      )
    return 'by their voxels'
  if is_signed:
    worst = next(scan for scan in firsts if _is_signed(scan))
    raise InputError(
      f'{worst.path}: has values below 0, which a magnitude has not; are '
      'magnitude and phase the right way round?'
    )
  if first == roles.PHASE or second == roles.MAGNITUDE:
    which, role = (firsts, first) if first == roles.PHASE else (seconds, second)
    raise InputError(
      f'{which[0].path}: is a {role} image by the ImageType in its JSON file; '
      'are magnitude and phase the right way round? If so, correct the JSON '
      'file.'
    )
  return ''


def is_filtered(fields: Mapping[str, Any]) -> bool:
  """Whether the JSON file of a phase says that it is high-passed."""
  return _role(fields) == roles.FILTERED


def _said(mine, its) -> tuple[str, str]:
  """What the JSON files of a pair say; nothing where they say the same: that
  is one JSON file for both, or the list of an enhanced DICOM."""
  found = _role(mine), _role(its)
  return ('', '') if found[0] == found[1] else found


def _role(fields) -> str:
  types = fields.get('ImageType')
  types = types if isinstance(types, list) else [types]
  text = fields.get('SeriesDescription')
  return roles.of_header(
    [t for t in types if isinstance(t, str)],
    text if isinstance(text, str) and len(types) > 1 else '',
  )


def _check_kind(scan, said, wanted) -> None:
  parts = (roles.REAL, roles.IMAGINARY)
  if said in roles.SIGNAL and (said in parts) != (wanted[0] in parts):
    raise InputError(
      f'{scan.path}: is a {said} image by the ImageType in its JSON file, and '
      f'was given as {wanted[0]}; give {wanted[0]} and {wanted[1]}, or correct '
      'the JSON file.'
    )


def _is_signed(scan) -> bool:
  return bool((scan.array < 0).mean() > _MOST_NEGATIVE)


def _looks_wrapped(scan) -> bool:
  """Whether an image has the wraps and the noise of a phase, for certain."""
  array, low, high = _middle(scan)
  if low == high:
    return False
  counts, _ = np.histogram(array, _BINS, (low, high))
  is_flat = counts.min() > _FLAT * counts.mean()
  limit = _FAR * (high - low)
  far = [(np.abs(np.diff(array, axis=a)) > limit).mean() for a in (0, 1)]
  return bool(is_flat and np.mean(far) > _WRAPPED)


def _looks_plain(scans) -> bool:
  """Whether images may be magnitudes: not negative, nor flat, nor constant."""
  if any(_is_signed(scans[n]) for n in range(len(scans))):
    return False
  _, low, high = _middle(scans[0])
  return low < high and not _looks_wrapped(scans[0])


def _middle(scan) -> tuple[np.ndarray, float, float]:
  """Slices of the last volume, and the range of nearly all of their voxels."""
  array = slices.last(scan).array
  while array.ndim > 3:
    array = array[..., -1]
  start = max(array.shape[2] // 2 - _SLICES // 2, 0)
  array = array[:, :, start : start + _SLICES].astype(np.float32)
  low, high = map(float, np.percentile(array, (0.1, 99.9)))
  return array, low, high
