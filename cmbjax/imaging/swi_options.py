"""What a person may choose of an SWI, by name.

Rule: nothing is computed here and nothing large imported, so that `--help`
shows the choices at once.
"""

import dataclasses

HIGH_PASSES = ('homodyne', 'laplacian', 'laplacianslice', 'gaussian')
AS_IT_IS = 'none'  # for a phase that is high-passed already
MASK_KINDS = (
  'negative',
  'positive',
  'triangular',
  'threshold',
  'cosine',
  'tanh',
  'negativetanh',
)
MASK_RANGES = ('pi', 'robust')
MODES = ('postavg', 'freq')
FIX_GE = ('auto', 'on', 'off')


@dataclasses.dataclass(frozen=True)
class SwiOptions:
  """How an SWI is made; the defaults are those of the reference study."""

  high_pass: str = 'homodyne'  # one of HIGH_PASSES, or AS_IT_IS
  sigma_mm: float | None = None  # high-pass width; None: by field strength
  boundary: str = 'mirror'  # of the Laplacian unwrapping
  mask_kind: str = 'negative'  # one of MASK_KINDS
  mask_power: float = 4.0  # repeats of the mask; steepness of the tanh kinds
  mask_threshold_rad: float | None = None  # None: pi, less for short echoes
  mask_range: str = 'pi'  # one of MASK_RANGES
  phase_sign: int | None = None  # 1 or -1, times the phase; None: measured
  mode: str = 'postavg'  # one of MODES, for several echoes
  echoes: tuple[int, ...] | None = None  # from 1; None: all but the first
  mag_combine: str = 'average'  # one of echoes.MAG_COMBINES, in mode freq
  sensitivity: str = 'off'  # one of magnitude.SENSITIVITIES, divides the SWI
  softplus: bool = False  # press dark noise towards 0 (CLEAR-SWI)
  mip_mm: float = 10.0  # thickness of the minimum projection
