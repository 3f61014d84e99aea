"""What the name of a file says."""

import dataclasses
import functools
import os
import re
import unicodedata

IMAGE = re.compile(r'\.nii(\.gz)?$', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Entities:
  """The parts of a BIDS file name, `key-value_..._suffix.extension`."""

  values: dict[str, str]  # in the order of the name
  suffix: str
  extension: str

  def get(self, key: str) -> str | None:
    return self.values.get(key)

  def without(self, *keys: str) -> tuple[tuple[str, str], ...]:
    """The other entities, for grouping."""
    return tuple((k, v) for k, v in self.values.items() if k not in keys)


def entities(path: str | os.PathLike) -> Entities:
  """'sub-01_echo-2_part-mag_MEGRE.nii.gz' to its parts."""
  return _entities(os.path.basename(path))


@functools.lru_cache(maxsize=1024)
def _entities(name: str) -> Entities:
  stem, _, extension = name.partition('.')
  *pairs, suffix = stem.split('_')
  values = dict(p.split('-', 1) for p in pairs if '-' in p)
  return Entities(values, suffix, '.' + extension if extension else '')


def stem(path: str | os.PathLike) -> str:
  """The name without .nii or .nii.gz."""
  return IMAGE.sub('', os.path.basename(path))


def plain(text: str) -> str:
  """Its letters and digits; of an umlaut the letter stays."""
  return re.sub('[^A-Za-z0-9]', '', unicodedata.normalize('NFKD', text))
