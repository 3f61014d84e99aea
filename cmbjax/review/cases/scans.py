"""The files of one scan to a case.

Rule: the image that is judged comes first, and what is known of the scan is
what its sidecar says.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from cmbjax import doors, files
from cmbjax.intake import facts
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.review.cases import case as cases_lib
from cmbjax.review.cases.case import Case

_LABELS = {'swi': 'SWI', 'magnitude': cases_lib.MAGNITUDE, 'phase': 'Phase'}


def case_of(scan: ScanFiles, **more: Any) -> Case:
  """A scan of a data set as a case without candidates."""
  magnitude = cases_lib.last(scan.magnitude)
  phase = cases_lib.last(scan.phase)
  made = scan.swi is None and phase is not None
  judged = scan.swi or (None if made else magnitude)
  shown = {'swi': judged, 'magnitude': magnitude, 'phase': phase}
  names = [p.name for p in (scan.swi, magnitude, phase) if p]
  return Case(
    name=scan.name,
    subject=scan.subject,
    session=scan.session,
    sequences=sequences(shown, is_swi=scan.swi is not None or made),
    simulated=more.pop('simulated', scan.sidecar.get('Simulated') is True),
    protocol=protocol(scan.sidecar),
    source=', '.join(names[:1] if scan.swi else names),
    signal=scan if phase and magnitude else None,
    **more,
  )


def sequences(
  shown: Mapping[str, pathlib.Path | None], *, is_swi: bool = True
) -> tuple[cases_lib.Sequence, ...]:
  """The judged image first, and what is another image than it."""
  first, *rest = shown.items()
  label = _LABELS['swi' if is_swi else 'magnitude']
  return (
    cases_lib.Sequence('swi', label, first[1]),
    *(
      cases_lib.Sequence(name, _LABELS[name], path)
      for name, path in rest
      if path is not None and path != first[1]
    ),
  )


def protocol(fields: Mapping[str, Any]) -> dict[str, float | None]:
  """What a sidecar says of field and echo time; None where nothing."""
  names = {'field_t': facts.FIELD, 'echo_time_s': facts.ECHO}
  return {own: facts.known(fields, name) for own, name in names.items()}


def detected(path: pathlib.Path) -> dict[str, Any]:
  """What `cmbjax detect` wrote, and whose networks it was."""
  point = json_beside(path).get('OperatingPoint')
  mark = point.get('fingerprint') if isinstance(point, dict) else None
  return {'labels': path, 'fingerprint': mark if isinstance(mark, str) else ''}


def json_beside(path: pathlib.Path) -> dict[str, Any]:
  """The sidecar of a label image; {} where there is none."""
  beside = path.with_name(path.name.split('.')[0] + '.json')
  return files.read_object(beside) if doors.is_there(beside) else {}
