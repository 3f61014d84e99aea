"""What a journal that is opened again stops, or says to its reader.

Rule: a journal belongs to one reader, image and set of candidates; how it was
begun stays, and the reader hears where that is not what was asked for.
"""

import pathlib
from collections.abc import Mapping

from cmbjax.errors import InputError
from cmbjax.review.log import checks, geometry
from cmbjax.review.log.record import ReviewRecord

_KEPT = {  # what a journal was begun with, and stays
  'mode': '--mode',
  'order': '--order',
  'seed': '--seed',
  'repeat': '--repeat',
  'least': '--least',
}


def check_image(
  path: pathlib.Path, record: ReviewRecord, header: Mapping
) -> None:
  """That a journal is of the present image.

  Args:
    path: of the journal, for the sentence.
    record: what it says.
    header: of the present files, as `opening.new_header` makes it.

  Raises:
    InputError: it is of another reader, case or image.
  """
  for what in ('rater', 'case'):
    if record.header[what] != header[what]:
      raise InputError(
        f'{path}: is of {what} {checks.short(record.header[what])}, not '
        f'{header[what]}; a review cannot be copied or renamed, so move it '
        'away or give --reviews a new folder.'
      )
  view = geometry.View.from_json(header['grid'])
  if record.header['image_sha256'] != header['image_sha256']:
    what = 'another image'
  elif not record.view.same(view):
    what = 'an image with another grid or affine'
  else:
    return
  raise InputError(
    f'{path}: was made on {what} than {header["source"]} is now; bring the '
    'old image back, or give --reviews a new folder.'
  )


def changed_labels(path: pathlib.Path) -> InputError:
  """Why a review of other candidates is not continued."""
  return InputError(
    f'{path}: was made on other candidates than there are now (detect was run '
    'again?); bring the old labels back to go on, or begin anew with --reviews '
    'and a new folder.'
  )


def unshown(record: ReviewRecord) -> list[str]:
  """What --least keeps from the reader; a first reader learns no number."""
  least, count = record.header.get('least'), len(record.header.get('below', ()))
  if not count:
    return []
  what = 'not definite' if least == 'definite' else f'below {least:g}'
  many = 'Candidates' if record.hidden else f'{count} candidates'
  return [
    f'{many} {what} are not shown (--least); they stay without a verdict.'
  ]


def differences(old: Mapping, new: Mapping) -> list[str]:
  """How a journal was begun, where its new header has it differently."""
  notices = []
  for key, option in _KEPT.items():
    values = [one.get(key) for one in (old, new)]
    if values[0] != values[1]:
      was, now = ('all' if value is None else value for value in values)
      notices.append(
        f'This case was begun with {option} {was}, which stays; {now} is for '
        'new cases.'
      )
  if ('mask' in old['blind']) != ('mask' in new['blind']):
    how = 'hidden' if 'mask' in old['blind'] else 'shown'
    notices.append(f'This case was begun with masks {how}, which stays.')
  return notices
