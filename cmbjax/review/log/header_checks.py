"""The first line of a journal on disk, checked field by field.

Rule: a journal that was edited by hand, or damaged, is refused by name of the
field; nothing of it is taken half. The other lines: `events.check_line`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import checks
from cmbjax.review.log.geometry import View, decode_runs
from cmbjax.review.log.items import BLINDS, MODES, ORDERS, REGIONS

_MOST_AXIS = 4096  # voxels
_WHOLE = checks.whole(0, 2**53 - 1)  # what every reader of JSON can hold
_TEXTS = ('rater', 'case', 'source', 'image_sha256', 'cmbjax', 'time')
_TEXTS_OR_NONE = ('labels_sha256', 'model')


def check(header: Mapping[str, Any]) -> None:
  """The first line.

  Raises:
    InputError: a field is missing or of another kind.
  """
  for name in _TEXTS:
    checks.text(name, header.get(name, '' if name == 'time' else None))
  for name in _TEXTS_OR_NONE:
    if header.get(name) is not None:
      checks.text(name, header[name])
  if not isinstance(header.get('simulated'), bool):
    raise InputError('simulated: is neither true nor false.')
  checks.one_of('mode', header.get('mode'), MODES)
  checks.one_of('order', header.get('order'), ORDERS)
  for name in _rows('blind', header.get('blind')):
    checks.one_of('blind', name, BLINDS)
  least = header.get('least')
  if least is not None and least != 'definite':
    _finite('least', least)
  _WHOLE('seed', header.get('seed'))
  _WHOLE('prepared', header.get('prepared', 0))
  merged = header.get('merged') or {}
  if not isinstance(merged, dict):
    raise InputError('merged: is no JSON object.')
  for name in _rows('raters', merged.get('raters', [])):
    checks.text('raters', name)
  view = _view(header.get('grid'))
  for row in _rows('items', header.get('items')):
    _check_candidate(row, view)
    _WHOLE('item', row.get('item'))
    if row.get('repeat_of') is not None:
      _WHOLE('repeat_of', row['repeat_of'])
  for row in _rows('below', header.get('below', [])):
    _check_candidate(row, view)


def _check_candidate(row: Any, view: View) -> None:
  if not isinstance(row, dict):
    raise InputError('items: holds something that is no JSON object.')
  checks.text('id', row.get('id'))
  _WHOLE('index', row.get('index'))
  checks.voxel('ijk', row.get('ijk'), view)
  checks.one_of('region', row.get('region'), REGIONS)
  checks.one_of(
    'status', row.get('status'), ('definite', 'possible'), none=True
  )
  if row.get('score') is not None:
    _finite('score', row['score'])
  decode_runs(_rows('voxels', row.get('voxels')), view.size)


def _view(grid: Any) -> View:
  """The grid, of a size that an image has and with an inverse."""
  if not isinstance(grid, dict):
    raise InputError('grid: is no JSON object.')
  view = View.from_json(grid)
  shapes = {'shape': view.shape, 'native_shape': view.native_shape}
  for name, shape in shapes.items():
    if len(shape) != 3 or not all(0 < n <= _MOST_AXIS for n in shape):
      raise InputError(
        f'grid: {name} is {checks.short(shape)}, expected three numbers of 1 '
        f'to {_MOST_AXIS}.'
      )
  if math.prod(view.shape) != math.prod(view.native_shape):
    raise InputError('grid: shape and native_shape differ in size.')
  forms = [form['affine'] for form in view.forms.values()]
  for affine in (view.affine, view.native_affine, *forms):
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
      raise InputError('grid: an affine is not 4 x 4 finite numbers.')
  for affine in (view.affine, view.native_affine):
    if abs(np.linalg.det(affine)) < 1e-9:
      raise InputError('grid: an affine has no inverse.')
  return view


def _rows(name: str, value: Any) -> Sequence:
  if not isinstance(value, list):
    raise InputError(f'{name}: {checks.short(value)} is no list.')
  return value


def _finite(name: str, value: Any) -> None:
  if type(value) not in (int, float) or not abs(value) < 2**53:
    raise InputError(f'{name}: {checks.short(value)} is no number.')
