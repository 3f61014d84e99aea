"""Drawn protocols: ranges, grids, what stays unseen, and who stays as is."""

import dataclasses
import json
import types

import numpy as np
import pytest

from cmbjax.imaging import volume
from cmbjax.simulate import cohort, protocols, randomised, tissue
from cmbjax.study import config as configs
from cmbjax.study import resolve

# Of subject 1, seed 0: scans that were made before must stay usable.
FINGERPRINTS = {
  'btumor_7t': '353417a94851ea33',
  'btumor_3t': '367f9e53c5fa9097',
  'ccm_3t': '55ab5ce45ee04391',
  'btumor_7t_4echo': 'e24af018e04247ad',
  'svd_15t': '03d86733b509d8c5',
  'clinical_15t': 'bfc863a72f226e80',
  'isotropic_3t': 'b34aa6850019914e',
}


@pytest.fixture(scope='module')
def drawn():
  return [randomised.draw_protocol(n, seed=3) for n in range(1, 401)]


def test_fingerprints_of_the_other_cohorts_are_what_they_were():
  found = {
    name: cohort.fingerprint(protocol, 1, seed=0, slab_mm=None)
    for name, protocol in protocols.PROTOCOLS.items()
  }
  assert found == FINGERPRINTS


def test_the_other_cohorts_have_the_usual_tissue():
  protocol = protocols.get_protocol('btumor_7t')
  assert protocol.tissue('grey') == (0.80, 1.939, 30.1)
  assert protocol.tissue('vein') == (0.9, 2.0, 135.0)
  assert protocol.b0 is None
  assert not protocol.facts


def test_values_lie_in_the_ranges_of_the_field(drawn):
  for one in drawn:
    usual = randomised.SCANNERS[one.field_t]
    *_, last = one.echo_times_s
    assert usual.echo_ms[0] <= 1000 * last + 0.06
    assert 1000 * last - 0.06 <= usual.echo_ms[1]
    assert list(one.echo_times_s) == sorted(set(one.echo_times_s))
    assert last + 0.006 < one.repetition_time_s < 0.085
    assert usual.flip_deg[0] <= one.flip_deg <= usual.flip_deg[1]
    assert 9 <= one.snr[0] == one.snr[1] <= 50
    assert all(0.7 <= share <= 1 for share in one.resolution)
    mean = randomised.DISEASES[one.disease][1]
    assert mean[0] <= one.mean_lesions <= mean[1]
    b0 = np.array(one.b0)
    assert np.linalg.norm(b0) == pytest.approx(1)
    assert b0[2] >= np.cos(np.deg2rad(25)) - 1e-9


def test_every_value_is_drawn_somewhere(drawn):
  share = {
    f: np.mean([p.field_t == f for p in drawn]) for f in randomised.SCANNERS
  }
  for field, wanted in randomised.SCANNERS.items():
    assert share[field] == pytest.approx(wanted.share, abs=0.06)
  assert {p.disease for p in drawn} == set(randomised.DISEASES)
  assert {len(p.echo_times_s) for p in drawn} == {1, 2, 3, 4, 5}
  assert {p.voxel_mm[0] for p in drawn} == set(randomised.IN_PLANE_MM)
  assert len({p.voxel_mm[2] for p in drawn}) >= 8
  single = np.mean([len(p.echo_times_s) == 1 for p in drawn])
  assert 0.6 < single < 0.8


def test_grids_divide_and_are_small_enough(drawn):
  for one in drawn:
    assert one.voxel_mm in randomised.shapes_of(one.field_t)
    for axis in range(3):
      ratio = one.voxel_mm[axis] / one.fine_mm[axis]
      assert ratio == pytest.approx(round(ratio), abs=1e-9)
      assert one.fine_shape[axis] == one.shape[axis] * round(ratio)
      length = one.field_of_view_mm[axis]
      assert length == pytest.approx(one.shape[axis] * one.voxel_mm[axis])
      assert 0 <= length - randomised._HEAD_MM[axis] < 16
    fine = np.prod(one.fine_shape)
    assert fine <= 36e6
    assert len(one.echo_times_s) == 1 or fine * len(one.echo_times_s) <= 72e6


def test_protocols_kept_for_tests_are_never_drawn(drawn):
  kept = [
    protocols.get_protocol(n).voxel_mm for n in ('clinical_15t', 'isotropic_3t')
  ]
  assert set(kept) == set(randomised.HELD_OUT_MM)
  for field in randomised.SCANNERS:
    for voxel in randomised.shapes_of(field):
      off = abs(np.array(voxel) / np.array(kept) - 1).max(1)
      assert (off > 0.2).all()
      assert field > 1.5 or voxel[2] < 4
  assert all(p.voxel_mm not in kept for p in drawn)
  assert randomised.is_held_out(3.0, (0.8, 0.8, 4.0))
  assert randomised.is_held_out(7.0, (0.6, 0.8, 0.8))
  assert randomised.is_held_out(1.5, (0.6, 0.6, 4.0))
  assert not randomised.is_held_out(3.0, (0.6, 0.6, 4.0))
  assert not randomised.is_held_out(3.0, (0.7, 0.7, 1.0))


