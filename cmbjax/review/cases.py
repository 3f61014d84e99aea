"""One scan under review: its images, its candidates, and what is known of it.

Rule: names are found first and voxels are read when a case is opened, so that
hundreds of cases cost nothing; every array is in RAS voxel order.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cmbjax.imaging import bids, volume


class Sequence(NamedTuple):
  """One image that can be shown."""

  name: str  # in URLs: 'swi', 'phase' or 'magnitude'
  label: str  # for people
  path: pathlib.Path | None  # None: made from `Case.signal` when opened


@dataclasses.dataclass(frozen=True)
class Case:
  """One scan, as files.

  Attributes:
    name: 'sub-01' or 'sub-01_ses-1'; unique among the cases of a source.
    subject, session: 'sub-01', 'ses-1' or None.
    sequences: the one that is judged ('swi') first.
    labels: label image or mask of the candidates; None: see `points`.
    points: table of points, where there is no label image; None: nothing.
    rows: of the table beside the labels, by column name, texts as they are.
    simulated: the scan is not of a person.
    protocol: field_t and echo_time_s, None where nobody says.
    fingerprint: of the networks that found the candidates; '' where none.
    source: names of the image files, without folders.
    signal: magnitude and phase, where the SWI has to be made from them.
    notices: sentences that the reader should see.
  """

  name: str
  subject: str
  session: str | None
  sequences: tuple[Sequence, ...]
  labels: pathlib.Path | None = None
  points: pathlib.Path | None = None
  rows: tuple[Mapping[str, str], ...] = ()
  simulated: bool = False
  protocol: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  fingerprint: str = ''
  source: str = ''
  signal: bids.ScanFiles | None = None
  notices: tuple[str, ...] = ()

  @property
  def image(self) -> pathlib.Path | None:
    """The file that is judged; None when it is made from `signal`."""
    return self.sequences[0].path


class Loaded(NamedTuple):
  """The voxels and candidates of one case."""

  image: volume.Volume  # what is judged, RAS voxel order
  labels: np.ndarray  # int32 [X, Y, Z], 0 none; n is items[n - 1]
  items: tuple[Mapping[str, Any], ...]  # see `load`
  notices: tuple[str, ...]
  image_sha256: str
  labels_sha256: str  # '' where there is no label image
