"""The images of one person and session to magnitude and phase.

Rule: the two agree in every part of their names but the one that tells them
apart; a phase that goes with nothing is never left out in silence.
"""

from typing import NamedTuple

from cmbjax import files
from cmbjax.errors import InputError
from cmbjax.intake import roles
from cmbjax.intake.named_image import NamedImage

SECONDS = (roles.PHASE, roles.IMAGINARY)


class SignalFiles(NamedTuple):
  """Magnitude and phase, or real and imaginary parts, of one acquisition."""

  first: tuple[NamedImage, ...]  # by echo
  second: tuple[NamedImage, ...]  # as many, or ()
  cartesian: bool = False


class HalfError(InputError):
  """A phase, real or imaginary part whose partner is not there."""


def of(who, images, sidecars, *, needed) -> SignalFiles | None:
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
      seconds = partners(mine, [i for i in images if i.role == second])
      found.append(SignalFiles(tuple(mine), seconds, first == roles.REAL))
  try:
    return _best(who, images, [_ordered(who, s, sidecars) for s in found])
  except InputError:
    if needed:
      raise
    return None  # which one belongs to the SWI is not known


def partners(mine, others) -> tuple[NamedImage, ...]:
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


def _ordered(who, signal, sidecars) -> SignalFiles:
  """Echoes by time, the label where there is none."""
  first, second = signal.first, signal.second
  echoes = [i.echo for i in first]
  if len(set(echoes)) < len(echoes) or (len(echoes) > 1 and None in echoes):
    what = 'real part' if signal.cartesian else 'magnitude'
    raise who.which(what, [i.path for i in first])
  if second and [i.echo for i in second] != echoes:
    raise InputError(
      f'{who.name}: found {len(first)} files of magnitude and {len(second)} of '
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


def _best(who, images, signals) -> SignalFiles | None:
  """The only one with a phase, else the only one.

  Raises:
    InputError: there are more, or only halves.
  """
  whole = [s for s in signals if s.second]
  polar = [s for s in whole if not s.cartesian]
  found = polar or whole or [s for s in signals if not s.cartesian]
  if len(found) > 1:
    raise who.which('magnitude', [i.path for s in found for i in s.first])
  lone = [i for i in images if i.role in (*SECONDS, roles.REAL)]
  if lone and not whole:
    half = found[0].first[0] if found else None
    beside = f'; {half.path} differs in more of its name' if half else ''
    raise HalfError(
      f'{who.name}: {lone[0].path} is a {lone[0].role} image, and the '
      f'{_PARTNER[lone[0].role]} image that goes with it is not there{beside}; '
      'give both names that differ in that word only, or the finished SWI.'
    )
  return found[0] if found else None


_PARTNER = {
  roles.PHASE: roles.MAGNITUDE,
  roles.REAL: roles.IMAGINARY,
  roles.IMAGINARY: roles.REAL,
}
