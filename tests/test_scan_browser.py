"""The page of a scan in a real browser: fits, takes verdicts, keeps them."""

import json
import time

import pytest

from cmbjax.report import group_page, lesion_cards, scan_page
from tests import browser as browser_lib
from tests import scan_results

pytestmark = pytest.mark.skipif(
  browser_lib.find() is None, reason='no Chromium on the PATH'
)
LONG = 'sub-' + 'x' * 120


@pytest.fixture(scope='module')
def browser():
  with browser_lib.opened() as one:
    yield one


@pytest.fixture
def folder(tmp_path):
  made = scan_results.make(3, 2, 2, warnings=('voxels differ',))
  scan_page.write_scan(made, tmp_path)
  return tmp_path


def state(browser):
  """What the page keeps."""
  key = browser.run(
    'Object.keys(localStorage).find(k => k.startsWith("cmbjax-verdicts-"))'
  )
  return json.loads(browser.run(f'localStorage.getItem({json.dumps(key)})'))


def verdicts(browser):
  items = state(browser)['items'].items()
  return {name: one['verdict'] for name, one in items if one['verdict']}


def current(browser):
  return browser.run('document.querySelector(".card.current").id')


def fresh(browser, path, **more):
  browser.forget()
  browser.open(path, **more)


@pytest.mark.parametrize('width', [1280, 400])
@pytest.mark.parametrize('dark', [False, True])
def test_pages_fit_and_ask_for_nothing(browser, folder, width, dark):
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
    browser.open(path, width=width, dark=dark)
    browser.run('document.querySelectorAll("details").forEach(d => d.open = 1)')
    assert browser.run('document.documentElement.scrollWidth <= innerWidth'), (
      path
    )
    asked = [a for a in browser.requests() if not a.startswith('data:')]
    assert asked == [path.as_uri()]
    assert browser.complaints() == []
  shade = browser.run('getComputedStyle(document.body).backgroundColor')
  assert (int(shade[4:].split(',')[0]) < 128) == dark


def test_keys_judge_and_move_on(browser, folder):
  fresh(browser, folder / 'sub-01.html')
  assert current(browser) == 'lesion-001'
  browser.press('aur2')
  assert verdicts(browser) == {
    'lesion-001': 'accept',
    'lesion-002': 'unsure',
    'lesion-003': 'reject',
  }
  kept = state(browser)['items']['lesion-003']
  assert kept['mimic'] == lesion_cards.MIMICS[1][0]
  assert current(browser) == 'lesion-004'
  browser.press('kkjn')
  assert current(browser) == 'lesion-004'
  assert browser.run('document.getElementById("progress").textContent') == (
    '3 of 5 judged'
  )
  browser.press('j' * 9)
  assert current(browser) == 'lesion-005'  # the rejected ones are folded
  marks = browser.run(
    '[...document.querySelectorAll(".at[data-verdict=accept]")]'
    '.map(a => a.dataset.of)'
  )
  assert marks == ['lesion-001'] * 4


def test_undo_takes_back_one_by_one(browser, folder):
  fresh(browser, folder / 'sub-01.html')
  browser.press('ar1')
  browser.press('z')
  kept = state(browser)['items']['lesion-002']
  assert (kept['verdict'], kept['mimic']) == ('reject', None)
  browser.press('z')
  assert verdicts(browser) == {'lesion-001': 'accept'}
  browser.press('z')
  assert verdicts(browser) == {}
  browser.press('zz')
  assert browser.run('document.getElementById("undo").disabled')
  browser.press('u')
  assert verdicts(browser) == {'lesion-001': 'unsure'}
  browser.press('z')
  assert verdicts(browser) == {}


