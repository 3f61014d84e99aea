"""The images of one person and session to the files of the scan.

Rule: a finished SWI goes before the parts it is made of, an image before
processed copies of it; where two readings are left, the scan is refused with
both names, and nothing is chosen in silence.
"""

import dataclasses
import fnmatch
import pathlib
from collections.abc import Iterable, Sequence

from cmbjax.errors import InputError
from cmbjax.intake import brain_masks, filename, pairs, roles
from cmbjax.intake.named_image import NamedImage, by_header
from cmbjax.intake.owner import PATTERN, Owner
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.sidecars import Sidecars

WHY = {
  roles.PROJECTION: 'a projection',
  roles.FILTERED: 'a filtered phase',
  roles.MAP: 'a map',
  roles.BRAIN_MASK: 'a brain mask',
  roles.LESIONS: 'a label image or mask',
  roles.LABELS: 'labels of something else',
  roles.OTHER: 'of another kind of MRI',
}


def choose(
  who: Owner,
  images: Iterable[NamedImage],
  sidecars: Sidecars,
  *,
  pattern: str | None = None,
  masks: Sequence[pathlib.Path] = (),
) -> ScanFiles | None:
  """The one scan among the images; None when there is none.

  Args:
    who: whose they are.
    images: all of one person and session.
    sidecars: of the input.
    pattern: shell pattern of the name of the SWI.
    masks: further files that may be the brain mask of the scan.

  Raises:
    InputError: two readings are possible, or a file of the scan is missing.
  """
  images = [by_header(image, sidecars) for image in images]
  left = {i.path: WHY[i.role] for i in images if i.role not in roles.SCAN}
  left |= {i.path: 'of one coil' for i in images if i.coil}
  usable = [i for i in images if i.path not in left]
  if not usable:
    _check_coils(who, images)
    return None
  usable = _without_copies(usable, left)
  settled = _settled(usable)
  swi = _swi(who, usable if pattern else settled, pattern)
  if pattern is not None and swi is None:
    return None
  if swi is not None and swi.role == roles.MAGNITUDE:  # by the pattern
    settled = [i for i in usable if i == swi or i.role in pairs.SECONDS]
    swi = None
  if swi is not None:
    settled = [i for i in settled if _run(i) in (None, _run(swi) or _run(i))]
  signal = pairs.of(who, settled, sidecars, needed=swi is None)
  if swi is None and signal is None:
    return None
  return _scan(who, images, sidecars, swi, signal, left, masks)


def _run(image) -> str | None:
  """The run in its name: magnitude and phase of another are not the SWI's."""
  named = filename.entities(image.path).get('run')
  words = [w for w in image.acquisition if isinstance(w, str)]
  return named or next((w for w in words if w.startswith('run')), None)


def _check_coils(who, images):
  coils = [i.path for i in images if i.coil and i.role in roles.SCAN]
  if coils:
    raise InputError(
      f'{who.name}: {coils[0]} and {len(coils) - 1} more are of one coil each; '
      'give the image that the scanner made of all coils.'
    )


def _without_copies(images, left) -> list[NamedImage]:
  """Without the processed ones of which the plain image is there."""
  kept = []
  for image in images:
    plain = [
      i
      for i in images
      if i.version < image.version
      and (i.role, i.echo, i.acquisition)
      == (image.role, image.echo, image.acquisition)
    ]
    if plain:
      words = ', '.join(sorted(image.version - plain[0].version))
      left[image.path] = f'a processed copy ({words}) of {plain[0].path.name}'
    else:
      kept.append(image)
  return kept


