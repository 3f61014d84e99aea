"""The published CMB labeler's folders to scans with a reviewed truth.

Every scan has a scaled image (`*scaled*`), the accepted mask
(`*finalcorrected*` or `*final_usercorrected*`) and the mask of candidates that
a person rejected (`*false_positives*`), in a folder per scan or all in one
folder with common stems; a brain mask (`*brain*`) may be beside them. Rule:
their candidates ARE the components of both masks; what the tool never proposed
is in neither, so misses are unknown.
"""

import pathlib
import re

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.intake import sidecars
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.truth_files import TruthFiles

_SCALED = re.compile('scaled', re.IGNORECASE)
_REJECTED = re.compile('false_?positives', re.IGNORECASE)
# The first that is there: some versions write removed candidates to the other.
_ACCEPTED = (
  re.compile(r'finalcorrected', re.IGNORECASE),
  re.compile(r'final_?usercorrected', re.IGNORECASE),
)
_BRAIN = re.compile('brain', re.IGNORECASE)
_MASKS = re.compile(
  'corrected|positives|denoised|frst|vessel|brain', re.IGNORECASE
)


def is_lupolab(folder: pathlib.Path) -> bool:
  """Whether a mask of false positives or a scaled image is below."""
  names = [path.name for path in images_below(folder)]
  return any(_REJECTED.search(name) or _is_scaled(name) for name in names)


def find_scans(
  folder: pathlib.Path, *, failures: dict[str, str] | None = None
) -> list[tuple[ScanFiles, TruthFiles]]:
  """All scans below `folder`, by subject and name.

  A subject is the first folder below `folder`, or the stem of the file where
  all lie in one folder; a second folder level is a session.

  Args:
    folder: where the labeler's folders or files are.
    failures: gets file name -> sentence for each scan that lacks a mask;
      None: the first of them is raised.

  Raises:
    InputError: a scan without one of its masks, more than one, or two scans
      of one name.
  """
  images, found = images_below(folder), []
  for path in images:
    if not _is_scaled(path.name):
      continue
    try:
      beside = [p for p in images if p.parent == path.parent]
      found.append(_scan(folder, path, beside))
    except InputError as error:
      if failures is None:
        raise
      failures[str(path.relative_to(folder))] = str(error)
  if not found and not failures:
    raise InputError(
      f'{folder}: has a mask of false positives, but no *scaled* image; give '
      'the scaled image that the labeler wrote.'
    )
  names = [scan.name for scan, _ in found]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise InputError(
      f'{folder}: two scans are called {twice[0]}; rename a folder or file.'
    )
  return sorted(found, key=lambda pair: pair[0].name)


def _scan(root, scaled, beside):
  # Alone in its folder a scan needs no common stem in the names.
  stems = [_stem(p) for p in beside if _is_scaled(p.name)]
  stem, alone = _stem(scaled), len(stems) == 1
  own = [p for p in beside if alone or _owner(p, stems) == stem]
  accepted = next(
    (found for pattern in _ACCEPTED if (found := _fitting(own, pattern))), []
  )
  rejected = _fitting(own, _REJECTED)
  for paths, wanted in (
    (accepted, '*finalcorrected* or *final_usercorrected*'),
    (rejected, '*false_positives*'),
  ):
    # No mask is not an empty one: misses would count as none.
    if len(paths) != 1:
      names = ', '.join(p.name for p in paths)
      raise InputError(
        f'{scaled}: found {len(paths)} masks named {wanted}'
        f'{f" ({names})" if names else ""}, expected one; a scan without '
        'such candidates needs an empty mask.'
      )
  for path in (*accepted, *rejected):
    if _is_of_another(path, stem):
      raise InputError(
        f'{scaled}: {path.name} lies beside it, and its name is of another; '
        'move or rename it.'
      )
  # Without it a brain mask is made, as for every other scan.
  outline = next(iter(_fitting(own, _BRAIN)), None)
  subject, session = _who(root, scaled, stem)
  name = f'{subject}_{session}' if session else subject
  fields = sidecars.read(scaled)
  files = ScanFiles(
    subject, session, name, scaled, (), (), outline, fields,
    facts={scaled: fields},
  )  # fmt: skip
  return files, TruthFiles('candidates', accepted[0], rejected[0])


def _who(root, scaled, stem):
  folders = scaled.parent.relative_to(root).parts
  if not folders:
    return 'sub-' + _label(stem or root.name), None
  subject = 'sub-' + _label(folders[0].removeprefix('sub-'))
  rest = ''.join(_label(part.removeprefix('ses-')) for part in folders[1:])
  return subject, f'ses-{rest}' if rest else None


def _label(text):
  return re.sub('[^0-9A-Za-z]', '', text) or 'x'


def _stem(scaled):
  """'scaled_P01_swi.nii' to 'p01_swi'."""
  name = scaled.name.lower().split('.nii')[0]
  return _SCALED.sub('', name).replace('__', '_').strip('_- ')


def _is_of_another(path, stem) -> bool:
  """Whether a mask is of 'p02' by its name and the scan of 'p01'."""
  own, other = (
    dict(re.findall(r'(?<![^\W_])([a-z]*)(\d{2,})(?![^\W_])', text))
    for text in (stem, path.name.lower().split('.nii')[0])
  )
  return any(other.get(kind, number) != number for kind, number in own.items())


def _owner(path, stems):
  """The longest stem in a name; 'p1' is not in 'p10_denoised.nii'."""
  fits = [
    stem
    for stem in stems
    if re.search(rf'(?<!\d){re.escape(stem)}(?!\d)', path.name.lower())
  ]
  return max(fits, key=len, default=None)


def _is_scaled(name):
  return bool(_SCALED.search(name)) and not _MASKS.search(name)


def _fitting(paths, pattern):
  return [path for path in paths if pattern.search(path.name)]


def images_below(folder: pathlib.Path) -> list[pathlib.Path]:
  """All NIfTI files, sorted."""
  return sorted(
    path
    for path in folder.rglob('*.nii*')
    if path.name.endswith(('.nii', '.nii.gz'))
    and not path.is_dir()
    and not files.is_hidden(path)
  )
