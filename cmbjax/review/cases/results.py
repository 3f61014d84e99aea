"""Results of `cmbjax detect` to cases.

Rule: the image of a case is the one that was analysed; where it was moved, it
is known again by its name and the grid of its labels.
"""

import pathlib

from cmbjax import doors, files
from cmbjax.errors import InputError
from cmbjax.imaging import volume
from cmbjax.intake import sidecars
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.review.cases import scans
from cmbjax.review.cases.case import Case


def records(out: pathlib.Path) -> list[pathlib.Path]:
  """What detect noted of each scan; none: no results are there."""
  return sorted((out / 'logs').glob('sub-*.json'))


def cases(
  out: pathlib.Path, images: pathlib.Path | None
) -> tuple[list[Case], list[str]]:
  """The cases of results, and sentences on those that cannot be used.

  Args:
    out: the OUT of `cmbjax detect`.
    images: where the images are now, when they were moved.
  """
  made, bad = [], []
  names = _by_name(images) if images is not None else None
  for path in records(out):
    record = files.read_json(path)
    if not isinstance(record, dict) or 'mark' not in record:
      bad.append(f'{path.stem}: cmbjax detect did not finish it; run it again.')
      continue
    try:
      made.append(_result(out, path.stem, record, names))
    except InputError as error:
      bad.append(str(error))
  return made, bad


def _by_name(folder):
  found: dict[str, list[pathlib.Path]] = {}
  some = folder.rglob('*.nii*') if folder.is_dir() else [folder]
  for path in sorted(some):
    found.setdefault(path.name, []).append(path)
  return found


def _result(out, name, record, names) -> Case:
  try:
    written = [out / path for path in record['files']]
    noted = {
      kind: [pathlib.Path(path) for path in paths][-1:]
      for kind, paths in record['images'].items()
    }
  except (KeyError, TypeError, AttributeError) as error:
    raise InputError(
      f'{name}: its record below {out} is damaged ({error!r}); run cmbjax '
      'detect again.'
    ) from error
  labels = [p for p in written if p.name.endswith('_seg-cmb_dseg.nii.gz')]
  if not labels or not doors.is_there(labels[0]):
    raise InputError(
      f'{name}: its label image is not below {out}; run cmbjax detect again.'
    )
  fields = scans.json_beside(labels[0])
  shown = {
    kind: _image(out, noted.get(kind, []), names, labels[0])
    for kind in ('swi', 'magnitude', 'phase')
  }
  if shown['swi'] is None:
    paths = noted.get('swi')
    wanted = paths[0].name if paths else 'its image'
    where = 'is not below --images' if names is not None else 'was moved'
    raise InputError(
      f'{name}: {wanted} {where}; give --images FOLDER, where it is now.'
    )
  cartesian = record.get('cartesian') is True
  if cartesian and None in (shown['magnitude'], shown['phase']):
    shown |= {'magnitude': None, 'phase': None}  # one part alone is neither
  magnitude, phase = shown['magnitude'], shown['phase']
  subject, _, session = name.partition('_')
  scan = ScanFiles(
    subject,
    session or None,
    name,
    swi=shown['swi'],
    magnitude=(magnitude,) if magnitude else (),
    phase=(phase,) if phase else (),
    mask=None,
    sidecar=fields,
    cartesian=cartesian,
    facts={p: sidecars.read(p) for p in (magnitude, phase) if p},
  )
  return Case(
    name=name,
    subject=subject,
    session=session or None,
    sequences=scans.sequences(
      shown, is_swi=fields.get('Protocol', {}).get('made') != 'magnitude'
    ),
    simulated=fields.get('Simulated') is True,
    protocol=scans.protocol(fields),
    source=', '.join(map(str, fields.get('Sources', ()))),
    signal=scan if magnitude and phase else None,
    **scans.detected(labels[0]),
  )


def _image(out, paths, names, labels) -> pathlib.Path | None:
  """Where an image is; where names are given, found by them."""
  there = [p for p in (out / path for path in paths) if doors.is_there(p)]
  if not there and names is not None:
    moved = [p for path in paths for p in names.get(path.name, ())]
    there = _on_grid(moved, labels)
  return there[0] if there else None


def _on_grid(paths, labels):
  """Of several files of one name, the one on the grid of the labels."""
  if len(paths) < 2:
    return paths
  like = volume.grid_of(labels)
  fits = [p for p in paths if volume.same_grid(volume.grid_of(p), like)]
  if len(fits) > 1 and len({files.digest(p) for p in fits}) > 1:
    raise InputError(
      f'{len(fits)} different files could be the image ('
      + ', '.join(map(str, fits))
      + '); give a narrower --images.'
    )
  return fits[:1] or paths[:1]
