"""The images of one person and session to the files of the scan.

Rule: a finished SWI goes before the parts it is made of, an image before
processed copies of it; where two readings are left, the scan is refused with
both names, and nothing is chosen in silence.
"""

import dataclasses
import fnmatch
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from nibabel import orientations

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.imaging import nifti
from cmbjax.intake import filename, roles
from cmbjax.intake.filename import NamedImage
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.intake.sidecars import Sidecars

PATTERN = '--swi-pattern'
WHY = {
  roles.PROJECTION: 'a projection',
  roles.FILTERED: 'a filtered phase',
  roles.MAP: 'a map',
  roles.BRAIN_MASK: 'a brain mask that was not chosen',
  roles.LESIONS: 'marks, of lesions or else',
  roles.LABELS: 'marks something else',
  roles.OTHER: 'of another kind of MRI',
}


class Scan(NamedTuple):
  """Whose the images are."""

  subject: str  # 'sub-01'
  session: str | None  # 'ses-1'

  @property
  def name(self) -> str:
    return f'{self.subject}_{self.session}' if self.session else self.subject


class _Signal(NamedTuple):
  """Magnitude and phase, or real and imaginary parts, of one acquisition."""

  first: tuple[NamedImage, ...]  # by echo
  second: tuple[NamedImage, ...]  # as many, or ()
  cartesian: bool = False


def choose(
  who: Scan,
  images: Iterable[NamedImage],
  sidecars: Sidecars,
  *,
  pattern: str | None = None,
  options: Collection[str] = (),
  masks: Sequence[pathlib.Path] = (),
) -> ScanFiles | None:
  """The one scan among the images; None when there is none.

  Args:
    who: whose they are.
    images: all of one person and session.
    sidecars: of the input.
    pattern: shell pattern of the name of the SWI.
    options: that the calling command has, to be named in advice.
    masks: further files that may be the brain mask of the scan.

  Raises:
    InputError: two readings are possible, or a file of the scan is missing.
  """
  ask = _Ask(who.name, options)
  images = [by_header(image, sidecars) for image in images]
  left = {i.path: WHY[i.role] for i in images if i.role not in roles.SCAN}
  left |= {i.path: 'of one coil' for i in images if i.coil}
  usable = [i for i in images if i.path not in left]
  if not usable:
    _check_coils(ask, images)
    return None
  usable = _without_copies(usable, left)
  settled = _settled(usable)
  swi = _swi(ask, usable if pattern else settled, pattern)
  if pattern is not None and swi is None:
    return None
  if swi is not None and swi.role == roles.MAGNITUDE:  # by the pattern
    settled = [i for i in usable if i == swi or i.role in _SECONDS]
    swi = None
  signal = _signal(ask, settled, sidecars, needed=swi is None)
  if swi is None and signal is None:
    return None
  return _scan(ask, who, images, sidecars, swi, signal, left, masks)


class HalfError(InputError):
  """A phase, real or imaginary part whose partner is not there."""


_SECONDS = (roles.PHASE, roles.IMAGINARY)


@dataclasses.dataclass(frozen=True)
class _Ask:
  """How a question about one scan is put."""

  name: str
  options: Collection[str]

  def which(self, what: str, found: Sequence[pathlib.Path]) -> InputError:
    """Of several files none is chosen."""
    named = PATTERN in self.options and what != 'brain mask'
    fix = f'name one with {PATTERN}, or move the others away' if named else (
      'move the others away'
    )  # fmt: skip
    listed = ', '.join(str(p) for p in found)
    return InputError(
      f'{self.name}: {len(found)} files could be the {what} ({listed}); {fix}.'
    )


def by_header(
  image: NamedImage, sidecars: Sidecars, *, strict: bool = True
) -> NamedImage:
  """What its JSON says where the name says little.

  Args:
    image: by its name.
    sidecars: of the input.
    strict: whether a JSON that cannot be read is an error.

  Raises:
    InputError: it is, and it cannot.
  """
  if image.role not in (roles.UNKNOWN, roles.SWI):
    return image
  try:
    fields = sidecars.of(image.path)
  except InputError:
    if strict:
      raise
    return image
  return with_role(image, fields)


