"""Images of a scan that was reviewed into a cohort folder.

Rule: what was judged goes there as it is, voxel by voxel, or the signal that
it was made from; files that are linked are never written to.
"""

import contextlib
import os
import pathlib

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.imaging import mask_values, volume
from cmbjax.intake import bids, sidecars
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases.case import Case

MASKS = 'derivatives/masks'
LINKS = ('hard', 'copy', 'symbolic')


def anat(folder: pathlib.Path, below: str, case: Case) -> pathlib.Path:
  """Where a scan's files are.

  Args:
    folder: of the cohort.
    below: '' or a derivative of it.
    case: the scan.
  """
  return folder.joinpath(below, case.subject, case.session or '', 'anat')


def write(folder: pathlib.Path, case: Case, link: str) -> None:
  """Brings what was judged, or the signal that it was made from.

  Args:
    folder: of the cohort.
    case: the scan.
    link: one of LINKS.

  Raises:
    InputError: a file cannot be brought.
  """
  target = anat(folder, '', case)
  for path, rest in _images(case):
    ending = '.nii.gz' if path.name.endswith('.gz') else '.nii'
    _bring(path, target / f'{case.name}_{rest}{ending}', link)
    facts = sidecars.read(path)
    for name, own in (
      ('MagneticFieldStrength', 'field_t'),
      ('EchoTime', 'echo_time_s'),
    ):
      if case.protocol.get(own) is not None:
        facts.setdefault(name, case.protocol[own])
    if case.simulated:
      facts['Simulated'] = True
    files.write_json(target / f'{case.name}_{rest}.json', facts)


def _images(case: Case) -> list[tuple[pathlib.Path, str]]:
  if case.image is not None:
    return [(case.image, 'part-mag_T2starw' if case.is_magnitude else 'swi')]
  found = []
  for part in ('magnitude', 'phase'):
    some = getattr(case.signal, part)
    some = some if isinstance(some, tuple) else (some,)
    short = 'mag' if part == 'magnitude' else 'phase'
    for number, path in enumerate(some, 1):
      rest = f'part-{short}_T2starw'
      if len(some) > 1:
        rest = f'echo-{number}_part-{short}_MEGRE'
      found.append((path, rest))
  return found


def _bring(path, target, link) -> None:
  files.make_folder(target.parent)
  doors.open_file(path).close()  # a link, too, is to lead to an image
  path = path.resolve()
  if link == 'symbolic':
    try:
      target.symlink_to(path)
    except OSError as error:
      raise InputError(
        f'{target}: cannot be a link ({error.strerror}); give --link copy.'
      ) from error
    return
  if link == 'hard':
    with contextlib.suppress(OSError):  # another disk, or it cannot link
      os.link(path, target)
      return
  files.copy(path, target)


def write_mask(folder: pathlib.Path, case: Case, image: volume.Volume) -> None:
  """The brain mask of the scan, where there is one.

  Args:
    folder: of the cohort.
    case: the scan.
    image: what was judged.

  Raises:
    InputError: the mask is on another grid.
  """
  path = cases_lib.mask_of(case)
  if path is None:
    return
  mask = mask_values.read(path)
  volume.check_grid(mask, image)
  target = anat(folder, MASKS, case) / f'{case.name}_label-brain_mask.nii.gz'
  volume.save(target, mask.array, image)
  about = {'Type': 'Brain', 'Description': 'As it came with the data.'}
  files.write_json(target.with_name(target.name[:-7] + '.json'), about)
  bids.write_description(folder / MASKS, 'Brain masks', kind='derivative')
