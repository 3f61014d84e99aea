"""A hurried reader with habits of her own: other keys, other keyboards, two
taps, two tabs, a reload in the middle of a stroke, repeats to be found out."""

import json

import pytest

from cmbjax.review.server import desk
from tests import browser
from tests.e2e import review_pages
from tests.e2e.review_pages import lines

pytestmark = [pytest.mark.e2e, browser.needed]
SAID = 'document.getElementById("bindings-said").innerText'


def stroke(reader, key, code, **more):
  """A key of another keyboard: what it prints, and where it lies."""
  fields = {'key': key, 'code': code, 'bubbles': True, 'cancelable': True}
  reader.run(
    'document.body.dispatchEvent(new KeyboardEvent("keydown",'
    f' {json.dumps(fields | more)})), 0'
  )


def test_keys_can_be_bound(room, tmp_path):
  reader, _ = room(width=900, height=600)
  key = reader.key
  for selector in ('#keys-change', '#finish-open'):  # nothing is out of sight
    if selector == '#keys-change':
      key('?')
    right, bottom = reader.run(
      f'(b => [b.right, b.bottom])(document.querySelector("{selector}")'
      '.getBoundingClientRect())'
    )
    assert 0 < right <= 900
    assert 0 < bottom <= 600
  reader.click('#keys-change')
  # Taken by another action: told, and only taken on demand.
  reader.click('#change-accept')
  key('r')
  assert 'R is the key of "reject" already' in reader.run(SAID)
  assert reader.run('document.activeElement.innerText') == 'Use it here'
  key('Enter')
  assert '"reject" has no key now' in reader.run(SAID)
  reader.click('#change-reject')
  for taken, why in (
    ('Control+t', 'Ctrl T belongs to the browser'),
    ('Alt+a', 'a key with Alt, cannot be used'),
  ):
    key(taken)
    assert why in reader.run(SAID)
  key('d')
  reader.click('#change-sequence4')
  key('Escape')  # leaves the question, not the window
  assert reader.run('document.getElementById("bindings").open')
  key('Escape')
  assert not reader.run('document.querySelector("dialog[open]")')
  for letter in 'rda':
    key(letter)
  reader.saved()
  assert list(reader.verdicts().values())[:3] == ['accept', 'reject', None]
  # Said wherever a key is said, after a reload too.
  for again in (False, True):
    if again:
      reader.reload()
    shown = reader.run('document.querySelector(".verdicts").innerText')
    assert shown.split() == ['Accept', 'R', 'Reject', 'D', 'Unsure', 'U']
    assert reader.run(
      'document.querySelector(".verdict.reject")'
      '.getAttribute("aria-keyshortcuts")'
    ) == 'D'  # fmt: skip
    key('?')
    assert 'D\nreject' in reader.run(
      'document.getElementById("keys").innerText'
    )
    key('Escape')
  kept = json.loads((tmp_path / review_pages.RATER / desk.SETTINGS).read_text())
  assert kept['keys'] == {'accept': ['r'], 'reject': ['d']}
  key('?')
  reader.click('#keys-change')
  reader.click('#bindings-reset')
  key('Escape')
  key('a')
  reader.saved()
  assert reader.verdicts()[3] == 'accept'


