"""Signs at a place: balls, tubes and fields by hand, and in words."""

import json

import numpy as np
import pytest

from cmbjax.candidates import detector
from cmbjax.detect import classifier, evidence_words, surroundings
from cmbjax.detect.result import Signs
from cmbjax.imaging import dipole, symmetry, volume
from cmbjax.review.log.items import Item, Size
from cmbjax.review.log.record import ReviewRecord
from tests import lesion_data, readings, review_records, scan_results

FINE = (0.5, 0.5, 0.5)
POINT = {'threshold': 0.1, 'definite_threshold': 0.3}


def grid(shape, spacing_mm):
  """Millimetres from the middle voxel along each axis."""
  middle = [n // 2 for n in shape]
  return [
    (np.arange(n) - m).reshape([-1 if a == b else 1 for b in range(3)]) * s
    for a, (n, m, s) in enumerate(zip(shape, middle, spacing_mm))
  ]


def around(image, *, mask=None, spacing_mm=FINE, diameter_mm=3.0):
  mask = np.ones(image.shape, bool) if mask is None else mask
  middle = np.array([[n // 2 for n in image.shape]])
  found = surroundings.measure(
    image, mask, spacing_mm, centre=middle, diameter_mm=np.array([diameter_mm])
  )
  return {name: float(value[0]) for name, value in found._asdict().items()}


def ball(shape=(41, 41, 41), spacing_mm=FINE):
  x, y, z = grid(shape, spacing_mm)
  return np.where(x**2 + y**2 + z**2 <= 1.5**2, 0.2, 0.8).astype(np.float32)


def test_a_ball_is_alone():
  found = around(ball())
  assert found['contrast'] == pytest.approx(0.75)
  assert found['tubularity'] < 0.05
  assert found['one_end'] < 0.05
  assert found['parenchyma'] == pytest.approx(1, abs=0.01)
  assert found['outside'] == 0


@pytest.mark.parametrize('way', [(0, 0, 1), (1, 0, 0), (1, 1, 1)])
def test_a_tube_goes_on_at_both_ends(way):
  place = np.stack(np.broadcast_arrays(*grid((41, 41, 41), FINE)), -1)
  way = np.array(way) / np.linalg.norm(way)
  along = place @ way
  away = np.linalg.norm(place - along[..., None] * way, axis=-1)
  tube = np.where(away <= 1.5, 0.2, 0.8).astype(np.float32)
  assert around(tube)['tubularity'] > 0.9
  end = np.where((away <= 1.5) & (along > -1.5), 0.2, 0.8).astype(np.float32)
  found = around(end)
  assert found['one_end'] > 0.9
  assert found['tubularity'] < 0.1


def test_a_dot_in_two_thick_slices_is_no_tube():
  """2 mm in plane, half of it in each of two slices of 3 mm."""
  image = np.full((41, 41, 11), 0.8, np.float32)
  x, y, _ = grid((41, 41, 1), (0.8, 0.8, 3))
  dot = np.broadcast_to(x**2 + y**2 <= 1, (41, 41, 1))[..., 0]
  image[dot, 5] = image[dot, 6] = 0.3
  found = around(image, spacing_mm=(0.8, 0.8, 3.0), diameter_mm=2.5)
  assert found['tubularity'] < 0.2


def test_the_rim_of_the_brain():
  """Half of what is round a ball at a flat rim is outside."""
  mask = np.ones((41, 41, 41), bool)
  mask[:20] = False
  found = around(ball(), mask=mask)
  assert found['outside'] == pytest.approx(0.5, abs=0.06)
  assert found['parenchyma'] == pytest.approx(0.5, abs=0.06)


def test_directions_are_even():
  way = surroundings.directions(128)
  np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1)
  np.testing.assert_allclose(way.mean(0), 0, atol=0.01)
  np.testing.assert_allclose(way.T @ way / 128, np.eye(3) / 3, atol=0.01)


@pytest.mark.parametrize('sign', [1, -1])
@pytest.mark.parametrize('turn_deg', [0, 30])
def test_the_field_of_a_ball(sign, turn_deg):
  """Schenck 1996, eq. 16: outside 1/3 chi (a / r)^3 (3 cos^2 - 1)."""
  spacing_mm = (0.6, 0.6, 1.5)
  x, y, z = grid((41, 41, 17), spacing_mm)
  turn = np.deg2rad(turn_deg)
  field = np.array([np.sin(turn), 0, np.cos(turn)])
  square = np.maximum(x**2 + y**2 + z**2, 1.0)
  along = x * field[0] + z * field[2]
  change = 0.5 * sign / square**1.5 * (3 * along**2 / square - 1)
  noise = np.random.default_rng(1).normal(0, 0.02, change.shape)
  mask = np.ones(change.shape, bool)
  found = dipole.susceptibility_sign(
    noise - change,  # veins, which add to the field, are negative
    mask,
    spacing_mm,
    centre=np.array([[20, 20, 8]]),
    radius_mm=np.array([1.0]),
    field=field,
  )
  assert found[0] * sign > 0.6
  # A pattern that is turned by 90 degrees is not that of a ball.
  wrong = dipole.susceptibility_sign(
    -change, mask, spacing_mm, centre=np.array([[20, 20, 8]]),
    radius_mm=np.array([1.0]), field=np.array([0, 1.0, 0]),
  )  # fmt: skip
  assert wrong[0] * sign < found[0] * sign - 0.5


def test_without_brain_round_it_no_field_is_known():
  found = dipole.susceptibility_sign(
    np.zeros((9, 9, 9)), np.zeros((9, 9, 9), bool), FINE,
    centre=np.array([[4, 4, 4]]), radius_mm=np.array([1.0]),
    field=np.array([0, 0, 1.0]),
  )  # fmt: skip
  assert np.isnan(found).all()


def test_the_axis_of_the_field_in_an_oblique_scan():
  turn = np.deg2rad(20)
  turned = np.array(
    [
      [1, 0, 0],
      [0, np.cos(turn), -np.sin(turn)],
      [0, np.sin(turn), np.cos(turn)],
    ]
  )
  affine = np.eye(4)
  affine[:3, :3] = turned @ np.diag([0.5, 0.5, 2])
  np.testing.assert_allclose(
    dipole.axis_of_field(affine), [0, np.sin(turn), np.cos(turn)], atol=1e-12
  )


# A scan in MNI space, 2 mm voxels.


AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = (-90, -126, -72)
SHAPE = (91, 109, 91)


def in_mni(places, *, known=True):
  """Dark voxels at MNI mm of a bright head; lesions and candidates there."""
  unit = np.full(SHAPE, 0.8, np.float32)
  index = np.rint((np.array(places) - AFFINE[:3, 3]) / 2).astype(int)
  unit[tuple(index.T)] = 0.3
  image = volume.from_array(unit, AFFINE)
  count = len(index)
  proposed = detector.Candidates(
    index.astype(np.int32),
    np.ones(count),
    np.ones(count, bool),
    [''] * count,
    {},
    ['hard'] * count,
    [place[None] for place in index],
  )
  lesions = [
    scan_results.lesion(n + 1, place, AFFINE, 'definite')
    for n, place in enumerate(index)
  ]
  scan = evidence_words.ScanArrays(
    unit,
    np.ones(SHAPE, bool),
    image,
    None,
    np.eye(4) if known else None,
    symmetry.MirrorPlane(np.array([1.0, 0, 0]), 0, 1, 1, 150)
    if known
    else None,
  )
  return lesions, scan, proposed


def found_at(places, **how):
  lesions, scan, proposed = in_mni(places, **how)
  out = evidence_words.add(lesions, scan, proposed=proposed, point=POINT)
  return [lesion.signs for lesion in out]


def test_a_partner_is_at_the_mirrored_place():
  """The third has none; the last is in the middle of the head."""
  found = found_at([(20, 0, 40), (-22, 0, 40), (40, -40, 20), (2, -60, 40)])
  assert [one.partner for one in found] == ['found', 'found', 'none', 'midline']
  assert [one.partner_mm for one in found] == [2.0, 2.0, None, None]


def test_a_fainter_spot_is_no_partner():
  lesions, scan, proposed = in_mni([(20, 0, 40), (-20, 0, 40)])
  scan.unit[tuple(proposed.centre[1])] = 0.65
  out = evidence_words.add(lesions, scan, proposed=proposed, point=POINT)
  assert [lesion.signs.partner for lesion in out] == ['none', 'none']


def test_without_registration_sides_are_not_known():
  found = found_at([(20, 0, 40), (-20, 0, 40)], known=False)
  assert [(one.partner, one.beside) for one in found] == [('unknown', '')] * 2


def test_nuclei_and_fluid():
  """The frontal horn, white matter over it, and nuclei of either side."""
  found = found_at(
    [(-6, -20, -8), (16, -56, -34), (6, 10, 14), (28, -10, 34), (-20, -4, 0)]
  )
  assert [one.beside for one in found] == [
    'red nucleus', 'dentate nucleus', 'fluid', '', 'pallidum',
  ]  # fmt: skip


def test_rejected_ones_beyond_those_of_a_page_have_none():
  lesions, scan, proposed = in_mni([(20, 0, 40)])
  many = [
    scan_results.lesion(n, proposed.centre[0], AFFINE, 'rejected')
    for n in range(2, 50)
  ]
  out = evidence_words.add(
    [*lesions, *many], scan, proposed=proposed, point=POINT
  )
  assert [x.signs is not None for x in out] == [True] * 41 + [False] * 8


# Words.


def made(**more):
  values = {
    'polarity': 'unknown', 'polarity_certainty': 0.0, 'tubularity': 0.3,
    'one_end': 0.3, 'parenchyma': 0.5, 'outside': 0.0, 'partner': 'unknown',
    'partner_mm': None, 'beside': '',
  }  # fmt: skip
  return Signs(**values | more)


@pytest.mark.parametrize(
  ('more', 'good', 'bad'),
  [
    ({}, [], []),
    (
      {'polarity': 'paramagnetic', 'polarity_certainty': 0.4},
      ['clearly paramagnetic, as blood'],
      [],
    ),
    (
      {'polarity': 'diamagnetic', 'polarity_certainty': 0.2},
      [],
      ['probably diamagnetic, as calcium'],
    ),
    (
      {'tubularity': 0.6, 'one_end': 0.9},
      [],
      ['dark on two sides, as a vessel that runs through'],
    ),
    ({'one_end': 0.9}, [], ['dark on one side, as the end of a vessel']),
    ({'tubularity': 0.1}, ['round and alone'], []),
    ({'parenchyma': 0.9}, ['brain tissue all round'], []),
    ({'parenchyma': 0.9, 'outside': 0.2}, [], ['at the rim of the brain']),
    ({'beside': 'fluid'}, [], ['beside fluid']),
    (
      {'beside': 'pallidum'},
      [],
      ['in or beside the pallidum, which is rich in iron'],
    ),
    (
      {'partner': 'found', 'partner_mm': 2.0},
      [],
      ['a like spot on the other side of the brain'],
    ),
    ({'partner': 'none'}, ['no like spot on the other side'], []),
    ({'partner': 'midline'}, [], []),
  ],
)
def test_words_by_hand(more, good, bad):
  assert evidence_words.pros_and_cons(made(**more)) == (good, bad)


def test_for_and_against_are_apart():
  one = made(
    tubularity=0.1, beside='fluid', polarity='paramagnetic',
    polarity_certainty=0.2,
  )  # fmt: skip
  assert evidence_words.words(one) == (
    'For a microbleed: probably paramagnetic, as blood, round and alone. '
    'Against: beside fluid.'
  )
  assert evidence_words.words(made()) == 'Blood or calcium: not known.'


@pytest.mark.parametrize(
  ('status', 'likelihood', 'said'),
  [
    ('definite', 0.82, 'Definite, as its likelihood 0.82 is above 0.3.'),
    (
      'possible',
      0.2,
      'Possible, as its likelihood 0.20 is above 0.1, not above 0.3.',
    ),
    ('rejected', 0.04, 'Rejected, as its likelihood 0.04 is not above 0.1.'),
    # Rounded to two digits it would seem to be definite.
    (
      'possible',
      0.2999,
      'Possible, as its likelihood 0.2999 is above 0.1, not above 0.3.',
    ),
    ('possible', None, 'Possible, as no network judged it.'),
  ],
)
def test_the_verdict_in_a_sentence(status, likelihood, said):
  lesion = scan_results.lesion(
    1, (1, 1, 1), AFFINE, status, likelihood=likelihood
  )
  assert evidence_words.verdict(lesion, POINT) == said


# Where it is shown.


def test_a_table_a_page_and_a_review_have_it(tmp_path):
  from cmbjax.detect import chain, derivatives
  from cmbjax.intake import scans

  lesion_data.write_weights(tmp_path / 'w')
  lesion_data.write_swi(tmp_path / 'in/a_swi.nii.gz')
  (scan,) = scans.find(tmp_path / 'in').scans
  found = chain.analyse(
    scan,
    classifier.load(tmp_path / 'w'),
    chain.DetectOptions(regions=False),
    threads=1,
  )
  assert all(lesion.signs for lesion in found.result.found)
  table = derivatives.write_scan(tmp_path / 'o', found)[1]
  first = lesion_data.read_table(table)[0]
  own = found.result.found[0].signs
  assert first['why'] == own.why
  assert first['evidence'] == own.evidence
  assert (first['polarity'], first['partner']) == ('unknown', 'unknown')
  assert float(first['tubularity']) == own.tubularity
  about = json.loads(table.with_suffix('.json').read_text())
  assert set(first) - {'index', 'name'} <= set(about)
  (page,) = (tmp_path / 'o').glob('*.html')
  text = page.read_text()
  assert own.why in text
  assert own.evidence in text


def test_a_reader_sees_it_unless_it_is_hidden():
  item = Item(1, 'model', (1, 1, 1), evidence='Against: beside fluid.')
  size = Size(1.0, 1.0, ())
  view = review_records.view()
  shown = item.shown_json(view, size, ('score', 'id'))
  assert shown['evidence'] == 'Against: beside fluid.'
  for blind in ('evidence', 'model'):
    assert item.shown_json(view, size, (blind,))['evidence'] is None


def test_journals_from_before_have_none():
  header = readings.header('ann')
  for row in header['items']:
    del row['evidence']
  assert {i.evidence for i in ReviewRecord(header).items.values()} == {''}
