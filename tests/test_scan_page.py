"""The page of a scan is whole, safe and says what was measured."""

import base64
import hashlib
import json
import re
import time

import numpy as np
import pytest

from cmbjax.report import group_page, lesion_cards, scan_page
from tests import scan_results
from tests.test_report import Page

EVIL = '"><script>alert(1)</script>\'&</style><img src=x onerror=alert(2)>$css'


@pytest.fixture(scope='module')
def result():
  return scan_results.make()


@pytest.fixture(scope='module')
def text(result):
  return scan_page.page(result)


def data_of(text):
  found = re.search(r'id="scan-data">(.*?)</script>', text, re.DOTALL)
  return json.loads(found[1])


def card(text, name):
  return re.search(rf'<li class="card" id="{name}".*?</li>', text, re.S)[0]


def test_page_is_one_valid_file_without_addresses(result, tmp_path):
  path = scan_page.write_scan(result, tmp_path / 'new')
  assert path == tmp_path / 'new' / 'sub-01.html'
  text = path.read_text(encoding='utf-8')
  page = Page(text)
  assert len(set(page.ids)) == len(page.ids)
  for target in page.targets:
    assert target.startswith(('#', 'data:image/png;base64,'))
    if target.startswith('#'):
      assert target[1:] in page.ids
  drawn = re.sub(r'base64,[^"]*', '', text)
  assert not re.search(r'https?:|//[a-z]|url\(|@import', drawn)
  assert list(tmp_path.joinpath('new').iterdir()) == [path]


def test_policy_lets_only_our_script_run(text):
  scripts = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
  assert len(scripts) == 1
  digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest())
  policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
  assert f"script-src 'sha256-{digest.decode()}'" in policy
  assert policy.startswith("default-src 'none'")
  assert 'unsafe-eval' not in policy
  # Nothing that the policy should guard stands before it.
  head = text[: text.index('Content-Security-Policy')]
  assert '<script' not in head
  assert '<style' not in head


def test_head_says_what_a_reader_reports(result, text):
  assert '3 <span class="unit">definite</span>' in text
  assert '2 <span class="unit">possible</span>' in text
  for part in ('3 T', 'TE 28 ms', '1 × 1 × 2 mm', 'sub-01_swi.nii.gz'):
    assert f'>{part}<' in text
  assert 'Simulated scan.' in text
  assert 'Research use only; not a medical device' in text
  assert '1 <span class="unit">of 4</span>' in text
  assert '1–4 definite; grade 2 with the possible ones' in text
  assert '>mild<' in text
  assert 'Moderate with the possible ones. If all were new' in text
  assert 'cannot tell new from old' in text
  assert scan_page.result_hash(result) in text
  places = result.counts['by_location']
  for name in ('lobar', 'deep', 'infratentorial'):
    assert f'<b>{sum(places[name].values())}</b> {name}' in text
  assert 'Pattern of the definite ones: mixed. One lies near a' in text
  unsure = scan_results.changed(
    result, counts=result.counts | {'pattern_certain': False}
  )
  assert 'mixed, uncertain.' in scan_page.page(unsure)


def test_a_real_scan_is_not_called_simulated_and_warnings_are_in_a_box():
  made = scan_results.make(simulated=False, warnings=('the field <b>', 'two'))
  text = scan_page.page(made)
  assert 'imulated' not in re.sub(r'<script.*?</script>', '', text, flags=re.S)
  assert 'Read with care.' in text
  assert '<li>The field &lt;b&gt;</li><li>Two</li>' in text
  assert data_of(text)['simulated'] is False


def test_cards_show_the_numbers_of_their_lesion(result, text):
  for lesion in result.found:
    shown = card(text, lesion.id)
    assert f'<b>{lesion.likelihood:.2f}</b>' in shown
    assert f'<dd>{lesion.volume_mm3:.1f} mm³</dd>' in shown
    assert f'<dd>{lesion.diameter_mm:.1f} mm</dd>' in shown
    assert 'probability 86 %' in shown or 'probability 27 %' in shown
    assert f'data-status="{lesion.status}"' in shown
    assert shown.count('<image') == 4
    assert shown.count('class="own"') == 3
    assert f'{lesion.region} ({lesion.location})' in shown
    assert ('near a border' in shown) == (not lesion.region_certain)
  assert 'likelihood not above 0.1' in card(text, 'candidate-0006')


