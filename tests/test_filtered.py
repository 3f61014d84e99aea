"""Tests of imaging/filtered.py, and of what is done with a filtered phase."""

import json

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from cmbjax.imaging import filtered, phase, polarity, swi
from cmbjax.imaging.swi_options import SwiOptions
from cmbjax.intake.scan_files import ScanFiles
from cmbjax.reconstruct import scan_image, signal
from tests import heads

SPACING = heads.SPACING_MM


@pytest.fixture(scope='module')
def head():
  return heads.draw(3)


@pytest.fixture(scope='module')
def raw(head):
  """The phase as a scanner has it: a shim that is off, an offset, wraps."""
  x, y, z = np.meshgrid(
    *[np.linspace(-1, 1, n, dtype=np.float32) for n in head.phase.shape],
    indexing='ij',
  )
  return phase.wrap(head.phase + 4 * x + 3 * y**2 + x * y + 2 * z + 1)


FILTERED = {
  'homodyne': lambda h, p: phase.high_pass(h.magnitude, p, SPACING, sigma_mm=3),
  'weak': lambda h, p: phase.high_pass(h.magnitude, p, SPACING, sigma_mm=5),
  'laplacian': lambda h, p: phase.high_pass(
    h.magnitude, p, SPACING, kind='laplacian', sigma_mm=4, mask=h.brain
  ),
  'negated': lambda h, p: -FILTERED['homodyne'](h, p),
  'masked': lambda h, p: FILTERED['homodyne'](h, p) * h.brain,
  '12 bits': lambda h, p: (
    np.rint(FILTERED['homodyne'](h, p) / np.pi * 2048) * np.pi / 2048
  ),
}


@pytest.mark.parametrize('kind', FILTERED)
def test_a_filtered_phase_is_known(head, raw, kind):
  found = FILTERED[kind](head, raw)
  assert filtered.is_high_passed(head.magnitude, found, SPACING)


RAW = {
  'as it is': lambda h, p: p,
  'negated': lambda h, p: -p,
  'masked': lambda h, p: p * h.brain,
  'offset': lambda h, p: phase.wrap(p + 2),
  'unwrapped': lambda h, p: phase.laplacian_unwrap(p, SPACING),
  'noise': lambda h, p: np.random.default_rng(0).uniform(-3, 3, p.shape),
  'a third of it': lambda h, p: phase.laplacian_unwrap(p, SPACING) / 3,
  'a constant': lambda h, p: h.phase + 1,
}


@pytest.mark.parametrize('kind', RAW)
def test_a_raw_phase_is_never_taken_for_filtered(head, raw, kind):
  found = RAW[kind](head, raw)
  assert not filtered.is_high_passed(head.magnitude, found, SPACING)


def test_one_raw_slice_is_enough_to_doubt(head, raw):
  found = FILTERED['homodyne'](head, raw).copy()
  assert filtered.is_high_passed(head.magnitude, found, SPACING)
  found[..., 12] = raw[..., 12]
  found[..., 11] = raw[..., 11]
  assert not filtered.is_high_passed(head.magnitude, found, SPACING)


def test_of_a_small_piece_nothing_is_certain(head, raw):
  part = (slice(20, 76), slice(20, 90))
  found = FILTERED['homodyne'](head, raw)[part]
  assert not filtered.is_high_passed(head.magnitude[part], found, SPACING)


def test_no_signal_is_a_doubt(head):
  blank = np.zeros_like(head.magnitude)
  assert not filtered.is_high_passed(blank, blank, SPACING)


def _save(path, array, fields):
  affine = np.diag([*SPACING, 1.0])
  nib.save(nib.Nifti1Image(np.asarray(array, np.float32), affine), path)
  path.with_suffix('.json').write_text(json.dumps(fields))
  return path


def _read(folder, head, array, **fields):
  m = _save(folder / 'm.nii', head.magnitude, fields)
  p = _save(folder / 'p.nii', array, {'Units': 'rad', **fields})
  return signal.read([m], [p])


def test_a_filtered_phase_is_not_filtered_again_and_said(tmp_path, head, raw):
  local = FILTERED['homodyne'](head, raw)
  read = _read(tmp_path, head, local)
  assert read.is_filtered
  (note,) = read.notes
  assert 'by its voxels' in note
  made = swi.reconstruct(
    read.magnitude, read.phase, SPACING, read.options(), mask=head.brain
  )
  np.testing.assert_allclose(
    made.phase[head.veins], local[head.veins], atol=1e-5
  )


def test_an_asked_for_filter_is_used(tmp_path, head, raw):
  read = _read(tmp_path, head, FILTERED['homodyne'](head, raw))
  asked = SwiOptions(high_pass='laplacian')
  assert read.options(asked) == asked
  assert read.options(SwiOptions(mip_mm=4)).high_pass == 'none'


