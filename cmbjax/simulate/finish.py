"""What people do to a scan afterwards: resampling, masks, few grey levels.

Rule: a family takes a whole `scan.SimulatedScan` and gives one back, truth and
images on one grid. Without magnitude and phase it is a finished SWI.
"""


def leave(rng, scan, protocol):
  """Family 'none': the scan as it is.

  Args:
    rng: numpy generator.
    scan: what was simulated.
    protocol: how.
  """
  del rng, protocol
  return scan
