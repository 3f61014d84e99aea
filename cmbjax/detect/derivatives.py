"""The result of a scan to BIDS derivatives, on the scan's own grid.

Rule: a file says how its numbers came about, and that they are for research.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import cmbjax
from cmbjax import delimited, doors, files
from cmbjax.detect.chain import Analysis
from cmbjax.detect.result import Lesion, ScanResult
from cmbjax.errors import InputError
from cmbjax.imaging import slabs, slices, volume
from cmbjax.intake import bids

IGNORED = (  # not (yet) in BIDS; no trailing slash, the validator ignores those
  '*.html',
  'logs',
  'group_*.tsv',
  '*_desc-candidates.tsv',
  '*_swi.nii.gz',
  '*_swi.json',
)

DESCRIPTION = 'dataset_description.json'
NAME = 'Cerebral microbleeds found by cmbjax (research use only)'
RECONSTRUCTED = 'reconstructed'  # what Protocol.made says of such an SWI
JUDGED = '_space-orig_desc-judged_swi.nii.gz'
_WHITE = 4095  # 12 bits, as scanners write; viewers window it well

COLUMNS = {  # of *_dseg.tsv behind index and name, with what they mean
  'x': 'Centre of mass, mm, RAS world',
  'y': 'Centre of mass, mm, RAS world',
  'z': 'Centre of mass, mm, RAS world',
  'i': 'Voxel index of the candidate in this image, from 0',
  'j': 'Voxel index of the candidate in this image, from 0',
  'k': 'Voxel index of the candidate in this image, from 0',
  'status': 'definite or possible',
  'likelihood': 'Mean over the networks, 0 to 1',
  'spread': 'Standard deviation over the networks',
  'probability': 'Likelihood, calibrated on out-of-fold predictions',
  'volume_mm3': 'Volume of the outline; grows with field times echo time',
  'diameter_mm': 'Diameter of the sphere of that volume',
  'feret_mm': 'Longest diameter in plane, of the largest slice',
  'extent_x_mm': 'Size of the bounding box along the first RAS-ordered axis',
  'extent_y_mm': 'Size of the bounding box along the second axis',
  'extent_z_mm': 'Size of the bounding box along the third axis',
  'contrast': '(local brain - darkest voxel) / local brain',
  'category': 'single slice, travelling (as an oblique vessel), or hard',
  'region': 'Region of the brain, by registration to MNI',
  'side': 'left, right, midline or unknown',
  'location': 'lobar, deep, infratentorial or unknown',
  'margin_mm': 'Distance to the next location',
  'region_certain': 'false where registration could have got it wrong',
  'counted': 'false above 10 mm (diameter_mm or feret_mm)',
  'field_t': 'Field strength in tesla, beside the sizes that depend on it',
  'echo_time_s': 'Echo time in seconds, beside the sizes that depend on it',
  'polarity': 'paramagnetic (as blood), diamagnetic (as calcium) or unknown, '
  'by the phase',
  'polarity_certainty': 'How much the phase round it is that of a ball, 0 to 1',
  'tubularity': 'How dark it goes on at both ends: 0 not, 1 as a vessel',
  'one_end': 'The same at the darker end',
  'parenchyma': 'Share of what is round it that looks like brain',
  'outside': 'Share of what is round it outside of the brain mask',
  'partner': 'A like candidate on the other side: found, none, midline (it is '
  'its own mirror image) or unknown',
  'partner_mm': 'From the mirrored place to the partner',
  'beside': 'fluid, or the iron-rich nucleus that it is in or beside',
  'why': 'Why it is definite or possible',
  'evidence': 'What is for and against a microbleed there, in words',
  'note': 'Why it is not counted, and other remarks',
}


def refuse_others(out: pathlib.Path) -> None:
  """Keeps results out of a data set that others made.

  Raises:
    InputError: `out` is a data set, and not one of `cmbjax detect`; its
      description would be lost, and its files mixed with results.
  """
  if doors.is_there(out / DESCRIPTION) and not is_ours(out):
    raise InputError(
      f'{out}: is a data set of something else ({DESCRIPTION} is not of '
      '`cmbjax detect`); give a folder of its own for the results, for '
      f'example {out / "derivatives" / "cmbjax"}.'
    )


def is_ours(folder: pathlib.Path) -> bool:
  """Whether `cmbjax detect` wrote its results there."""
  path = folder / DESCRIPTION
  return doors.is_there(path) and files.read_object(path).get('Name') == NAME


def write_dataset(out: pathlib.Path, source: pathlib.Path) -> None:
  """dataset_description.json and .bidsignore, once for all scans."""
  home = 'https://pypi.org/project/cmbjax'
  made = {'Name': 'cmbjax', 'Version': cmbjax.__version__, 'CodeURL': home}
  bids.write_description(
    out,
    NAME,
    kind='derivative',
    extra={'GeneratedBy': [made], 'SourceDatasets': [{'URL': source.name}]},
  )
  files.write_text(out / '.bidsignore', '\n'.join(IGNORED) + '\n')


def write_scan(
  out: pathlib.Path,
  analysis: Analysis,
  *,
  candidates: bool = False,
  steps: bool = False,
  page: bool = True,
) -> list[pathlib.Path]:
  """Writes everything of one scan; the paths, the label image first.

  Args:
    out: folder of the derivative data set.
    analysis: of the scan.
    candidates: the table of all candidates too.
    steps: the images of the steps in between too.
    page: the report of the scan too.
  """
  result, image = analysis.result, analysis.image
  # A run that was killed left them; others write to `out` right now.
  for stale in (
    *_anat(out, result).glob('.partial-*'),
    *out.glob(f'.partial-????????{result.name}.html'),
  ):
    stale.unlink(missing_ok=True)
  stem = _anat(out, result) / f'{result.name}_space-orig_seg-cmb_dseg'
  written = [_with(stem, '.nii.gz'), _with(stem, '.tsv'), _with(stem, '.json')]
  volume.save(written[0], result.labels, image)
  rows = [_row(lesion, image, result.protocol) for lesion in result.found]
  files.write_text(written[1], tsv(['index', 'name', *COLUMNS], rows))
  files.write_json(written[2], _sidecar(result))
  if candidates:
    written.append(_anat(out, result) / f'{result.name}_desc-candidates.tsv')
    table = result.candidates
    names = list(table)
    lines = zip(*(np.asarray(table[name]).tolist() for name in names))
    rows = [dict(zip(names, line)) for line in lines]
    files.write_text(written[-1], tsv(names, rows))
  if result.protocol['made'] == RECONSTRUCTED:
    # Nobody could look at it otherwise: the input holds its parts only.
    written += _judged(out, analysis)
  if steps:
    written += _steps(out, analysis)
  if page:
    from cmbjax.report import scan_page

    written.append(pathlib.Path(scan_page.write_scan(result, out)))
  return written


class ListedLesion(NamedTuple):
  """A row of *_dseg.tsv, as far as other programs of ours need it."""

  index: int  # value in the label image
  id: str
  status: str
  likelihood: float | None
  region: str
  counted: bool = True


def read_lesions(path: pathlib.Path) -> list[ListedLesion]:
  """The rows of a *_dseg.tsv.

  Raises:
    InputError: it is not there, or is not such a table.
  """
  if not doors.is_there(path):
    raise InputError(f'{path}: not found; run `cmbjax detect` again.')
  try:
    return [
      ListedLesion(
        int(row['index']),
        row['name'],
        row['status'],
        float(row['likelihood']) if row['likelihood'] else None,
        row['region'] or 'n/a',
        row['counted'] == 'true',
      )
      for row in delimited.read(path).dicts()
    ]
  except (KeyError, ValueError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
      f'{path}: is not a table of `cmbjax detect` ({error!r}).'
    ) from error


def tsv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
  """A BIDS table: tabs, 'n/a' for what is missing, true and false."""
  lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
  return ''.join(delimited.line(cells) + '\n' for cells in lines)


def _cell(value: Any) -> str:
  if isinstance(value, bool | np.bool_):
    return 'true' if value else 'false'
  if isinstance(value, float | np.floating):
    # 7 digits: all of a float32, so that tables of two machines are equal.
    return f'{value:.7g}' if np.isfinite(value) else 'n/a'
  if value is None or value == '':
    return 'n/a'
  if isinstance(value, list | tuple):
    return 'x'.join(_cell(one) for one in value)
  return ' '.join(str(value).split())


def _row(
  lesion: Lesion, image: volume.Volume, protocol: Mapping[str, Any]
) -> dict[str, Any]:
  fields = dataclasses.asdict(lesion)
  native = image.to_native_index(lesion.centre_index)
  return {
    'index': lesion.index,
    'name': lesion.id,
    **dict(zip('xyz', lesion.centre_mm)),
    **dict(zip('ijk', (int(v) for v in native))),
    **{name: fields[name] for name in COLUMNS if name in fields},
    **(lesion.signs._asdict() if lesion.signs else {}),
    **{f'extent_{a}_mm': side for a, side in zip('xyz', lesion.extent_mm)},
    'field_t': protocol['field_t'],
    'echo_time_s': protocol['echo_time_s'],
  }


def _sidecar(result: ScanResult) -> dict[str, Any]:
  """Of the label image and its table."""
  from cmbjax.report import scan_page

  known = {name: {'Description': text} for name, text in COLUMNS.items()}
  return {
    'Description': 'Cerebral microbleeds, one label per lesion.',
    'Sources': result.source.split(', '),
    'SpatialReference': 'orig',
    'Manual': False,
    'Simulated': result.simulated,
    'ResultHash': scan_page.result_hash(result),  # as its page says
    'GeneratedBy': [{'Name': 'cmbjax detect', 'Version': cmbjax.__version__}],
    'MagneticFieldStrength': result.protocol['field_t'],
    'EchoTime': result.protocol['echo_time_s'],
    'Protocol': dict(result.protocol),
    'OperatingPoint': dict(result.operating_point),
    'Counts': dict(result.counts),
    'Warnings': list(result.warnings),
    'FilesLeftOut': [
      {'File': path, 'Reason': why} for path, why in result.left_out
    ],
    'TopRejected': [dict(row) for row in result.top_rejected],
    'Seconds': dict(result.seconds),
    'Software': dict(result.software),
    'Notice': 'Research use only; not a medical device.',
    **known,
  }


def _judged(out: pathlib.Path, analysis: Analysis) -> list[pathlib.Path]:
  """The SWI that was made and judged, for those who look at it later."""
  result = analysis.result
  path = _anat(out, result) / f'{result.name}{JUDGED}'
  judged = np.empty(result.swi.shape, np.uint16)
  for rows in slabs.of(len(judged)):
    judged[rows] = np.rint(result.swi[rows] * _WHITE)
  volume.save(path, judged, analysis.image)
  about = {
    'Description': 'The SWI that was made from magnitude and phase and judged; '
    f'{_WHITE} is its 99.5th percentile in the brain',
    'Sources': result.source.split(', '),
    'SpatialReference': 'orig',
    'Simulated': result.simulated,
  }
  beside = path.with_name(path.name.replace('.nii.gz', '.json'))
  files.write_json(beside, about)
  return [path, beside]


_STEPS = {
  'desc-scaled_swi': 'The SWI as it is analysed, 0 to 1',
  'desc-flat_swi': 'The same, divided by its slow changes',
  'desc-radialsymmetry_swi': 'Radial symmetry of dark spots, per slice',
  'seg-candidates_dseg': 'Regions of the candidates that passed all gates',
  'desc-detect_mask': 'Brain mask of the search',
}


def _steps(out: pathlib.Path, analysis: Analysis) -> list[pathlib.Path]:
  """What the chain saw on the way: scaled image, brain, regions, map."""
  result = analysis.result
  start = _anat(out, result) / f'{result.name}_space-orig'
  written = []
  for name, text in _STEPS.items():
    # Each image is gone before the next one is made.
    written.append(start.with_name(f'{start.name}_{name}.nii.gz'))
    volume.save(written[-1], _step(name, analysis), analysis.image)
    about = {'Description': text, 'SpatialReference': 'orig'}
    if name.endswith('_mask'):
      about['Type'] = 'Brain'
    written.append(start.with_name(f'{start.name}_{name}.json'))
    files.write_json(written[-1], about | {'Simulated': result.simulated})
  return written


def _step(name: str, analysis: Analysis) -> np.ndarray:
  """One image of `_STEPS`."""
  result = analysis.result
  if name == 'desc-scaled_swi':
    return result.swi
  if name == 'desc-detect_mask':
    return result.mask
  if name == 'seg-candidates_dseg':
    grown = np.zeros(result.swi.shape, np.uint16)
    for number, region in enumerate(analysis.candidates.regions, start=1):
      if analysis.candidates.kept[number - 1]:
        grown[tuple(region.T)] = number
    return grown
  return _searched(analysis, name == 'desc-radialsymmetry_swi')


def _searched(analysis: Analysis, symmetry: bool) -> np.ndarray:
  """The flat image, or its radial symmetry, made as the candidate stage did."""
  from cmbjax.candidates import detector, radial_symmetry

  result, image = analysis.result, analysis.image
  seen = slices.last(image)
  unit, mask = (
    volume.in_order(array, image, seen) for array in (result.swi, result.mask)
  )
  flat = detector.flatten(unit, seen.spacing_mm, mask, gates=detector.Gates())
  if symmetry:  # of each slice alone, so it may take the place of the slice
    for part in slabs.of(flat.shape[2]):
      flat[..., part] = radial_symmetry.radial_symmetry(
        flat[..., part], seen.spacing_mm, mask=mask[..., part]
      )
  return volume.in_order(flat, seen, image)


def _anat(out: pathlib.Path, result: ScanResult) -> pathlib.Path:
  return out.joinpath(result.subject, result.session or '', 'anat')


def _with(stem: pathlib.Path, extension: str) -> pathlib.Path:
  return stem.with_name(stem.name + extension)