def test_numbers_of_the_table_stand_under_their_heads(text):
  heads = re.search(r'<thead>.*?</tr>', text, re.S)[0]
  heads = re.findall(r'<th[^>]*>(?:<[^/][^>]*>)*([^<]*)', heads)
  line = re.search(r'<tbody>.*?</tr>', text, re.S)[0]
  shown = dict(zip(heads[1:], re.findall(r'<td[^>]*>([^<]*)', line)))
  wanted = {'Diameter mm': '2.0', 'Feret mm': '2.5', 'Volume mm³': '11.0'}
  wanted |= {'Likelihood': '0.95 ± 0.02', 'Probability': '0.85'}
  assert wanted.items() <= shown.items()


def test_one_id_joins_card_map_table_and_data(result, text):
  for lesion in result.found:
    assert text.count(f' id="{lesion.id}"') == 1
    # Three planes, one slice, the table.
    assert text.count(f'href="#{lesion.id}"') == 5
  listed = data_of(text)['lesions']
  assert [x['id'] for x in listed[:5]] == [x.id for x in result.found]
  assert [x['label'] for x in listed[:5]] == [1, 2, 3, 4, 5]
  assert listed[5]['label'] == 0
  assert listed[0]['centre_mm'] == list(result.found[0].centre_mm)


def test_the_best_rejected_ones_are_folded_with_their_reasons(result, text):
  section = re.search(r'<details id="rejected".*?</details>', text, re.S)[0]
  assert section.startswith('<details id="rejected"><summary>')
  assert section.count('class="card"') == 2 + 3
  order = re.findall(r'<li class="card" id="([^"]*)"', section)
  assert order == [f'candidate-{n:04d}' for n in range(6, 11)]
  assert 'gate: vessel' in card(section, 'candidate-0008')
  assert 'class="own"' not in section


def test_what_a_gate_dropped_is_listed_by_its_score(result):
  table = dict(result.candidates)
  table['score'] = table['score'].copy()
  table['score'][-3:] = (0.1, 0.3, 0.2)
  text = scan_page.page(scan_results.changed(result, candidates=table))
  order = re.findall(r'<li class="card" id="candidate-(\d*)"', text)
  assert order == ['0006', '0007', '0009', '0010', '0008']


def test_what_the_result_names_as_nearest_is_listed_too():
  made = scan_results.make(2, 0, 14)
  assert 'candidate-0018' not in scan_page.page(made)
  named = ({'id': 'candidate-0018'}, {'id': 'candidate-0003'})
  text = scan_page.page(scan_results.changed(made, top_rejected=named))
  assert 'gate: not round' in card(text, 'candidate-0018')
  assert text.count('id="candidate-0003"') == 1


def test_side_and_distance_stand_beside_a_region(result):
  one = scan_results.lesion(
    4, (20, 20, 9), np.eye(4), 'definite', side='left', margin_mm=1.24
  )
  assert lesion_cards.region(one) == (
    'left thalamus (deep), near a border: 1.2 mm'
  )
  other = scan_results.dataclasses.replace(
    one, side='midline', region_certain=True, location='unknown'
  )
  assert lesion_cards.region(other) == 'thalamus'


def test_no_lesion_opens_the_rejected_ones():
  made = scan_results.make(0, 0, 3)
  text = scan_page.page(made)
  Page(text)
  assert '<details id="rejected" open>' in text
  assert 'No microbleed was found.' in text
  assert '0 <span class="unit">definite</span>' in text
  assert 'Pattern of the definite ones: no microbleed.' in text
  assert len(data_of(text)['lesions']) == 6


def test_nothing_at_all_is_still_a_page():
  made = scan_results.make(0, 0, 0, candidates={})
  made = scan_results.changed(made, mask=np.zeros_like(made.mask))
  text = scan_page.page(made)
  Page(text)
  assert 'No microbleed was found.' in text
  assert data_of(text)['lesions'] == []