def test_a_subject_depends_on_seed_and_number_alone(drawn):
  assert randomised.draw_protocol(400, seed=3) == drawn[-1]
  other = [randomised.draw_protocol(n, seed=4) for n in range(1, 31)]
  assert not any(a == b for a, b in zip(drawn, other))
  marks = {
    cohort.fingerprint(p, n, seed=3, slab_mm=None)
    for n, p in enumerate(drawn, start=1)
  }
  assert len(marks) == len(drawn)


def test_contrasts_move_by_at_most_a_tenth(drawn):
  for one in drawn[:50]:
    plain = dataclasses.replace(one, relaxation=())
    for name in ('grey', 'white', 'csf', 'vein'):
      ratio = np.divide(one.tissue(name), plain.tissue(name))
      assert (abs(ratio - 1) <= 0.1 + 1e-9).all()
      assert ratio.tolist() == pytest.approx(dict(one.relaxation)[name])
  factors = np.array([[f for _, f in p.relaxation] for p in drawn])
  assert factors.min() < 0.91
  assert factors.max() > 1.09


def test_the_factor_of_the_susceptibility_reaches_the_tissue(
  drawn, monkeypatch
):
  """One voxel each of grey, white and CSF, without iron."""
  inside = np.ones((3, 1, 1), bool)
  for name in ('_refine', '_texture'):
    monkeypatch.setattr(tissue, name, lambda *_: 0.0 * inside)

  def susceptibility(factor):
    return tissue._relax(
      np.random.default_rng(0),
      np.eye(3),
      head=types.SimpleNamespace(iron_ppm=None, details=None),
      protocol=dataclasses.replace(drawn[0], chi_factor=factor),
      extent=None,
      inside=inside,
    )[2]

  ratio = susceptibility(1.1) / susceptibility(1.0)
  np.testing.assert_allclose(ratio, [1.1] * 3, rtol=1e-5)


def test_cohort_tells_in_its_sidecars_what_was_drawn(tmp_path):
  number = min(
    range(1, 30),
    key=lambda n: np.prod(randomised.draw_protocol(n, seed=3).fine_shape),
  )
  folder = cohort.simulate(
    'randomised', subjects=1, first=number, out=tmp_path, seed=3, jobs=1,
    slab_mm=8.0, families='classic',
  )  # fmt: skip
  label = f'sub-RND{number:03d}'
  one = randomised.draw_protocol(number, seed=3)
  facts = json.loads(
    (folder / label / 'anat' / f'{label}_swi.json').read_text()
  )
  assert facts['MagneticFieldStrength'] == one.field_t
  assert facts['AcquiredVoxelMm'] == list(one.voxel_mm)
  assert facts['EchoTimes'] == list(one.echo_times_s)
  assert facts['RepetitionTime'] == one.repetition_time_s
  assert facts['Disease'] == one.disease
  assert facts['Simulated'] is True
  assert facts['SimulationSeed'] == 3
  top = json.loads((folder / 'dataset_description.json').read_text())
  assert top['Cohort'] == 'randomised'
  assert 'own field' in (folder / 'README').read_text()
  before = facts['SimulationFingerprint']
  assert before == cohort.fingerprint(one, number, seed=3, slab_mm=8.0)
  assert facts['SNR'] == one.snr[0]
  tilt = np.rad2deg(np.arccos(one.b0[2]))
  assert facts['TiltDegrees'] == pytest.approx(tilt, abs=0.01)
  image = volume.load(folder / label / 'anat' / f'{label}_swi.nii.gz')
  np.testing.assert_allclose(image.spacing_mm, one.voxel_mm, atol=1e-4)
  along = image.affine[:3, :3] / image.spacing_mm @ np.array(one.b0)
  np.testing.assert_allclose(along, [0, 0, 1], atol=1e-4)


def test_a_study_learns_from_it():
  """As any other cohort, one entry of a config."""
  config = configs.load('configs/ablation.py')
  study = resolve.study_of(config)
  assert 'randomised' not in study.cohorts
  config.study.strategies.combined.learns = ('btumor_3t', 'randomised')
  config.simulate.subjects.randomised = 8
  study = resolve.study_of(config)
  assert list(study.cohorts) == ['btumor_3t', 'ccm_3t', 'randomised']
  assert study.cohorts['randomised'].protocol == randomised.NAME
