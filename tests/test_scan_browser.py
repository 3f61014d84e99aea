"""The page of a scan in a real browser: fits, takes verdicts, keeps them."""

import contextlib
import json

import pytest

from cmbjax.report import group_page, lesion_cards, scan_page
from tests import browser, scan_results

pytestmark = browser.needed
LONG = 'sub-' + 'x' * 120


@pytest.fixture
def folder(tmp_path):
  made = scan_results.make(3, 2, 2, warnings=('voxels differ',))
  scan_page.write_scan(made, tmp_path)
  return tmp_path


def state(page):
  """What the page keeps."""
  key = page.evaluate(
    'Object.keys(localStorage).find(k => k.startsWith("cmbjax-verdicts-"))'
  )
  return json.loads(page.evaluate(f'localStorage.getItem({json.dumps(key)})'))


def verdicts(page):
  items = state(page)['items'].items()
  return {name: one['verdict'] for name, one in items if one['verdict']}


def current(page):
  return page.evaluate('document.querySelector(".card.current").id')


@pytest.mark.parametrize('width', [1280, 400])
@pytest.mark.parametrize('dark', [False, True])
def test_pages_fit_and_ask_for_nothing(page, folder, width, dark):
  wide = scan_results.make(
    2, 1, 1, name=LONG, source=LONG + '.nii.gz', warnings=(LONG,)
  )
  pages = [
    folder / 'sub-01.html',
    scan_page.write_scan(wide, folder),
    group_page.write_group(
      [
        {'name': LONG, 'definite': 3, 'counted': 3, 'warnings': (LONG,)},
        {'name': 'sub-02', 'definite': 0, 'counted': 0},
        {'name': LONG, 'error': LONG},
      ],
      folder,
    ),
  ]
  for path in pages:
    browser.check_file(page, path, width=width, dark=dark)
  shade = page.evaluate('getComputedStyle(document.body).backgroundColor')
  assert (int(shade[4:].split(',')[0]) < 128) == dark


def test_keys_judge_and_move_on(page, folder):
  page.goto((folder / 'sub-01.html').as_uri())
  assert current(page) == 'lesion-001'
  page.keyboard.type('aur2')
  assert verdicts(page) == {
    'lesion-001': 'accept',
    'lesion-002': 'unsure',
    'lesion-003': 'reject',
  }
  kept = state(page)['items']['lesion-003']
  assert kept['mimic'] == lesion_cards.MIMICS[1][0]
  assert current(page) == 'lesion-004'
  page.keyboard.type('kkjn')
  assert current(page) == 'lesion-004'
  assert page.evaluate('document.getElementById("progress").textContent') == (
    '3 of 5 judged'
  )
  page.keyboard.type('j' * 9)
  assert current(page) == 'lesion-005'  # the rejected ones are folded
  marks = page.evaluate(
    '[...document.querySelectorAll(".at[data-verdict=accept]")]'
    '.map(a => a.dataset.of)'
  )
  assert marks == ['lesion-001'] * 4


def test_undo_takes_back_one_by_one(page, folder):
  page.goto((folder / 'sub-01.html').as_uri())
  page.keyboard.type('ar1')
  page.keyboard.type('z')
  kept = state(page)['items']['lesion-002']
  assert (kept['verdict'], kept['mimic']) == ('reject', None)
  page.keyboard.type('z')
  assert verdicts(page) == {'lesion-001': 'accept'}
  page.keyboard.type('z')
  assert verdicts(page) == {}
  page.keyboard.type('zz')
  assert page.evaluate('document.getElementById("undo").disabled')
  page.keyboard.type('u')
  assert verdicts(page) == {'lesion-001': 'unsure'}
  page.keyboard.type('z')
  assert verdicts(page) == {}


def test_verdicts_survive_a_reload(page, folder):
  page.goto((folder / 'sub-01.html').as_uri())
  page.keyboard.type('ar7')
  page.goto((folder / 'sub-01.html').as_uri())
  assert current(page) == 'lesion-003'  # the first unread one
  pressed = page.evaluate(
    '[...document.querySelectorAll("button[aria-pressed=true][data-verdict],'
    'button[aria-pressed=true][data-mimic]")].map(b => b.dataset.verdict || '
    'b.dataset.mimic)'
  )
  assert pressed == ['accept', 'reject', 'haemorrhagic_lesion']
  # Another result of the same name starts afresh.
  other = scan_results.make(3, 2, 2, source='other.nii.gz')
  scan_page.write_scan(other, folder)
  page.goto((folder / 'sub-01.html').as_uri())
  assert current(page) == 'lesion-001'