def test_without_networks_there_are_dashes_instead_of_numbers():
  made = scan_results.make(0, 3, 0)
  bare = [
    scan_results.dataclasses.replace(
      x, likelihood=None, spread=None, probability=None
    )
    for x in made.lesions
  ]
  counted = scan_results.counts.count(bare, classified=False)
  point = {'name': 'none', 'threshold': None, 'definite_threshold': None}
  text = scan_page.page(
    scan_results.changed(
      made, lesions=tuple(bare), counts=counted, operating_point=point
    )
  )
  Page(text)
  assert 'no network was run' in text
  assert 'have no grade' in text
  shown = re.sub(r'<script.*?</script>|<style.*?</style>', '', text, flags=re.S)
  assert not re.search(
    r'\b(None|nan|inf)\b', re.sub(r'base64,[^"]*', '', shown)
  )


def test_text_from_outside_stays_text():
  lesion = scan_results.lesion(
    1, (9, 9, 9), np.eye(4), 'definite', id=EVIL, region=EVIL, note=EVIL
  )
  made = scan_results.make(
    name=EVIL, subject=EVIL, session=EVIL, source=EVIL, lesions=(lesion,),
    warnings=(EVIL,), software={EVIL: EVIL}, operating_point={EVIL: EVIL},
    protocol={'manufacturer': EVIL, 'model': EVIL},
  )  # fmt: skip
  text = scan_page.page(made)
  page = Page(text)
  assert text.count('<script') == 2  # ours: data and code
  assert all('onerror' not in image for image in page.images)
  assert '<img' not in text
  found = data_of(text)
  assert found['scan'] == found['lesions'][0]['id'] == EVIL


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('sub-01_ses-1', 'sub-01_ses-1.html'),
    ('../../etc/passwd', 'etc-passwd.html'),
    ('..', 'scan.html'),
    ('sub 1/é', 'sub-1.html'),
    ('a\x00\nb', 'a-b.html'),
  ],
)
def test_file_names_stay_in_their_folder(name, expected, tmp_path):
  assert scan_page.file_name(name) == expected
  made = scan_results.make(1, 0, 0, shape=(12, 12, 8), name=name)
  assert scan_page.write_scan(made, tmp_path).parent == tmp_path


def test_hash_is_of_what_is_judged(result):
  same = scan_results.changed(result, seconds={'x': 9.0}, software={})
  assert scan_page.result_hash(same) == scan_page.result_hash(result)
  other = scan_results.changed(result, lesions=result.lesions[:-1])
  assert scan_page.result_hash(other) != scan_page.result_hash(result)
  assert re.fullmatch(r'[0-9a-f]{16}', scan_page.result_hash(result))


def test_a_number_is_not_rounded_onto_the_threshold(result):
  near = scan_results.lesion(
    6, (20, 20, 9), np.eye(4), 'rejected', likelihood=0.0991
  )
  text = scan_page.page(scan_results.changed(result, lesions=(near,)))
  assert '<b>0.099</b>' in card(text, 'candidate-0006')


@pytest.mark.parametrize(
  ('value', 'status', 'shown'),
  [(0.1004, 'possible', '0.1004'), (0.4996, 'possible', '0.4996'),
   (0.5004, 'definite', '0.5004'), (0.0996, 'rejected', '0.0996')],
)  # fmt: skip
def test_no_place_contradicts_the_status(result, value, status, shown):
  """The card, the table of those found and the title on the maps."""
  near = scan_results.lesion(
    6, (20, 20, 9), np.eye(4), status, likelihood=value
  )
  text = scan_page.page(scan_results.changed(result, lesions=(near,)))
  assert f'<b>{shown}</b>' in card(text, near.id)
  assert text.count(f'{status}, likelihood {shown}<') == 4
  assert text.count(f'<td>{shown} ±') == (status != 'rejected')


def test_sixty_lesions_of_a_whole_head_are_small_and_quick(tmp_path):
  made = scan_results.make(
    50, 10, 20, shape=(360, 420, 60), spacing_mm=(0.5, 0.5, 2.0)
  )
  start = time.process_time()
  path = scan_page.write_scan(made, tmp_path)
  assert time.process_time() - start < 4  # 0.7 s on an idle machine
  assert path.stat().st_size < 3_000_000


def test_three_hundred_lesions():
  made = scan_results.make(250, 50, 100, shape=(120, 120, 60))
  text = scan_page.page(made)
  Page(text)
  assert text.count('<li class="card"') == 300 + scan_page.MOST_REJECTED
  assert len(text) < 8_000_000