def test_verdicts_survive_a_reload(browser, folder):
  fresh(browser, folder / 'sub-01.html')
  browser.press('ar7')
  browser.open(folder / 'sub-01.html')
  assert current(browser) == 'lesion-003'  # the first unread one
  pressed = browser.run(
    '[...document.querySelectorAll("button[aria-pressed=true][data-verdict],'
    'button[aria-pressed=true][data-mimic]")].map(b => b.dataset.verdict || '
    'b.dataset.mimic)'
  )
  assert pressed == ['accept', 'reject', 'haemorrhagic_lesion']
  # Another result of the same name starts afresh.
  other = scan_results.make(3, 2, 2, source='other.nii.gz')
  scan_page.write_scan(other, folder)
  browser.open(folder / 'sub-01.html')
  assert current(browser) == 'lesion-001'


def test_typing_is_no_verdict_and_comments_are_kept(browser, folder):
  fresh(browser, folder / 'sub-01.html')
  browser.press('c')
  browser.press('are u')
  browser.run('document.activeElement.blur()')
  assert state(browser)['items']['lesion-001']['comment'] == 'are u'
  assert verdicts(browser) == {}
  browser.click('#rater')
  browser.press('zaj')
  assert state(browser)['rater'] == 'zaj'
  assert verdicts(browser) == {}


def test_buttons_and_markers(browser, folder):
  fresh(browser, folder / 'sub-01.html')
  browser.click('#lesion-004 [data-verdict=reject]')
  browser.click('#lesion-004 [data-mimic=iron]')
  assert state(browser)['items']['lesion-004']['mimic'] == 'iron'
  browser.click('#lesion-004 [data-verdict=accept]')
  kept = state(browser)['items']['lesion-004']
  assert (kept['verdict'], kept['mimic']) == ('accept', None)
  browser.click('#lesion-004 [data-verdict=accept]')  # again: cleared
  assert verdicts(browser) == {}
  browser.click('.glass .at[data-of=lesion-002]')
  assert current(browser) == 'lesion-002'


def test_sort_and_filter(browser, folder):
  fresh(browser, folder / 'sub-01.html')

  def chosen(name, value):
    browser.run(
      f'(e => {{ e.value = "{value}"; e.dispatchEvent(new Event("change")) }})'
      f'(document.getElementById("{name}"))'
    )
    return browser.run(
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
  browser.press('j')
  assert current(browser) == 'candidate-0006'
  browser.press('a')
  assert verdicts(browser) == {'candidate-0006': 'accept'}


def test_saved_file_follows_the_schema_and_is_loaded_again(browser, folder):
  path = folder / 'sub-01.html'
  fresh(browser, path)
  browser.call(
    'Browser.setDownloadBehavior', behavior='allow', downloadPath=str(folder)
  )
  browser.press('ar1ue')
  saved = folder / 'sub-01_verdicts.json'
  end = time.monotonic() + 120
  while not saved.exists() and time.monotonic() < end:
    time.sleep(0.05)
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
  fresh(browser, path)
  assert browser.run('localStorage.length') == 0
  node = browser.call(
    'DOM.querySelector',
    nodeId=browser.call('DOM.getDocument')['root']['nodeId'],
    selector='#load-file',
  )['nodeId']
  browser.call('DOM.setFileInputFiles', files=[str(saved)], nodeId=node)
  browser.run('new Promise(done => setTimeout(done, 200))')
  assert set(verdicts(browser).values()) == {'accept', 'reject', 'unsure'}
  other = found | {'result': '0' * 16}
  saved.write_text(json.dumps(other))
  browser.call('DOM.setFileInputFiles', files=[str(saved)], nodeId=node)
  browser.run('new Promise(done => setTimeout(done, 200))')
  message = browser.run('document.getElementById("message").textContent')
  assert message.startswith('These verdicts are about another result')


def test_a_foreign_script_does_not_run(browser, folder):
  path = folder / 'sub-01.html'
  text = path.read_text(encoding='utf-8')
  path.write_text(text.replace('</main>', '<script>evil = 1</script></main>'))
  browser.open(path)
  assert browser.run('typeof evil') == 'undefined'
  assert any('Content Security Policy' in c for c in browser.complaints())