def with_role(image: NamedImage, fields: dict) -> NamedImage:
  """The image with what its JSON says, where its name says little."""
  if image.role not in (roles.UNKNOWN, roles.SWI):
    return image
  role = _header_role(fields)
  if image.role == roles.SWI and role == roles.MAGNITUDE:
    # 'M' is in the ImageType of a finished SWI too; a description is not.
    described = roles.of_words(roles.words(_description(fields)))
    role = role if described == roles.MAGNITUDE else roles.SWI
  return dataclasses.replace(image, role=role or image.role)


def _header_role(fields) -> str:
  """What the JSON of an image says that it is; '' when it does not."""
  types = fields.get('ImageType')
  types = [t for t in types if isinstance(t, str)] if isinstance(
    types, list
  ) else []  # fmt: skip
  return roles.of_header(types, _description(fields))


def _description(fields) -> str:
  text = fields.get('SeriesDescription')
  return text if isinstance(text, str) else ''


def _check_coils(ask, images):
  coils = [i.path for i in images if i.coil and i.role in roles.SCAN]
  if coils:
    raise InputError(
      f'{ask.name}: {coils[0]} and {len(coils) - 1} more are of one coil each; '
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


def _swi(ask, images, pattern) -> NamedImage | None:
  """The finished SWI."""
  if pattern is not None:
    found = [i for i in images if fnmatch.fnmatch(i.path.name, pattern)]
    if len({i.role for i in found}) > 1:  # a pattern of a whole acquisition
      found = [i for i in found if i.role not in _SECONDS]
    if len(found) > 1:
      raise ask.which('SWI', [i.path for i in found])
    if found and found[0].role in (*_SECONDS, roles.REAL):
      raise InputError(
        f'{ask.name}: {found[0].path} is a {found[0].role} image, not an SWI; '
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
    raise ask.which('SWI', [i.path for i in found])
  return found[0] if found else None


def _is_first(image, images) -> bool:
  """Whether it is the magnitude of a phase, though it is called an SWI.

  dcm2niix calls the two X and X_ph, whatever X is; and in BIDS an acq-swi
  T2starw of which a phase is there was not finished.
  """
  name = filename.stem(image.path)
  suffix = filename.entities(image.path).suffix
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
      if _is_gradient_echo(image) or named & set(_SECONDS):
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
  magnitudes = [i for i in images if i.role in (roles.MAGNITUDE, roles.REAL)]
  phases = _partners([image], [i for i in images if i.role == roles.PHASE])
  if not magnitudes:
    return True
  return bool(phases) and not _partners(list(phases), magnitudes)


def _signal(ask, images, sidecars, *, needed) -> _Signal | None:
  """The best acquisition; phase goes before none."""
  found = []
  for first, second in (
    (roles.MAGNITUDE, roles.PHASE),
    (roles.REAL, roles.IMAGINARY),
  ):
    for key in dict.fromkeys(
      (i.acquisition, i.version) for i in images if i.role == first
    ):
      mine = [
        i
        for i in images
        if i.role == first and (i.acquisition, i.version) == key
      ]
      partners = _partners(mine, [i for i in images if i.role == second])
      found.append(_Signal(tuple(mine), partners, first == roles.REAL))
  try:
    return _best(ask, images, [_ordered(ask, s, sidecars) for s in found])
  except InputError:
    if needed:
      raise
    return None  # which one belongs to the SWI is not known


def _partners(mine, others) -> tuple[NamedImage, ...]:
  """The phases of these magnitudes, of the same version or of none."""
  found = []
  for image in mine:
    fits = [
      i
      for i in others
      if i.echo == image.echo and _is_same(i.acquisition, image.acquisition)
    ]
    same = [i for i in fits if i.version == image.version]
    found += same or [i for i in fits if not i.version]
  return tuple(found)


def _is_same(one: frozenset, other: frozenset) -> bool:
  """Whether two images are of one acquisition; outside BIDS ('anna_gre_mag',
  'anna_phase') one name may say less."""
  if any(isinstance(word, tuple) for word in one | other):
    return one == other
  return one <= other or other <= one


def _ordered(ask, signal, sidecars) -> _Signal:
  """Echoes by time, the label where there is none."""
  first, second = signal.first, signal.second
  echoes = [i.echo for i in first]
  if len(set(echoes)) < len(echoes) or (len(echoes) > 1 and None in echoes):
    what = 'real part' if signal.cartesian else 'magnitude'
    raise ask.which(what, [i.path for i in first])
  if second and [i.echo for i in second] != echoes:
    raise InputError(
      f'{ask.name}: found {len(first)} files of magnitude and {len(second)} of '
      f'phase ({", ".join(i.path.name for i in (*first, *second))}); give as '
      'many of each.'
    )
  rank = {i.echo: _echo_order(i, sidecars) for i in first}
  order = sorted(range(len(first)), key=lambda n: rank[echoes[n]])
  return signal._replace(
    first=tuple(first[n] for n in order),
    second=tuple(second[n] for n in order) if second else (),
  )


def _echo_order(image, sidecars):
  time = sidecars.of(image.path).get('EchoTime')
  return (float(time) if files.is_number(time) else 0.0, image.echo or 0)


def _best(ask, images, signals) -> _Signal | None:
  """The only one with a phase, else the only one.

  Raises:
    InputError: there are more, or only halves.
  """
  whole = [s for s in signals if s.second]
  polar = [s for s in whole if not s.cartesian]
  found = polar or whole or [s for s in signals if not s.cartesian]
  if len(found) > 1:
    raise ask.which('magnitude', [i.path for s in found for i in s.first])
  lone = [i for i in images if i.role in (*_SECONDS, roles.REAL)]
  if lone and not whole:
    half = found[0].first[0] if found else None
    beside = f'; {half.path} differs in more of its name' if half else ''
    raise HalfError(
      f'{ask.name}: {lone[0].path} is a {lone[0].role} image, and the '
      f'{_PARTNER[lone[0].role]} image that goes with it is not there{beside}; '
      'give both names that differ in that word only, or the finished SWI.'
    )
  return found[0] if found else None


_PARTNER = {
  roles.PHASE: roles.MAGNITUDE,
  roles.REAL: roles.IMAGINARY,
  roles.IMAGINARY: roles.REAL,
}


def _scan(ask, who, images, sidecars, swi, signal, left, masks) -> ScanFiles:
  first = tuple(i.path for i in signal.first) if signal else ()
  second = tuple(i.path for i in signal.second) if signal else ()
  main = swi.path if swi else first[0]
  mask = _mask(ask, main, images, masks, left)
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
    return 'which one belongs to the SWI is not clear'
  if image.role == roles.SWI or swi:
    return f'{swi.path.name} was taken' if swi else 'not the scan'
  return f'{signal.first[0].path.name} was taken' if signal else 'not the scan'


def _mask(ask, main, images, others, left) -> pathlib.Path | None:
  """The brain mask of this image; of another space or grid it is not one."""
  own = [i for i in images if i.role == roles.BRAIN_MASK]
  space = filename.entities(main).get('space')
  found = []
  for path in (*(i.path for i in own), *others):
    parts = filename.entities(path)
    if parts.get('space') not in (None, space):
      left[path] = f'in another space ({parts.get("space")})'
    elif _disagree(parts, filename.entities(main)):
      left[path] = 'of another image'
    else:
      found.append(path)
  if len(found) > 1 or any(p in others for p in found):
    on_grid = {p: _on_grid(p, main) for p in found}
    left |= {p: 'on another grid' for p in found if not on_grid[p]}
    found = [p for p in found if on_grid[p]]
  if len(found) > 1:
    raise ask.which('brain mask', found)
  return found[0] if found else None


def _disagree(mask, scan) -> bool:
  """Whether the mask names another acquisition, run or image."""
  return any(
    mask.get(key) not in (None, scan.get(key))
    for key in ('acq', 'run', 'rec', 'ce', 'task', 'dir')
  )


def _on_grid(path, main) -> bool:
  """Whether the headers agree; what cannot be read is judged later."""
  try:
    (one, first), (other, second) = map(_grid, (path, main))
  except InputError:
    return True
  return one == other and np.allclose(first, second, rtol=0, atol=1e-2)


def _grid(path) -> tuple[tuple[int, ...], np.ndarray]:
  """Shape and affine in RAS order, as `volume.load` would have them."""
  image = nifti.open_image(path)
  axes = orientations.io_orientation(nifti.affine_of(path, image))
  shape = image.shape[:3]
  turned = tuple(int(shape[int(n)]) for n in np.argsort(axes[:, 0]))
  return turned, image.affine @ orientations.inv_ornt_aff(axes, shape)
