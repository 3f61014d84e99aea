"""What a journal on disk says, checked like what a page sends.

Rule: a journal that was edited by hand, or damaged, is refused by name of the
field; nothing of it is taken half.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review.log import checks
from cmbjax.review.log.geometry import View, decode_runs
from cmbjax.review.log.items import (
  AFTER,
  BLINDS,
  MODEL,
  MODES,
  ORDERS,
  READER,
  STATUSES,
  VERDICTS,
)

if TYPE_CHECKING:
  from cmbjax.review.log.record import ReviewRecord

_MOST_AXIS = 4096  # voxels
_TEXTS = ('rater', 'case', 'source', 'image_sha256', 'cmbjax', 'time')
_TEXTS_OR_NONE = ('labels_sha256', 'model')


def check_header(header: Mapping[str, Any]) -> None:
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
  _whole('seed', header.get('seed'))
  _whole('prepared', header.get('prepared', 0))
  merged = header.get('merged') or {}
  if not isinstance(merged, dict):
    raise InputError('merged: is no JSON object.')
  for name in _rows('raters', merged.get('raters', [])):
    checks.text('raters', name)
  view = _view(header.get('grid'))
  for row in _rows('items', header.get('items')):
    _check_candidate(row, view)
    _whole('item', row.get('item'))
    if row.get('repeat_of') is not None:
      _whole('repeat_of', row['repeat_of'])
  for row in _rows('below', header.get('below', [])):
    _check_candidate(row, view)


def check_state(record: 'ReviewRecord') -> None:
  """What all lines together came to.

  Raises:
    InputError: an item has a value that no reader could give.
  """
  checks.one_of('status', record.status, STATUSES)
  checks.text('note', record.note)
  _whole('ms', record.ms)
  for number, item in record.items.items():
    try:
      checks.one_of('verdict', item.verdict, VERDICTS, none=True)
      checks.one_of('origin', item.origin, (MODEL, READER, AFTER))
      for name, check in checks.FIELDS.items():
        check(name, getattr(item, name))
      checks.voxel(item.ijk, record.view)
      _whole('ms', item.ms)
    except InputError as error:
      raise InputError(f'item {number}: {error}') from error


def check_line(line: Mapping[str, Any]) -> None:
  """What every line has, whatever it says.

  Raises:
    InputError: its time or duration is none.
  """
  checks.text('time', line.get('time', ''))
  if line.get('ms') is not None:
    _finite('ms', line['ms'])


def _check_candidate(row: Any, view: View) -> None:
  if not isinstance(row, dict):
    raise InputError('items: holds something that is no JSON object.')
  checks.text('id', row.get('id'))
  _whole('index', row.get('index'))
  checks.voxel(row.get('ijk'), view)
  checks.FIELDS['region']('region', row.get('region'))
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


def _whole(name: str, value: Any) -> None:
  if type(value) is not int or not 0 <= value < 2**53:
    raise InputError(f'{name}: {checks.short(value)} is no whole number.')


def _finite(name: str, value: Any) -> None:
  if type(value) not in (int, float) or not abs(value) < 2**53:
    raise InputError(f'{name}: {checks.short(value)} is no number.')