def _swi(who, images, pattern) -> NamedImage | None:
  """The finished SWI."""
  if pattern is not None:
    found = [i for i in images if fnmatch.fnmatch(i.path.name, pattern)]
    if len({i.role for i in found}) > 1:  # a pattern of a whole acquisition
      found = [i for i in found if i.role not in pairs.SECONDS]
    if len(found) > 1:
      raise who.which('SWI', [i.path for i in found])
    if found and found[0].role in (*pairs.SECONDS, roles.REAL):
      raise InputError(
        f'{who.name}: {found[0].path} is a {found[0].role} image, not an SWI; '
        f'give another {PATTERN}.'
      )
    return found[0] if found else None
  found = [
    i for i in images if i.role == roles.SWI and not _is_first(i, images)
  ]
  for is_better in (
    lambda i: filename.entities(i.path).suffix.lower() == 'swi',
    lambda i: i.path.parent.name == 'anat',
  ):
    found = [i for i in found if is_better(i)] or found
  if len(found) > 1:
    raise who.which('SWI', [i.path for i in found])
  return found[0] if found else None


def _is_first(image, images) -> bool:
  """Whether it is the magnitude of a phase, though it is called an SWI.

  dcm2niix calls the two X and X_ph, whatever X is; and in BIDS an acq-swi
  T2starw of which a phase is there was not finished.
  """
  name = filename.stem(image.path)
  suffix = filename.entities(image.path).suffix
  magnitudes = [i for i in images if i.role == roles.MAGNITUDE]
  if any(i.acquisition == image.acquisition for i in magnitudes):
    return False
  return any(
    filename.stem(i.path) in (f'{name}_ph', f'{name}_pha')
    or (suffix == 'T2starw' and i.acquisition == image.acquisition)
    for i in images
    if i.role == roles.PHASE
  )


def _settled(images) -> list[NamedImage]:
  """Those whose name says nothing are the magnitude or the finished SWI."""
  named = {i.role for i in images}
  result = []
  for image in images:
    if image.role == roles.SWI and _is_first(image, images):
      image = dataclasses.replace(image, role=roles.MAGNITUDE)
    if image.role == roles.UNKNOWN:
      if _is_gradient_echo(image) or named & set(pairs.SECONDS):
        if _is_needed(image, images):
          image = dataclasses.replace(image, role=roles.MAGNITUDE)
      elif not named & {roles.SWI, roles.MAGNITUDE, roles.REAL}:
        image = dataclasses.replace(image, role=roles.SWI)
    result.append(image)
  return result


def _is_gradient_echo(image) -> bool:
  """Whether it is called T2*, which is a magnitude without more words."""
  words = [w[1] if isinstance(w, tuple) else w for w in image.acquisition]
  return bool(roles.family(' '.join(words).lower()))


def _is_needed(image, images) -> bool:
  """Whether there is no magnitude, or none for the phase of this image."""
  magnitudes = [i for i in images if i.role == roles.MAGNITUDE]
  phases = pairs.partners([image], [i for i in images if i.role == roles.PHASE])
  if not magnitudes:
    return True
  return bool(phases) and not pairs.partners(list(phases), magnitudes)


def _scan(who, images, sidecars, swi, signal, left, masks) -> ScanFiles:
  first = tuple(i.path for i in signal.first) if signal else ()
  second = tuple(i.path for i in signal.second) if signal else ()
  main = swi.path if swi else first[0]
  mask = brain_masks.choose(who, main, images, masks, left)
  used = [*([swi.path] if swi else []), *first, *second]
  for image in images:
    if image.path not in used and image.path != mask:
      left.setdefault(image.path, _why_not(image, swi, signal))
  facts = {path: sidecars.of(path) for path in used}
  return ScanFiles(
    subject=who.subject,
    session=who.session,
    name=who.name,
    swi=swi.path if swi else None,
    magnitude=first,
    phase=second,
    mask=mask,
    sidecar=facts[main],
    cartesian=bool(signal and signal.cartesian),
    facts=facts,
    left_out=tuple((p, why) for p, why in left.items() if p != mask),
    marks=tuple(i.path for i in images if i.role == roles.LESIONS),
  )


def _why_not(image, swi, signal) -> str:
  if signal is None and image.role in roles.SIGNAL:
    return 'no partner, or several, so that it does not go with the SWI'
  if image.role == roles.SWI or swi:
    return f'{swi.path.name} was taken' if swi else 'not the scan'
  return f'{signal.first[0].path.name} was taken' if signal else 'not the scan'
