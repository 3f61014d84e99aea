"""Trained weights as one small file, for the package and for passing on.

Parameters are kept in half precision, statistics of BatchNorm in single.
Rule: SHA256SUMS, in the form of `sha256sum`, lists every other file of the
folder and is written last; a folder that does not agree is never loaded.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cmbjax import files
from cmbjax.errors import InputError

if TYPE_CHECKING:  # JAX is not needed to look at checksums
  from cmbjax.training.replicas import Weights

SUMS = 'SHA256SUMS'
ARRAYS = 'arrays.npz'


def is_packed(folder: pathlib.Path) -> bool:
  """Whether a folder was written by `save`."""
  return (pathlib.Path(folder) / SUMS).is_file()


def save(
  folder: pathlib.Path, weights: 'Weights', texts: Mapping[str, str]
) -> None:
  """Writes the arrays, the texts and their checksums.

  Args:
    folder: made when missing; other files in it are removed.
    weights: leaves [R, ...].
    texts: content of the files beside the arrays, by name; 'weights.json' is
      one of them.
  """
  folder = files.make_folder(folder)
  (folder / SUMS).unlink(missing_ok=True)
  flat = flatten(weights)
  with files.whole(folder / ARRAYS) as temporary, temporary.open('wb') as out:
    np.savez_compressed(out, **{name: flat[name] for name in sorted(flat)})
  for name, text in texts.items():
    files.write_text(folder / name, text)
  for path in folder.iterdir():
    if path.is_file() and path.name not in (ARRAYS, *texts):
      path.unlink()
  write_sums(folder)


def write_sums(folder: pathlib.Path) -> None:
  """Lists every file of the folder with its SHA-256."""
  lines = [
    f'{_sha256(path)}  {path.name}\n'
    for path in sorted(folder.iterdir())
    if path.is_file() and path.name != SUMS
  ]
  files.write_text(folder / SUMS, ''.join(lines))


def load(folder: pathlib.Path) -> 'Weights':
  """All arrays as single precision.

  Raises:
    InputError: a file is missing or is not what was written.
  """
  from cmbjax.training.replicas import Weights

  check(folder)
  path = pathlib.Path(folder) / ARRAYS
  stored = files.read_arrays(path)
  if any(array.dtype.kind != 'f' for array in stored.values()):
    raise InputError(f'{path}: holds no weights; copy the folder again.')
  flat = {name: array.astype(np.float32) for name, array in stored.items()}
  tree: dict = {}
  for name, array in flat.items():
    *way, last = name.split('/')
    branch = tree
    for part in way:
      branch = branch.setdefault(part, {})
    branch[last] = array
  return Weights(tree['params'], tree.get('batch_stats', {}))


def check(folder: pathlib.Path) -> None:
  """Compares all files with their checksums.

  Raises:
    InputError: one is missing, differs, or does not belong there.
  """
  found = problems(folder)
  if found:
    raise InputError(
      f'{folder}: its weights are damaged ({found[0]}); install cmbjax or copy '
      'the folder again.'
    )


def problems(folder: pathlib.Path) -> list[str]:
  """What is wrong with the files of a folder, one line each."""
  folder = pathlib.Path(folder)
  try:
    lines = files.read_text(folder / SUMS).splitlines()
    sums = {name: sum_ for sum_, _, name in (s.partition('  ') for s in lines)}
  except InputError as error:
    return [str(error).removesuffix('.')]
  out = []
  for name, wanted in sums.items():
    path = folder / name
    if not path.is_file():
      out.append(f'{name} is missing')
    elif _sha256(path) != wanted:
      out.append(f'{name} differs from its checksum')
  for name in (ARRAYS, 'weights.json'):
    if name not in sums:
      out.append(f'{SUMS} does not list {name}')
  return out


def flatten(weights: 'Weights') -> dict[str, np.ndarray]:
  """'params/stage_a/.../kernel' -> array as it is stored."""
  out: dict[str, np.ndarray] = {}

  def walk(tree, way, dtype):
    for name, value in tree.items():
      if isinstance(value, Mapping):
        walk(value, f'{way}/{name}', dtype)
      else:
        out[f'{way}/{name}'] = _checked(f'{way}/{name}', value, dtype)

  walk(weights.params, 'params', np.float16)
  walk(weights.batch_stats, 'batch_stats', np.float32)
  return out


def _checked(name, value, dtype):
  with np.errstate(over='ignore'):
    array = np.asarray(value).astype(dtype)
  if not np.isfinite(array).all():
    raise InputError(f'{name}: does not fit into {dtype.__name__}.')
  return array


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as handle:
    return hashlib.file_digest(handle, 'sha256').hexdigest()
