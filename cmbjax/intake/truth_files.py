"""A scan of a folder to the file that says where its lesions are.

Rule: of several files that could be the truth none is chosen, and what cmbjax
detected counts only after a person reviewed it.
"""

import dataclasses
import pathlib
import re

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.intake import filename, roles
from cmbjax.intake.scan_files import ScanFiles

ALL_CANDIDATES = 'AllCandidatesReviewed'  # in the JSON of a label image


_OWN_OUTPUT = 'cmbjax'  # derivatives of ours: a truth only when reviewed


_OWN_TRUTH = 'truth'  # where simulate, import and review export write


@dataclasses.dataclass(frozen=True)
class TruthFiles:
  """Where the truth of one scan is.

  Attributes:
    kind: 'labels' (an instance label image), 'mask' (its components are the
      lesions), 'points' (a table) or 'candidates' (accepted and rejected ones
      of a finished review, which are all there is).
    path: the image or table; for 'candidates' the accepted mask.
    rejected: for 'candidates' the mask of false positives.
  """

  kind: str
  path: pathlib.Path
  rejected: pathlib.Path | None = None

  @property
  def paths(self) -> tuple[pathlib.Path, ...]:
    """All files that it is read from."""
    images = [self.path] + ([self.rejected] if self.rejected else [])
    tables = [table_beside(path) for path in images]
    rest = (*images[1:], *tables, json_beside(self.path))
    return (self.path, *(p for p in rest if p is not None))


def find_truth(root: pathlib.Path, scan: ScanFiles) -> TruthFiles | None:
  """The truth of one scan; None without a file.

  Outside BIDS it is the one image that the names mark as the scan's
  (NAME_label, NAME_seg, labelsTr/NAME, ...). In BIDS it is looked for in
  derivatives/*/sub-*/[ses-*/]anat and beside the scan, in this order:
  `*_seg-cmb*_dseg` (one label per lesion), `*_label-CMB*_mask` or
  `*_label-L_*mask` (components are lesions), a `.tsv` table with `seg-cmb`,
  `label-CMB`, `desc-cmb` or the suffix `cmb` (points). derivatives/truth goes
  first. What cmbjax itself detected counts only when its JSON says
  "Manual": true. A JSON that says "AllCandidatesReviewed": true has the
  rejected candidates in `*_seg-mimic_dseg` beside it; tables beside the two
  make their labels the instances, else connected components are.

  Raises:
    InputError: more than one file fits.
  """
  if not doors.is_there(root / scan.subject):
    return _marked(scan)
  found = [
    path
    for path in _near(root, scan)
    if _is_of(path, scan) and _is_truth(root, path)
  ]
  first = [p for p in found if _derivative(root, p) == _OWN_TRUTH]
  for kind, fits in (
    ('labels', _is_label_image),
    ('mask', _is_mask),
    ('points', _is_table),
  ):
    fitting = [path for path in first or found if fits(path)]
    fitting = [p for p in fitting if _entity(p, 'space') in _OWN] or fitting
    fitting = [p for p in fitting if _is_named(p)] or fitting
    if len(fitting) > 1:  # two readers or versions: which one is not known
      raise InputError(
        f'{scan.name}: {len(fitting)} files could be its truth ('
        + ', '.join(_inside(root, p) for p in fitting)
        + '); keep one of them.'
      )
    if fitting:
      return _reviewed(fitting[0]) or TruthFiles(kind, fitting[0])
  return None


def _marked(scan) -> TruthFiles | None:
  """Outside BIDS; a name that says microbleeds goes before a mask of any."""
  found = [p for p in scan.marks if _says_lesions(p)] or list(scan.marks)
  if len(found) > 1:
    listed = ', '.join(str(p) for p in found)
    raise InputError(
      f'{scan.name}: {len(found)} files could be its truth ({listed}); keep '
      'one of them.'
    )
  if not found:
    return None
  is_mask = 'mask' in roles.words(filename.stem(found[0]))
  return TruthFiles('mask' if is_mask else 'labels', found[0])


def _says_lesions(path) -> bool:
  words = f' {roles.words(filename.stem(path))} '
  return any(f' {w} ' in words for w in ('cmb', 'cmbs', 'microbleeds', 'mb'))


def _is_of(path, scan) -> bool:
  """Whether no part of the name is of another image: the truth of run-2 is
  not that of run-1."""
  truth = filename.entities(path)
  main = filename.entities(scan.swi or scan.magnitude[0])
  return all(
    truth.get(key) in (None, main.get(key))
    or (key not in _STRICT and main.get(key) is None)
    for key in ('sub', 'ses', 'run', 'acq', 'ce', 'dir')
  )


_STRICT = ('sub', 'ses', 'run')
_OWN = ('', 'orig', 'scan', 'native', 'swi', 't2s', 't2starw')  # spaces


_PLACES = ('', 'anat', 'swi')


def _near(root, scan):
  parts = [scan.subject, *([scan.session] if scan.session else [])]
  below = pathlib.Path(*parts)
  folders = [root / below / place for place in _PLACES]
  for derivative in sorted((root / 'derivatives').glob('*/')):
    folders += [derivative / below / place for place in _PLACES]
  return [path for folder in folders for path in sorted(folder.glob('*.*'))]


def _is_truth(root, path):
  beside = json_beside(path)
  fields = files.read_object(beside) if beside else {}
  is_ours = _derivative(root, path) == _OWN_OUTPUT or 'Protocol' in fields
  return not is_ours or fields.get('Manual') is True


def _reviewed(path):
  """The imported masks of a finished review, which hold all candidates."""
  beside = json_beside(path)
  content = files.read_object(beside) if beside else {}
  if content.get(ALL_CANDIDATES) is not True:
    return None
  rejected = path.with_name(path.name.replace('_seg-cmb_', '_seg-mimic_'))
  return TruthFiles('candidates', path, rejected)


def _derivative(root, path):
  parts = path.relative_to(root).parts
  return parts[1] if parts[0] == 'derivatives' else ''


def _is_image(path):
  return path.name.endswith(('.nii', '.nii.gz'))


def _entity(path, key):
  return (filename.entities(path).get(key) or '').lower()


def _is_label_image(path):
  suffix = filename.entities(path).suffix
  return _is_image(path) and suffix == 'dseg' and _is_bleed(path, 'seg')


def _is_mask(path):
  return (
    _is_image(path)
    and filename.entities(path).suffix == 'mask'
    and (
      _is_bleed(path, 'label', 'desc')
      or _entity(path, 'label') in ('l', 'lesion')
    )
  )


def _is_bleed(path, *keys):
  """Whether it says microbleeds, and not what was taken for them."""
  return any(
    re.match('cmb|microbleed', value) and not re.search(_NO_TRUTH, value)
    for value in (_entity(path, key) for key in keys)
  )


_NO_TRUTH = 'mimic|candidate|reject|false|fp$'


def _is_named(path):
  return _is_bleed(path, 'seg', 'label', 'desc')


def _is_table(path):
  return path.name.endswith('.tsv') and (
    _is_named(path) or filename.entities(path).suffix.startswith('cmb')
  )


def table_beside(path):
  table = path.with_name(path.name.split('.')[0] + '.tsv')
  return table if table != path and doors.is_there(table) else None


def json_beside(path):
  beside = path.with_name(path.name.split('.')[0] + '.json')
  return beside if doors.is_there(beside) else None


def _inside(root, path):
  return str(path.relative_to(root))
