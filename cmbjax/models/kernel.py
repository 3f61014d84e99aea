"""winograd.cc as a library that this machine can load.

Rule: nothing is loaded that another user could have written, or that is not,
byte for byte, what was compiled.

A wheel for one platform carries libraries for several processors, and the
best that this one can run is taken: it is as quick as one compiled here
(within 3 %) and needs no compiler. Without one, the source is compiled once
for this processor into the user's cache (`XDG_CACHE_HOME` or ~/.cache).
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import shutil
import stat
import subprocess

import filelock

from cmbjax import errors, files

SOURCE = pathlib.Path(__file__).with_name('winograd.cc')
CARRIED = pathlib.Path(__file__).with_name('compiled')  # in a platform wheel
FLAGS = (
  '-std=c++17',
  '-O3',
  '-ffp-contract=fast',  # fused multiply-add, also where clang would not
  '-fPIC',
  '-shared',
  '-w',  # the headers of XLA are not ours
)
# What a wheel carries, the quickest first: -march, and the flags of Linux
# that a processor must have to run it.
_V3 = 'abm avx avx2 bmi1 bmi2 f16c fma movbe xsave'
VARIANTS = {
  'x86_64': {
    'x86-64-v4': f'{_V3} avx512f avx512bw avx512cd avx512dq avx512vl',
    'x86-64-v3': _V3,
  },
  'aarch64': {'armv8-a': 'asimd'},
}


class Unavailable(Exception):
  """Why there is no library."""


def carried() -> pathlib.Path | None:
  """The best library of the wheel that this processor can run, if any."""
  mine = set(_cpu_lines('flags', 'Features').split())
  for name, needs in VARIANTS.get(platform.machine(), {}).items():
    path = CARRIED / f'{name}.so'
    if path.is_file() and mine.issuperset(needs.split()):
      return path
  return None


def built() -> pathlib.Path:
  """The library from the cache, compiled if it is not there as it was.

  Raises:
    Unavailable: it cannot be compiled, or kept.
  """
  words = command('native')
  version = run([words[0], '--version'])
  jaxlib = importlib.metadata.version('jaxlib')
  processor = _cpu_lines('model name', 'flags', 'Features', 'CPU part')
  key = files.digest(SOURCE, words, version, processor, jaxlib)
  try:
    folder = _own_folder()
    library = folder / f'winograd-{key}.so'
    # One process compiles, the others wait and find what it made.
    with filelock.FileLock(folder / '.lock'):
      if not _as_built(library):
        _build(words, library)
  except (OSError, RuntimeError, errors.InputError) as error:
    raise Unavailable(f'no cache: {error}') from error
  return library


def compiler() -> list[str]:
  """The words that begin a call of the C++ compiler.

  Raises:
    Unavailable: there is none.
  """
  found = os.environ.get('CXX') or next(
    filter(None, map(shutil.which, ('c++', 'g++', 'clang++'))), None
  )
  if found is None:
    raise Unavailable('no C++ compiler was found')
  return found.split()


def command(architecture: str) -> list[str]:
  """The call that compiles for '-march=ARCHITECTURE', but for its files."""
  spec = importlib.util.find_spec('jaxlib')
  (folder,) = spec.submodule_search_locations
  include = os.path.join(folder, 'include')
  march = f'-march={architecture}'
  return [*compiler(), *FLAGS, march, '-I', include]


def run(words: list[str]) -> str:
  """What a command prints.

  Raises:
    Unavailable: it cannot be started, or fails.
  """
  try:
    done = subprocess.run(
      # Seconds on an idle machine; one that hangs must not hang us.
      words,
      capture_output=True,
      text=True,
      timeout=300,
      check=True,
    )
  except (OSError, subprocess.SubprocessError) as error:
    reason = getattr(error, 'stderr', None) or error
    raise Unavailable(f'{words[0]}: {reason}') from error
  return done.stdout


def _build(words, library) -> None:
  """Compiles, and writes the SHA-256 beside it, in the form of `sha256sum`."""
  _sums(library).unlink(missing_ok=True)
  with files.whole(library) as temporary:
    run([*words, str(SOURCE), '-o', str(temporary)])
  line = f'{_sha256(library)}  {library.name}\n'
  files.write_text(_sums(library), line)


def _as_built(library) -> bool:
  """Whether it is a file of this user's, with the SHA-256 beside it."""
  for path in (library, _sums(library)):
    try:
      found = path.lstat()
    except FileNotFoundError:
      return False
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
      return False
  # 64 hex digits begin the line; the name of the file follows.
  return _sums(library).read_bytes()[:64] == _sha256(library).encode()


def _own_folder() -> pathlib.Path:
  """The cache folder, which nobody else may write.

  Raises:
    Unavailable: it belongs to another user.
    OSError: it cannot be made.
    RuntimeError: there is no home folder.
  """
  root = os.environ.get('XDG_CACHE_HOME')
  root = pathlib.Path(root) if root else pathlib.Path.home() / '.cache'
  folder = root / 'cmbjax' / 'kernels'
  folder.parent.mkdir(parents=True, exist_ok=True)
  folder.mkdir(mode=0o700, exist_ok=True)
  found = folder.lstat()
  if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
    raise Unavailable(f'{folder} is no folder of this user; remove it')
  if found.st_mode & 0o022:  # whatever is in it, another may have written
    for path in folder.iterdir():
      path.unlink()
    folder.chmod(0o700)
  return folder


def _sums(library) -> pathlib.Path:
  return library.with_name(library.name + '.sha256')


def _sha256(path) -> str:
  with path.open('rb') as handle:
    return hashlib.file_digest(handle, 'sha256').hexdigest()


def _cpu_lines(*wanted: str) -> str:
  """Lines of /proc/cpuinfo, each once: a home may be shared by machines."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor() or platform.machine()
  return ' '.join(sorted({l for l in lines if l.startswith(wanted)}))
