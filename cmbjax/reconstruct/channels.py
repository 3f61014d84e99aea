"""Which images a network sees, and how a phase becomes one.

Rule: the SWI comes first, whatever else is there; every channel is on its
grid and in 0..1. Measured channels need files of their own; derived ones are
made of the SWI and its brain mask alone (`data.evidence`), so no scan lacks
them.
"""

from collections.abc import Sequence

import numpy as np

MEASURED = ('phase', 'magnitude')
DERIVED = ('wide', 'mirror', 'vessels', 'place')
CHANNELS = ('swi', *MEASURED, *DERIVED)  # and in this order
ONLY_SWI = CHANNELS[:1]


def in_order(channels: Sequence[str]) -> bool:
  """Whether these are the SWI and then some of the others, each once."""
  known = tuple(name for name in CHANNELS if name in channels)
  return 'swi' in channels and tuple(channels) == known


def measured(channels: Sequence[str]) -> tuple[str, ...]:
  """Those that need files beside the SWI."""
  return tuple(name for name in channels if name in MEASURED)


def depth(channels: Sequence[str]) -> int:
  """C, the images of a patch: a place is three of them."""
  return sum(3 if name == 'place' else 1 for name in channels)


def data_set(patches: str, channels: Sequence[str] = ONLY_SWI) -> str:
  """The builder's config: 'native', 'resampled_phase_magnitude'."""
  return '_'.join([patches, *channels[1:]])


def of_phase(phase: np.ndarray) -> np.ndarray:
  """High-passed phase in rad to 0..1: 0.5 + rad / (2 pi), clipped.

  Veins are negative, so they and microbleeds are dark in their middle;
  calcifications, which are diamagnetic, are bright there.
  """
  unit = phase * np.float32(1 / (2 * np.pi)) + np.float32(0.5)
  return np.clip(unit, 0, 1).astype(np.float32, copy=False)