def test_keys_of_other_keyboards_and_of_a_spoilt_file(room, tmp_path):
  folder = tmp_path / review_pages.RATER
  folder.mkdir()
  (folder / desk.SETTINGS).write_text(
    '{"keys": {"unsure": ["y", "ctrl+w", 7], "fly": ["z"], "next": ["y"],'
    ' "leave": ["x"]}, "prefs": {"slab": "thick", "smooth": true}}'
  )
  reader, _ = room()
  told = reader.banner()
  assert 'Ctrl W belongs to the browser' in told
  assert '"fly" is no action' in told
  assert '"leave" is no action' in told
  assert 'Y is on "unsure" already' in told
  assert reader.run('[cmbjax.prefs.slab, cmbjax.prefs.smooth]') == [10, True]
  sequence = 'cmbjax.sequence.name'
  # AZERTY: letters where they are printed, digits with Shift.
  stroke(reader, 'q', 'KeyA')
  assert reader.item['item'] == 1
  stroke(reader, 'a', 'KeyQ')
  stroke(reader, "'", 'Digit4')
  reader.wait(f'{sequence} === "magnitude"')
  stroke(reader, '&', 'Digit1')
  reader.wait(f'{sequence} === "swi"')
  stroke(reader, '2', 'Digit2', shiftKey=True)  # how sure of the last one
  reader.saved()
  assert reader.items()[0]['certainty'] == 'probable'
  # QWERTZ: Z lies elsewhere, brackets need AltGr (here Ctrl and Alt as well).
  reader.key('b')
  for sign, place in (('[', 'Digit8'), (']', 'Digit9')):
    before = reader.run('cmbjax.painting.brush.mm')
    more = {'modifierAltGraph': True, 'ctrlKey': True, 'altKey': True}
    stroke(reader, sign, place, **more)
    assert (reader.run('cmbjax.painting.brush.mm') < before) == (sign == '[')
  stroke(reader, 'z', 'KeyY', ctrlKey=True)
  reader.wait('cmbjax.review.items.get(1).certainty === null')
  # Another alphabet: where the letter would be.
  reader.key('Escape')
  reader.run('cmbjax.reading.choose(2)')
  stroke(reader, 'к', 'KeyR')
  reader.key('y')
  reader.saved()
  assert list(reader.verdicts().values())[1:3] == ['reject', 'unsure']


def test_two_taps_and_floods(room):
  reader, _ = room()
  key = reader.key
  tap = (
    'document.body.dispatchEvent(new KeyboardEvent("keydown",'
    ' {key: "a", code: "KeyA", bubbles: true}))'
  )
  reader.run(f'{tap}, {tap}, 0')  # nobody can have looked at the second one
  reader.saved()
  assert list(reader.verdicts().values())[:2] == ['accept', None]
  for letter in 'ruarur':
    key(letter)
  reader.saved()
  read = reader.verdicts()
  for letter in 'zy':
    for _ in range(12):  # more than there is to take back
      key(f'Control+{letter}')
    reader.run('cmbjax.reading.turn')
    reader.saved()
    assert reader.banner() == ''
    found = reader.verdicts()
    assert found == (dict.fromkeys(read) if letter == 'z' else read)
  reader.run('cmbjax.viewer.jump([50, 50, 3])')
  for name, count in (('+', 13), ('Delete', 12)):
    for _ in range(3):
      key(name)
    reader.wait(f'cmbjax.review.items.size === {count}')
    reader.saved()
    assert len(reader.items()) == count
  # A verdict while the pen is down: the stroke is the older one.
  reader.choose(9)
  key('b')
  voxels = reader.item['voxels']
  x, y = reader.at(reader.run('cmbjax.viewer.position'))
  reader.press([(x + 20, y), (x + 50, y + 10)])
  key('r')
  reader.mouse.move(x + 70, y + 10)
  reader.mouse.up()
  reader.saved()
  nine = reader.run('cmbjax.review.items.get(9)')
  assert (nine['verdict'], nine['voxels'] > voxels) == ('reject', True)
  assert reader.banner() == ''
  # Keys between two cases are for neither.
  key('Escape')
  before = reader.verdicts()
  pressed = ''.join(
    f'press({json.dumps(name)}), ' for name in ('PageDown', 'a', 'r', 'u')
  )
  reader.run(  # all of them before the case can have come
    '((press) => (' + pressed + '0))((key) => document.body.dispatchEvent('
    'new KeyboardEvent("keydown", {key, code: key, bubbles: true})))'
  )
  reader.wait('document.body.dataset.ready === "sub-02"')
  reader.saved()
  assert set(reader.verdicts().values()) == {None}
  key('PageUp')
  reader.wait('document.body.dataset.ready === "sub-01"')
  assert reader.verdicts() == before
  assert reader.heard.complaints == []


