"""One simulated scan to the files of its subject, and their truth.

Rule: the same scan gives the same bytes.
"""

import gzip
import pathlib

import nibabel as nib
import numpy as np

from cmbjax import files
from cmbjax.imaging import swi
from cmbjax.simulate.families import CLASSIC
from cmbjax.simulate.protocols import Protocol
from cmbjax.simulate.scan import SimulatedScan

_ABOUT = {
  'cmb': 'Microbleeds: voxels whose noise-free contrast, SWI without minus '
  'with the lesion, is beyond half of its peak.',
  'mimic': 'What looks like a microbleed and is none: vessels by kind, '
  'calcifications, tumour blood.',
}
_MEANING = {  # of the columns behind index and name
  'x': 'centre of mass, mm, RAS world',
  'y': 'centre of mass, mm, RAS world',
  'z': 'centre of mass, mm, RAS world',
  'volume_mm3': 'voxels times voxel volume',
  'diameter_mm': 'of the sphere of that volume, mm',
  'type': 'what it is',
  'region': 'of the brain',
  'susceptibility_ppm_mm3': 'susceptibility times volume, ppm mm^3',
  'contrast': 'contrast of the darkest voxel',
  'elongation': 'middle over longest axis',
  'flatness': 'shortest over longest axis',
}


def write_images(
  folder: pathlib.Path,
  label: str,
  scan: SimulatedScan,
  *,
  protocol: Protocol,
  made: dict,
) -> None:
  """Magnitude, phase and SWI with their sidecars.

  Args:
    folder: `anat` of the subject.
    label: of the subject.
    scan: what was simulated.
    protocol: how.
    made: further fields of the SWI's sidecar.
  """
  count = len(protocol.echo_times_s)
  top = max((float(m.max()) for m in scan.magnitude), default=1.0)
  for echo, time in enumerate(protocol.echo_times_s[: len(scan.magnitude)]):
    middle, suffix = ('', 'T2starw')
    if count > 1:
      middle, suffix = (f'echo-{echo + 1}_', 'MEGRE')
    facts = {'EchoTime': time, **_sidecar(protocol)}
    if count > 1:
      facts['EchoNumber'] = echo + 1
    stem = folder / f'{label}_{middle}part-mag_{suffix}'
    # 12 bit, like a scanner's magnitude.
    image = np.rint(scan.magnitude[echo] * (4095 / top)).astype(np.int16)
    _write_nifti(stem, image, scan.affine)
    files.write_json(f'{stem}.json', facts)
    stem = folder / f'{label}_{middle}part-phase_{suffix}'
    image = np.rint(scan.phase[echo] * (2048 / np.pi)).astype(np.int16)
    _write_nifti(stem, image, scan.affine, slope=np.pi / 2048)
    files.write_json(f'{stem}.json', {**facts, 'Units': 'rad'})
  unit = swi.scale_to_unit(scan.swi, scan.brain)
  stem = folder / f'{label}_swi'
  _write_nifti(stem, np.rint(unit * 255).astype(np.uint8), scan.affine)
  facts = {'Simulated': True, **made}
  if not scan.bare:
    times = [protocol.echo_times_s[e] for e in protocol.swi_echoes]
    facts = {'EchoTime': times[0] if len(times) == 1 else times}
    facts |= _sidecar(protocol) | protocol.facts | scan.facts | made
  if protocol.families != CLASSIC:
    facts['Families'] = protocol.families._asdict()
  files.write_json(f'{stem}.json', facts)


def _sidecar(protocol: Protocol) -> dict:
  return {
    'MagneticFieldStrength': protocol.field_t,
    'RepetitionTime': protocol.repetition_time_s,
    'FlipAngle': protocol.flip_deg,
    'Manufacturer': protocol.manufacturer,
    'Simulated': True,
  }


def write_truth(folder: pathlib.Path, label: str, scan: SimulatedScan) -> None:
  """Brain, lesions and mimics as label images, and a table of each.

  Args:
    folder: `anat` of the subject's truth.
    label: of the subject.
    scan: what was simulated.
  """
  brain = folder / f'{label}_label-brain_mask'
  _write_nifti(brain, scan.brain.astype(np.uint8), scan.affine)
  voxel = abs(float(np.linalg.det(scan.affine[:3, :3])))
  for name, image, rows in (
    ('cmb', scan.lesions, scan.lesion_rows),
    ('mimic', scan.mimics, scan.mimic_rows),
  ):
    stem = folder / f'{label}_seg-{name}_dseg'
    _write_nifti(stem, image, scan.affine)
    files.write_json(
      f'{stem}.json',
      {'Description': _ABOUT[name], 'Simulated': True, **_explained()},
    )
    table = _table(name, image, rows, scan.affine, voxel)
    files.write_text(f'{stem}.tsv', table)


def _explained() -> dict:
  """The columns of the table, as BIDS wants them described."""
  return {name: {'Description': text} for name, text in _MEANING.items()}


def _table(name, image, rows, affine, voxel_mm3) -> str:
  """Tab separated table with one line per label that has voxels."""
  where = np.nonzero(image)
  order = np.argsort(image[where], kind='stable')
  index = np.stack(where, 1)[order]
  label = image[where][order]
  lines = ['\t'.join(('index', 'name', *_MEANING))]
  for row in rows:
    low, high = np.searchsorted(label, [row.index, row.index + 1])
    if low == high:
      continue
    world = index[low:high] @ affine[:3, :3].T + affine[:3, 3]
    volume_mm3 = (high - low) * voxel_mm3
    diameter = (6 * volume_mm3 / np.pi) ** (1 / 3)
    cells = [row.index, f'{name}-{row.index:03d}']
    cells += [f'{v:.2f}' for v in world.mean(0)]
    cells += [f'{volume_mm3:.2f}', f'{diameter:.2f}', row.kind]
    cells += [row.region or 'n/a', f'{row.moment:.3f}', f'{row.contrast:.3f}']
    cells += [f'{v:.2f}' for v in _shape(world, affine)]
    lines.append('\t'.join(map(str, cells)))
  return '\n'.join(lines) + '\n'


def _shape(world, affine) -> np.ndarray:
  """Middle and shortest over longest axis of voxels [N, 3] in mm, 0..1.

  From the moments, like PyRadiomics' elongation and flatness; a voxel counts
  with its own extent, as if the mask were resampled to small voxels.
  """
  spread = np.cov(world.T, bias=True) if len(world) > 1 else np.zeros((3, 3))
  spread = spread + affine[:3, :3] @ affine[:3, :3].T / 12
  size = np.sqrt(np.linalg.eigvalsh(spread))
  return size[1::-1] / size[2]


def _write_nifti(stem, image, affine, *, slope=1.0) -> None:
  """NIfTI-1 with integer voxels and a scale factor, bytes by content only.

  Written by hand, as nibabel would choose a scale factor of its own.
  """
  header = nib.Nifti1Header()
  header.set_data_dtype(image.dtype)
  header.set_data_shape(image.shape)
  header.set_qform(affine, code=1)
  header.set_sform(affine, code=1)
  header.set_xyzt_units('mm')
  header['scl_slope'], header['scl_inter'] = slope, 0
  header['vox_offset'] = 352
  header['magic'] = b'n+1'
  data = header.binaryblock + b'\0\0\0\0' + image.tobytes('F')
  data = gzip.compress(data, compresslevel=1, mtime=0)
  files.write_bytes(f'{stem}.nii.gz', data)
