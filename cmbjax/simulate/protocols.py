"""The scans that can be simulated, as data: a new protocol is ten lines.

Rule: what differs between cohorts is here and nowhere else; `randomised`
draws its own.
"""

import dataclasses
from typing import ClassVar

from cmbjax.errors import InputError
from cmbjax.simulate import physics
from cmbjax.simulate.families import CLASSIC, Families


@dataclasses.dataclass(frozen=True)
class Protocol:
  """One way of scanning and the patients that are scanned that way.

  Attributes:
    name: cohort name.
    prefix: of the subject labels, so that cohorts never share a subject.
    field_t: B0.
    voxel_mm: acquired voxel.
    fine_mm: grid on which signal and field are computed; divides `voxel_mm`.
    field_of_view_mm: whole multiple of both.
    echo_times_s: one or several.
    homodyne_sigma_mm: high-pass of the SWI.
    snr: lowest and highest signal to noise ratio of the brain.
    bias: largest exponent of the receive field.
    resolution: acquired share of k-space along x and y, the rest is zeros.
    mean_lesions: expected number of visible microbleeds per subject.
    disease: 'brain tumour', 'cavernous malformation', 'small vessel disease'.
    families: which generator draws each part.
  """

  name: str
  prefix: str
  field_t: float
  voxel_mm: tuple[float, float, float]
  fine_mm: tuple[float, float, float]
  field_of_view_mm: tuple[float, float, float]
  echo_times_s: tuple[float, ...]
  repetition_time_s: float
  flip_deg: float
  manufacturer: str
  homodyne_sigma_mm: float
  snr: tuple[float, float]
  bias: float
  resolution: tuple[float, float]
  mean_lesions: float
  disease: str
  families: Families = CLASSIC

  # What only `randomised` varies; not a field, so no part of a fingerprint.
  relaxation: ClassVar[tuple] = ()
  chi_factor: ClassVar[float] = 1.0
  b0: ClassVar[tuple | None] = None  # drawn with the head
  facts: ClassVar[dict] = {}  # for the sidecar

  def tissue(self, name: str) -> physics.Tissue:
    """Density and relaxation of grey, white, csf or vein."""
    usual = physics.TISSUES[self.field_t][name]
    factors = dict(self.relaxation).get(name, (1.0, 1.0, 1.0))
    return physics.Tissue(*(v * f for v, f in zip(usual, factors)))

  @property
  def swi_echoes(self) -> tuple[int, ...]:
    """Echoes that make the SWI: the first of several is a TOF angiogram."""
    count = len(self.echo_times_s)
    return tuple(range(count)) if count == 1 else tuple(range(1, count))

  @property
  def fine_shape(self) -> tuple[int, int, int]:
    """Voxels of the fine grid."""
    return _divide(self.field_of_view_mm, self.fine_mm)

  @property
  def shape(self) -> tuple[int, int, int]:
    """Voxels of the acquired grid."""
    return _divide(self.field_of_view_mm, self.voxel_mm)


def _divide(length_mm, step_mm) -> tuple[int, int, int]:
  return tuple(round(a / b) for a, b in zip(length_mm, step_mm))


