"""Unlike ways to draw the same thing, by name: families of generators.

Networks that saw one way to draw a vein learn that way, not veins. So each
part of a simulated scan can be drawn by several functions that share no code,
and every subject draws its own. Rule: the last family of each part never trains
anything; it shows how well what was learned carries over.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from cmbjax.errors import InputError


class Families(NamedTuple):
  """The family that draws each part of one subject, by name."""

  anatomy: str = 'template'
  veins: str = 'walks'
  lesions: str = 'spheres'
  mimics: str = 'calcified'
  receiver: str = 'polynomial'
  reconstruction: str = 'homodyne'
  finish: str = 'none'


CLASSIC = Families()  # of every protocol but `randomised`

VERSION = 2  # of all but the classic ones; part of their fingerprints

_HERE = 'cmbjax.simulate'
# Part -> name -> 'module:function'. What a function takes and returns is in
# the module of the first one; the last of several is held out.
KINDS: dict[str, dict[str, str]] = {
  'anatomy': {
    'template': f'{_HERE}.anatomy:draw_head',
    'folded': f'{_HERE}.folded:draw_head',
    'procedural': f'{_HERE}.procedural:draw_head',
  },
  # Tubes in grid mm.
  'veins': {
    'walks': f'{_HERE}.vessels:draw_walks',
    'trees': f'{_HERE}.vein_trees:draw_trees',
    'ridges': f'{_HERE}.vein_ridges:draw_ridges',
  },
  # A `LesionFamily`: one deposit round a place, and the places.
  'lesions': {
    'spheres': f'{_HERE}.placement:SPHERES',
    'speckled': f'{_HERE}.lesions_speckled:SPECKLED',
    'walked': f'{_HERE}.lesions_walked:WALKED',
  },
  # Deposits that are not microbleeds.
  'mimics': {
    'calcified': f'{_HERE}.placement:place_calcified',
    'mixed': f'{_HERE}.mimics_mixed:place_mixed',
    'curved': f'{_HERE}.mimics_curved:place_curved',
  },
  # Bias, phase of the coils, noise, k-space.
  'receiver': {
    'polynomial': f'{_HERE}.receiver:draw_polynomial',
    'coils': f'{_HERE}.receiver_coils:draw_coils',
    'segmented': f'{_HERE}.receiver_segmented:draw_segmented',
  },
  # Complex signal to SWI.
  'reconstruction': {
    'homodyne': f'{_HERE}.reconstruction:draw_homodyne',
    'weighted': f'{_HERE}.reconstruction:draw_weighted',
    'unwrapped': f'{_HERE}.reconstruction:draw_unwrapped',
    'magnitude': f'{_HERE}.reconstruction:draw_magnitude',
    'mapped': f'{_HERE}.reconstruction_mapped:draw_mapped',
  },
  # What people do to a scan afterwards.
  'finish': {
    'none': f'{_HERE}.finish:leave',
    'resampled': f'{_HERE}.finish:resampled',
    'stripped': f'{_HERE}.finish:stripped',
    'flattened': f'{_HERE}.finish:flattened_scan',
    'exported': f'{_HERE}.finish_exported:exported',
  },
}
# How often one is drawn where another comes once: half of the scans are as
# the scanner gave them.
OFTEN = {
  ('anatomy', 'folded'): 2,
  ('veins', 'trees'): 2,
  ('finish', 'none'): 3,
}
CHOICES = ('classic', 'trained', 'held-out', 'mixed', 'any')


@functools.cache
def find(part: str, name: str) -> Callable[..., Any]:
  """What draws one part: `KINDS[part][name]`, imported.

  Raises:
    KeyError: no such part or family.
  """
  module, _, attribute = KINDS[part][name].partition(':')
  return getattr(importlib.import_module(module), attribute)


def draw(rng, choice: str) -> Families:
  """The families of one subject.

  Args:
    rng: numpy generator of that subject.
    choice: 'classic'; 'trained': any but those held out; 'held-out': those
      alone; 'mixed': each part held out in half of the subjects; 'any'; or
      'veins=walks,finish=none': these, all others 'trained'.

  Raises:
    InputError: something else.
  """
  fixed = check(choice)
  found = {}
  for part in KINDS:
    pool = _pool(part, choice)
    # One draw for every part, used or not: fixing one changes no other.
    number = rng.integers(1 << 30)
    found[part] = fixed.get(part, pool[number % len(pool)])
  return Families(**found)


def _pool(part: str, choice: str) -> list[str]:
  """What one part is drawn from, each as often as it is there."""
  *trained, kept = KINDS[part]
  often = [n for n in trained or [kept] for _ in range(OFTEN.get((part, n), 1))]
  pools = {
    'classic': [getattr(CLASSIC, part)],
    'held-out': [kept],
    'mixed': often + len(often) * [kept],
    'any': [*often, kept],
  }
  return pools.get(choice, often)


def check(choice: str) -> dict[str, str]:
  """Part -> family where the text names them.

  Raises:
    InputError: an unknown part or family.
  """
  if choice in CHOICES:
    return {}
  out = {}
  for word in choice.split(','):
    part, _, name = word.strip().partition('=')
    if part not in KINDS:
      raise InputError(
        f'families: is {choice!r}; choose {", ".join(CHOICES)}, or '
        f'"part=family" with the parts {", ".join(KINDS)}.'
      )
    if name not in KINDS[part]:
      raise InputError(
        f'families: {part} is {name!r}; choose one of {", ".join(KINDS[part])}.'
      )
    out[part] = name
  return out