def test_reload_in_a_stroke_a_second_tab_and_sleep(room):
  reader, server = room()
  reader.choose(5)
  reader.key('b')
  x, y = reader.at(reader.run('cmbjax.viewer.position'))
  reader.press([(x + 20, y), (x + 50, y + 10)])
  painted = reader.run('cmbjax.review.labels.voxels(5).length')
  assert painted > reader.item['voxels']
  asked = []
  reader.page.once('dialog', lambda one: (asked.append(one.type), one.accept()))
  reader.reload()
  assert asked == ['beforeunload']  # "Leave?"
  assert reader.run('cmbjax.review.items.get(5).voxels') == painted
  assert reader.banner() == ''
  reader.mouse.up()
  # Another tab acts: this one follows, and its next action counts.
  rev = reader.run('cmbjax.review.rev')
  code, answer = server.client.act('verdict', rev=rev, item=7, value='unsure')
  assert code == 200, answer
  reader.run(
    'new BroadcastChannel("cmbjax-review:anna").postMessage('
    f'{{number: 0, rev: {answer["rev"]}}}), 0'
  )
  reader.wait('cmbjax.review.items.get(7).verdict === "unsure"')
  reader.choose(1)
  reader.key('a')
  reader.saved()
  assert reader.verdicts()[1] == 'accept'
  assert 'Another tab' not in reader.banner()
  # Nobody answers, as after sleep: given up, said, and sent again.
  reader.run(
    'globalThis.honest = fetch, globalThis.hung = 0,'
    ' globalThis.fetch = (a, o) => String(a).endsWith("/events") && !hung++'
    ' ? new Promise((_, no) => o.signal.addEventListener("abort",'
    ' () => no(o.signal.reason))) : honest(a, o),'
    ' globalThis.patient = AbortSignal.timeout, AbortSignal.timeout = (ms) =>'
    ' patient.call(AbortSignal, ms / 200), 0'
  )
  reader.key('r')
  reader.wait('cmbjax.review.state === "failed"')
  assert 'does not answer' in reader.banner()
  reader.saved()
  assert reader.verdicts()[2] == 'reject'


def test_a_repeat_looks_and_acts_as_any_other(room, tmp_path):
  reader, _ = room('--repeat', '25', '--seed', '5')
  items = {item['item']: item for item in reader.items()}
  assert len(items) == 15
  again = next(n for n, item in items.items() if item['runs'])
  first = items[again]['outline']
  same = ('ijk', 'volume_mm3', 'voxels', 'flags', 'score', 'id', 'status')
  assert {items[again][k] == items[first][k] for k in same} == {True}
  options = '[...document.querySelectorAll("#sort option")].map(o => o.value)'
  assert reader.run(options) == ['order']  # sizes would lay both together
  assert reader.run(
    '[...document.querySelectorAll("#rows canvas, #rows .facts")]'
    '.every(one => getComputedStyle(one).display === "none")'
  )
  reader.choose(first)
  reader.key('f')
  picture = (
    '(() => { const v = cmbjax.viewer; v.refresh(); return v.panes.map(p =>'
    ' p.canvas.toDataURL()).join(); })()'
  )
  before = reader.run(picture)
  reader.key('r')  # goes on, so the outline is somebody else's
  reader.saved()
  reader.run(f'cmbjax.viewer.jump({items[first]["ijk"]})')
  colours = f'[{first}, {again}].map(n => cmbjax.viewer.verdict(n))'
  assert reader.run(colours) == ['other', 'other']
  reader.choose(again)
  assert reader.run(picture) == before  # to the last pixel
  # Drawn on, taken back: here, and not at its original.
  reader.key('b')
  x, y = reader.at(reader.run('cmbjax.viewer.position'))
  reader.drag([(x + 20, y), (x + 50, y + 10)])
  reader.key('Escape')
  reader.saved()
  counts = (
    f'[{first}, {again}].map(n => [cmbjax.review.items.get(n).voxels,'
    ' cmbjax.review.labels.voxels(n).length])'
  )
  (one, other), (drawn, shown) = reader.run(counts)
  assert one == other == items[first]['voxels']
  assert drawn == shown > one
  reader.reload()
  assert reader.run(counts) == [[one, other], [drawn, shown]]
  reader.choose(again)
  reader.key('Control+z')
  reader.saved()
  assert reader.item['item'] == again
  assert reader.run(counts) == [[one, one], [one, one]]
  assert reader.banner() == ''
  header = lines(tmp_path)[0]
  assert header['order'] == 'random'
