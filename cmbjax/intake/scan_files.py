"""The files of one scan."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ScanFiles:
  """One scan as files; everything later reads only what is named here."""

  subject: str  # 'sub-01'
  session: str | None  # 'ses-1'
  name: str  # 'sub-01' or 'sub-01_ses-1'; unique in its source
  swi: pathlib.Path | None
  magnitude: tuple[pathlib.Path, ...]  # one per echo, by time; () for none
  phase: tuple[pathlib.Path, ...]  # as many, or ()
  mask: pathlib.Path | None
  sidecar: dict[str, Any]  # of the SWI, else of the (first) magnitude
  cartesian: bool = False  # magnitude and phase hold real and imaginary parts
  # The JSON fields of each image above; nothing later reads a JSON by itself.
  facts: Mapping[pathlib.Path, dict[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  marks: tuple[pathlib.Path, ...] = ()  # what may be the truth, by its name
  left_out: tuple[tuple[pathlib.Path, str], ...] = ()  # its other files, why
  notes: tuple[str, ...] = ()  # what the user has to know about the choice

  def unused(self) -> tuple[tuple[str, str], ...]:
    """`left_out`, each path as seen from the data set or the image's folder."""
    folder = (self.swi or self.magnitude[0]).parent
    for above in (folder, *folder.parents):
      if above.name == self.subject:
        folder = above.parent
    return tuple((os.path.relpath(p, folder), why) for p, why in self.left_out)