def test_typing_is_no_verdict_and_comments_are_kept(page, folder):
  page.goto((folder / 'sub-01.html').as_uri())
  page.keyboard.type('c')
  page.keyboard.type('are u')
  page.evaluate('document.activeElement.blur()')
  assert state(page)['items']['lesion-001']['comment'] == 'are u'
  assert verdicts(page) == {}
  page.click('#rater')
  page.keyboard.type('zaj')
  assert state(page)['rater'] == 'zaj'
  assert verdicts(page) == {}


def test_buttons_and_markers(page, folder):
  page.goto((folder / 'sub-01.html').as_uri())
  page.click('#lesion-004 [data-verdict=reject]')
  page.click('#lesion-004 [data-mimic=iron]')
  assert state(page)['items']['lesion-004']['mimic'] == 'iron'
  page.click('#lesion-004 [data-verdict=accept]')
  kept = state(page)['items']['lesion-004']
  assert (kept['verdict'], kept['mimic']) == ('accept', None)
  page.click('#lesion-004 [data-verdict=accept]')  # again: cleared
  assert verdicts(page) == {}
  page.click('.glass .at[data-of=lesion-002]')
  assert current(page) == 'lesion-002'


def test_sort_and_filter(page, folder):
  page.goto((folder / 'sub-01.html').as_uri())

  def chosen(name, value):
    page.evaluate(
      f'(e => {{ e.value = "{value}"; e.dispatchEvent(new Event("change")) }})'
      f'(document.getElementById("{name}"))'
    )
    return page.evaluate(
      '[...document.querySelectorAll(".card")].filter(c => c.checkVisibility())'
      '.map(c => c.id)'
    )

  largest = [f'lesion-{n:03d}' for n in (5, 4, 3, 2, 1)]
  assert chosen('sort', 'size') == largest
  assert chosen('sort', 'likelihood') == largest[::-1]
  assert chosen('filter', 'possible') == ['lesion-004', 'lesion-005']
  assert chosen('filter', 'rejected')[:2] == [
    'candidate-0006',
    'candidate-0007',
  ]
  page.keyboard.type('j')
  assert current(page) == 'candidate-0006'
  page.keyboard.type('a')
  assert verdicts(page) == {'candidate-0006': 'accept'}


def test_saved_file_follows_the_schema_and_is_loaded_again(
  chromium, page, folder
):
  path = folder / 'sub-01.html'
  page.goto(path.as_uri())
  with page.expect_download() as download:
    page.keyboard.type('ar1ue')
  assert download.value.suggested_filename == 'sub-01_verdicts.json'
  saved = folder / 'sub-01_verdicts.json'
  download.value.save_as(saved)
  found = json.loads(saved.read_text(encoding='utf-8'))
  made = scan_results.make(3, 2, 2, warnings=('voxels differ',))
  assert found['schema'] == scan_page.SCHEMA
  assert found['result'] == scan_page.result_hash(made)
  assert (found['scan'], found['simulated']) == ('sub-01', True)
  rows = found['lesions']
  assert [r['verdict'] for r in rows] == [
    'accept', 'reject', 'unsure', None, None, None, None, None, None, None,
  ]  # fmt: skip
  assert set(rows[0]) == {
    'id', 'label', 'status', 'centre_mm', 'verdict', 'mimic', 'comment',
    'time', 'ms',
  }  # fmt: skip
  assert rows[1]['mimic'] == 'vessel'
  assert rows[0]['time'].endswith('Z')
  assert rows[3]['time'] is None
  assert [e['new'] for e in found['events']] == [
    'accept', 'reject', 'vessel', 'unsure',
  ]  # fmt: skip
  with contextlib.closing(chromium.new_page()) as other:
    other.goto(path.as_uri())
    assert other.evaluate('localStorage.length') == 0
    other.set_input_files('#load-file', saved)
    browser.wait(other, 'localStorage.length')
    assert set(verdicts(other).values()) == {'accept', 'reject', 'unsure'}
    saved.write_text(json.dumps(found | {'result': '0' * 16}))
    other.set_input_files('#load-file', saved)
    browser.wait(other, 'message.textContent')
    assert other.inner_text('#message').startswith(
      'These verdicts are about another result'
    )


def test_a_foreign_script_does_not_run(page, folder):
  path = folder / 'sub-01.html'
  text = path.read_text(encoding='utf-8')
  path.write_text(text.replace('</main>', '<script>evil = 1</script></main>'))
  heard = browser.Heard(page)
  page.goto(path.as_uri())
  assert page.evaluate('typeof evil') == 'undefined'
  assert any('Content Security Policy' in c for c in heard.complaints)