# Field, voxel, TE, TR: Chen et al., ISMRM 2019 #0671; counts per subject: its
# test sets (370 in 12, 362 in 16); flip angles, SNR and resolution: usual.
_7T = Protocol(
  name='btumor_7t',
  prefix='7T',
  field_t=7.0,
  voxel_mm=(0.5, 0.5, 2.0),
  fine_mm=(0.5, 0.5, 1.0),
  field_of_view_mm=(176.0, 216.0, 168.0),
  echo_times_s=(0.016,),
  repetition_time_s=0.050,
  flip_deg=20.0,
  manufacturer='GE',
  homodyne_sigma_mm=1.9,
  snr=(18.0, 36.0),
  bias=0.35,
  resolution=(1.0, 0.85),
  mean_lesions=30.8,
  disease='brain tumour',
)
_7T_4ECHO = dataclasses.replace(
  _7T,
  name='btumor_7t_4echo',
  prefix='7TME',
  voxel_mm=(0.5, 0.5, 1.0),
  echo_times_s=(0.0027, 0.0104, 0.0132, 0.0209),
  repetition_time_s=0.040,
  snr=(14.0, 28.0),
)
_3T = dataclasses.replace(
  _7T,
  name='btumor_3t',
  prefix='3T',
  field_t=3.0,
  echo_times_s=(0.028,),
  repetition_time_s=0.046,
  homodyne_sigma_mm=3.0,
  snr=(14.0, 28.0),
  bias=0.2,
  mean_lesions=22.6,
)
_CCM = dataclasses.replace(
  _3T,
  name='ccm_3t',
  prefix='CCM',
  voxel_mm=(1.0, 1.0, 1.5),
  fine_mm=(0.5, 0.5, 0.75),
  echo_times_s=(0.020,),
  repetition_time_s=0.028,
  flip_deg=15.0,
  manufacturer='Siemens',
  homodyne_sigma_mm=3.2,
  snr=(20.0, 40.0),
  mean_lesions=50.0,
  disease='cavernous malformation',
)
_15T_SVD = dataclasses.replace(
  _3T,
  name='svd_15t',
  prefix='15TS',
  field_t=1.5,
  voxel_mm=(0.8, 0.8, 3.0),
  fine_mm=(0.8, 0.8, 1.0),
  echo_times_s=(0.040,),
  repetition_time_s=0.055,
  manufacturer='Siemens',
  snr=(20.0, 40.0),
  mean_lesions=10.0,
  disease='small vessel disease',
)
# Two that no model was trained on: a clinical T2* scan and an isotropic one.
_15T = dataclasses.replace(
  _3T,
  name='clinical_15t',
  prefix='15T',
  field_t=1.5,
  voxel_mm=(1.0, 1.0, 4.0),
  echo_times_s=(0.050,),
  repetition_time_s=0.070,
  manufacturer='Siemens',
  snr=(25.0, 50.0),
  mean_lesions=5.0,
  disease='small vessel disease',
)
_3T_ISOTROPIC = dataclasses.replace(
  _3T,
  name='isotropic_3t',
  prefix='3TME',
  voxel_mm=(0.7, 0.7, 0.7),
  fine_mm=(0.7, 0.7, 0.7),
  field_of_view_mm=(252 * 0.7, 308 * 0.7, 240 * 0.7),
  echo_times_s=(0.0067, 0.0133, 0.0199, 0.0265, 0.0331),
  repetition_time_s=0.040,
  flip_deg=15.0,
  manufacturer='Philips',
  snr=(10.0, 20.0),
  mean_lesions=5.0,
  disease='small vessel disease',
)
PROTOCOLS = {
  p.name: p for p in (_7T, _3T, _CCM, _7T_4ECHO, _15T_SVD, _15T, _3T_ISOTROPIC)
}

# Candidates of a scan that a study meets: in a slab of 60 mm, and in a whole
# head. Counted in runs of seed 0 (slabs of the first three; the others in the
# same proportion) and 9160 (whole heads).
CANDIDATES = {
  'btumor_7t': (100, 183),
  'btumor_3t': (83, 119),
  'ccm_3t': (224, 329),
  'btumor_7t_4echo': (145, 265),
  'clinical_15t': (60, 91),
  'isotropic_3t': (440, 661),
}
USUAL_CANDIDATES = (100, 180)  # of any other kind of scan

MOST_LESIONS = 500  # expected of a person; a brain has no room for many more

# The three cohorts of the transfer study.
COHORTS = ('btumor_7t', 'btumor_3t', 'ccm_3t')
DEMO = 'btumor_3t'  # what `cmbjax demo` shows


def get_protocol(name: str) -> Protocol:
  """The protocol of a cohort.

  Raises:
    InputError: no such cohort.
  """
  if name not in PROTOCOLS:
    allowed = ', '.join(PROTOCOLS)
    raise InputError(f'cohort {name!r} is unknown; choose one of {allowed}.')
  return PROTOCOLS[name]