def test_a_raw_phase_is_filtered_as_ever(tmp_path, head, raw):
  read = _read(tmp_path, head, raw)
  assert not read.is_filtered
  assert read.notes == ()
  assert read.options() == SwiOptions()


def test_a_json_file_against_the_voxels(tmp_path, head, raw):
  types = ['DERIVED', 'PRIMARY', 'P']
  read = _read(
    tmp_path, head, raw, ImageType=types, SeriesDescription='FILT_PHA: SWAN'
  )
  assert not read.is_filtered
  assert any('do not bear that out' in note for note in read.notes)


def test_slices_along_another_axis(tmp_path, head, raw):
  local = FILTERED['homodyne'](head, raw)
  affine = np.diag([SPACING[2], *SPACING[:2], 1.0])
  paths = []
  for name, array in (('m.nii', head.magnitude), ('p.nii', local)):
    image = nib.Nifti1Image(np.moveaxis(array, 2, 0), affine)
    nib.save(image, tmp_path / name)
    (tmp_path / name).with_suffix('.json').write_text('{"Units": "rad"}')
    paths.append(tmp_path / name)
  assert signal.read(paths[:1], paths[1:]).is_filtered


# The sign by the maker, where the image does not show it.


@pytest.mark.parametrize(
  ('maker', 'sign'),
  [
    ('Siemens', -1),
    ('SIEMENS Healthineers', -1),
    ('GE MEDICAL SYSTEMS', 1),
    ('Philips', None),
    ('Gerätebau', None),
    ('', None),
  ],
)
def test_the_usual_sign_of_a_maker(maker, sign):
  assert polarity.usual_sign(maker) == sign


def _veinless(head, raw):
  """No tubes: the sign is anybody's guess."""
  rng = np.random.default_rng(1)
  noise = rng.normal(size=raw.shape).astype(np.float32)
  magnitude = head.brain + 0.02 * np.abs(noise)
  return head._replace(magnitude=magnitude.astype(np.float32))


def _scan(folder, head, raw, **fields):
  plain = _veinless(head, raw)
  m = _save(folder / 'm.nii', plain.magnitude, fields)
  p = _save(
    folder / 'p.nii', phase.wrap(raw - head.phase), {'Units': 'rad', **fields}
  )
  facts = {path: json.loads(path.with_suffix('.json').read_text())
           for path in (m, p)}  # fmt: skip
  return ScanFiles('sub-a', None, 'sub-a', None, (m,), (p,), None, {},
                   facts=facts)  # fmt: skip


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'Manufacturer': 'Siemens'}, "positive, as on its maker's scanners"),
    ({'Manufacturer': 'GE'}, "negative, as on its maker's scanners"),
    ({'Manufacturer': 'Siemens', 'Simulated': True}, 'a guess'),
    ({}, 'a guess'),
  ],
)
def test_an_unclear_sign_is_that_of_the_maker(
  tmp_path, head, raw, fields, said
):
  found = scan_image.load_image(_scan(tmp_path, head, raw, **fields))
  assert any(said in note for note in found.notes)


def test_settings_say_what_was_measured(tmp_path, head, raw):
  scan = _scan(tmp_path, head, raw, Manufacturer='Siemens')
  files = ['--mag', str(scan.magnitude[0]), '--phase', str(scan.phase[0])]
  assert cli.main(['swi', *files, '--out', str(tmp_path / 'out')]) == 0
  (path,) = (tmp_path / 'out').glob('*settings.json')
  settings = json.loads(path.read_text())
  assert settings['PhaseSign']['Used'] == -1
  assert not settings['PhaseSign']['Measured']
  assert any("maker's scanners" in note for note in settings['Notes'])


def test_a_clear_sign_goes_before_the_maker(tmp_path, head, raw):
  m = _save(tmp_path / 'm.nii', head.magnitude, {})
  p = _save(tmp_path / 'p.nii', raw, {'Manufacturer': 'Siemens'})
  read = signal.read([m], [p])
  assert read.usual_sign == -1
  made = swi.reconstruct(
    read.magnitude, read.phase, SPACING, mask=head.brain, usual_sign=-1
  )
  assert made.polarity.certain
  assert made.polarity.sign == 1


def test_the_usual_sign_follows_a_turned_phase(tmp_path, head, raw):
  m = _save(tmp_path / 'm.nii', head.magnitude, {})
  p = _save(tmp_path / 'p.nii', raw, {'Manufacturer': 'GE'})
  assert signal.read([m], [p]).usual_sign == 1
  assert signal.read([m], [p], fix_ge='on').usual_sign == -1
