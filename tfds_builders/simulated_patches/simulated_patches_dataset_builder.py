"""Patches drawn one by one, one config per protocol."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from cmbjax import files
from cmbjax.data import cohort_builder, persons
from cmbjax.simulate import patches, scan
from cmbjax.simulate.protocols import PROTOCOLS, get_protocol


class Builder(cohort_builder.CohortBuilder):
  """Simulated patches with the records of the cohort folders.

  Args:
    num: how many.
    seed: 0 or more.
    **kwargs: as for every TFDS builder.
  """

  MANUAL_DOWNLOAD_INSTRUCTIONS = None
  BUILDER_CONFIGS = [  # noqa: RUF012
    cohort_builder.PatchConfig(
      name=name, description=f'Simulated patches as of {name} scans.'
    )
    for name in PROTOCOLS
  ]

  def __init__(self, *, num: int = 20_000, seed: int = 0, **kwargs):
    self._num, self._seed = num, seed
    super().__init__(**kwargs)

  @staticmethod
  def fingerprint(config: str, *, num: int, seed: int) -> str:
    """16 hex digits: same value, same patches."""
    protocol = dataclasses.asdict(get_protocol(config))
    return files.digest(protocol, patches.VERSION, scan.VERSION, num, seed)

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    return {cohort_builder.SPLIT: self._generate_examples()}

  def _generate_examples(self) -> Iterator:
    name, all_facts = self.builder_config.name, []
    work = functools.partial(
      make_records, config=name, num=self._num, seed=self._seed
    )
    groups = range(-(-self._num // patches.GROUP))
    yield from self._records(work, groups, all_facts, at_once=1)
    self.info.metadata.update(
      {
        'fingerprint': self.fingerprint(name, num=self._num, seed=self._seed),
        'simulated': True,
        'seed': self._seed,
        'unlabelled': [],
        'scans': all_facts,
      }
    )


def make_records(
  group: int, *, config: str, num: int, seed: int
) -> tuple[dict, list[dict]]:
  """One person's facts and records."""
  protocol = get_protocol(config)
  first = group * patches.GROUP
  made = patches.make_patches(
    protocol, count=min(patches.GROUP, num - first), seed=seed, first=first
  )
  subject = f'sub-{protocol.prefix}patch{group + 1:04d}'
  spacing = np.array(protocol.voxel_mm, np.float32)
  lesion = np.cumsum(made.label, dtype=np.int32) * made.label
  records = [
    {
      'image': made.image[n].astype(np.float16),
      'label': int(made.label[n]),
      'subject': subject,
      'scan': subject,
      'key': f'{subject}/{subject}/{n:04d}',
      'centre': np.array(patches.CENTRE, np.int32),
      'centre_mm': made.place_mm[n],
      'spacing_mm': spacing,
      'score': np.float32(made.contrast[n]),
      'lesion': np.int32(lesion[n]),
    }
    for n in range(len(made.label))
  ]
  times = [protocol.echo_times_s[e] for e in protocol.swi_echoes]
  low, middle = np.quantile(made.image, (0.02, 0.5))
  facts = {
    'scan': subject,
    'subject': subject,
    'person': persons.simulated(subject, seed),
    'truth': 'patches',
    'num_candidates': len(records),
    'num_lesions': int(made.label.sum()),
    'missed': [],
    'dropped': {},
    'spacing_mm': spacing.tolist(),
    'field_t': protocol.field_t,
    'echo_time_s': times[0] if len(times) == 1 else None,
    'mask_ml': 0.0,  # there is no brain mask
    'contrast': float(1 - low / middle),
    'image': files.digest(np.ascontiguousarray(made.image).tobytes()),
  }
  return facts, records