def test_settings_are_words(result):
  point = dict(result.operating_point) | {
    'name': 'high_sensitivity',
    'channels': ['swi', 'phase'],
    'definite_threshold': 0.42620882391929626,
  }
  text = scan_page.page(scan_results.changed(result, operating_point=point))
  for head, value in (
    ('operating point', 'high sensitivity'),
    ('channels', 'swi, phase'),
    ('definite threshold', '0.426'),
  ):
    assert f'<dt>{head}</dt><dd>{value}</dd>' in text


def test_numbers_as_text():
  assert lesion_cards.number(None) == lesion_cards.number(float('nan')) == '–'
  assert lesion_cards.number(-1.25, 1) == '−1.2'
  assert lesion_cards.spoken('lesion-001') == 'Lesion 001'


def rows_of(result):
  first = scan_results.group_row(result) | {'page': 'sub-01.html'}
  second = scan_results.group_row(scan_results.make(0, 0, 1, name='sub-02'))
  return [first, second, {'name': 'sub-03', 'error': 'cut <short>'}]


def test_group_page_has_totals_links_and_failures(result, tmp_path):
  rows = rows_of(result)
  (tmp_path / 'group_cmb.tsv').write_text('scan\n')
  path = group_page.write_group(rows, tmp_path)
  text = path.read_text(encoding='utf-8')
  page = Page(text)
  assert page.targets.count('./sub-01.html') == 2  # strip and table
  assert './group_cmb.tsv' in page.targets
  total = sum(row.get('volume_mm3', 0) for row in rows)
  assert f'<td data-head="Volume mm³">{total:.0f}</td></tr></tfoot>' in (
    text.replace('<td colspan="5"></td>', '')
  )
  counts = {'Definite': '3', 'Possible': '2'}
  counts |= {'Lobar': '1', 'Deep': '2', 'Infratentorial': '2'}
  for part in ('tbody', 'tfoot'):  # the second scan has none
    line = re.search(f'<{part}>.*?</tr>', text, re.S)[0]
    shown = dict(re.findall(r'data-head="([^"]*)"[^>]*>([^<]*)', line))
    assert counts.items() <= shown.items(), part
  assert 'One scan failed.' in text
  assert 'cut &lt;short&gt;' in text
  assert 'A physics simulator made all scans' in text
  assert not re.search(r'https?:|url\(', text)


def test_group_page_without_table_or_rows_or_safe_text(tmp_path):
  text = group_page.page([])
  Page(text)
  assert 'No scan was analysed.' in text
  rows = [
    {'name': EVIL, 'page': 'javascript:alert(1)', 'warnings': (EVIL,)},
    {'name': EVIL, 'error': EVIL},
  ]
  path = group_page.write_group(rows, tmp_path)
  text = path.read_text(encoding='utf-8')
  page = Page(text)
  assert text.count('<script') == 1
  assert '<img' not in text
  assert page.targets == ['#scans', '#failed', './javascript%3Aalert%281%29']
  assert 'group_cmb.tsv' not in text


def test_a_warning_of_many_scans_is_told_once(result):
  rows = [
    scan_results.group_row(result) | {'name': f'sub-{n}', 'warnings': warnings}
    for n, warnings in enumerate(
      [('<far>',), ('<far>', 'thin'), ('<far>', 'thin'), ()]
    )
  ]
  text = group_page.page(rows)
  assert text.count('<dd>&lt;far&gt;</dd>') == 1
  assert text.count('<a href="#w1" title="&lt;far&gt;">W1</a>') == 3
  assert text.count('<li>thin</li>') == 2
  assert '<dt>Scans with warnings</dt><dd>3</dd>' in text


def test_mixed_groups_say_how_many_are_simulated(result):
  real = scan_results.changed(result, simulated=False, name='sub-09')
  rows = [scan_results.group_row(result), scan_results.group_row(real)]
  assert 'made 1 of 2 scans' in group_page.page(rows)
  assert 'Simulated data' not in group_page.page(rows[1:])


def test_row_and_page_agree(result):
  row = scan_results.group_row(result)
  assert (row['definite'], row['possible'], row['counted']) == (3, 2, 5)
  assert row['lobar'] + row['deep'] + row['infratentorial'] == 5
