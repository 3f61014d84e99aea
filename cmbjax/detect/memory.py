"""The header of a scan to the memory that its analysis takes.

Rule: a guess is a little too large, so that as many processes run as fit.
"""

import math
from collections.abc import Sequence

from cmbjax import workers
from cmbjax.errors import InputError, NoInputError
from cmbjax.imaging import nifti
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image
from cmbjax.reconstruct.channels import ONLY_SWI, measured

# Peaks of scans of 3 to 149 million voxels and 1 to 5 echoes, a fifth more.
_BASE_GB = 0.8  # Python, JAX, the networks
_SWI_BYTES = 14.0  # of each voxel that is searched
_BESIDE_BYTES = 4.0  # of each voxel and further channel
_START_GB = 0.4  # Python and JAX, as long as an SWI is made
_SIGNAL_BYTES = 14.0  # of each voxel of one echo; others are read later
_SUMS_BYTES = 8.0  # of each voxel, where there are several echoes
_HELD_BYTES = 6.0  # of each voxel of a file that holds several
_UNKNOWN_GB = 2.0  # of a file that has no header to go by


def gigabytes(scan: ScanFiles, channels: Sequence[str] = ONLY_SWI) -> float:
  """Peak of a process that analyses a scan, in 1e9 bytes; reads one header.

  Args:
    scan: its files.
    channels: that the networks see.
  """
  signal = scan_image.signal_files(scan, channels)
  first = scan.swi or next(iter(signal), None)
  try:
    shape = nifti.open_image(first).shape if first else ()
  except (InputError, NoInputError):  # said when the scan is read
    return _UNKNOWN_GB
  voxels = math.prod(map(int, shape[:3]))
  echoes = math.prod(map(int, shape[3:]))
  searched = _SWI_BYTES + _BESIDE_BYTES * len(measured(channels))
  made = 0.0
  if signal:
    made = _SIGNAL_BYTES + _BESIDE_BYTES * len(measured(channels))
  if len(signal) > 2 or echoes > 1:
    made += _SUMS_BYTES
  if echoes > 1:
    made += _HELD_BYTES * echoes * len(signal)
  return max(
    _BASE_GB + searched * voxels / 1e9, _START_GB + made * voxels / 1e9
  )


def processes(needed: Sequence[float]) -> int:
  """How many at once fit into the free memory, at least 1.

  Args:
    needed: GB of each scan; the largest ones may meet.
  """
  free = workers.memory_gb()[1]
  if free is None:
    return len(needed)
  total = 0.0
  for count, one in enumerate(sorted(needed, reverse=True)):
    total += one
    if total > free:
      return max(count, 1)
  return max(len(needed), 1)
