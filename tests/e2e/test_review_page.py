"""The review page in a real browser on a real server, as a reader uses it."""

import pathlib
import signal

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from cmbjax.data import cohort as cohort_lib
from cmbjax.review.log import folders, journal
from tests import browser, review_server, small_cohorts
from tests.e2e import review_pages
from tests.e2e.review_pages import lines

pytestmark = [pytest.mark.e2e, browser.needed]


def test_a_case_from_the_first_picture_to_the_export(room, source, tmp_path):
  reader, server = room()
  key = reader.key
  assert reader.spread() > 20
  assert reader.run('document.querySelectorAll("#rows li").length') == 12
  assert 'Simulated scan' in reader.run('document.body.innerText')
  assert 'Research use only' in reader.run('document.body.innerText')
  key('f')
  before = {item['item']: item['ijk'] for item in reader.items()}
  for number, letter in enumerate('aruarararara', 1):
    assert reader.item['item'] == number
    assert reader.run('cmbjax.viewer.position') == before[number]
    key(letter)
  reader.saved()
  words = {'a': 'accept', 'r': 'reject', 'u': 'unsure'}
  assert list(reader.verdicts().values()) == [words[c] for c in 'aruarararara']
  assert reader.run('document.getElementById("progress").textContent') == (
    '12 of 12 read'
  )

  assert reader.run('cmbjax.reading.ms') == 0  # it went with the verdict
  assert reader.run('cmbjax.review.undoable && !cmbjax.review.redoable')

  # How sure, what kind; a lesion of one's own; a stroke.
  key('Shift+2')
  reader.choose(2)
  key('Shift+1')
  missed = small_cohorts.phantom(
    1, num_lesions=12, shape=review_pages.SHAPE
  ).mimic_voxels[0]
  reader.run(f'cmbjax.viewer.jump({missed.tolist()})')
  key('+')
  reader.wait('cmbjax.reading.item.origin === "reader_after_model"')
  added = reader.item['item']
  assert added == 13
  grown = reader.item['voxels']
  key('b')
  reader.run('cmbjax.painting.resize(1), 0')
  assert reader.run('cmbjax.painting.brush.mm') == 4
  x, y = reader.at(reader.run('cmbjax.viewer.position'))
  reader.drag([(x + 20, y), (x + 45, y + 12), (x + 60, y)])
  key('Escape')
  painted = reader.item['voxels']
  assert painted > grown + 5
  reader.saved()
  key('Control+z')
  reader.wait(f'cmbjax.reading.item.voxels === {grown}')
  key('Control+Shift+z')
  reader.wait(f'cmbjax.reading.item.voxels === {painted}')
  reader.choose(12)
  key('0')
  reader.saved()

  # As it was: first unread one, field of view, slab and sequence.
  key('m')
  shown = reader.run('[cmbjax.viewer.field, cmbjax.viewer.slab]')
  reader.reload()
  assert reader.item['item'] == 12
  assert reader.run('[cmbjax.viewer.field, cmbjax.viewer.slab]') == shown
  assert reader.run(f'cmbjax.review.labels.voxels({added}).length') == painted
  key('2')
  reader.wait('cmbjax.sequence.name === "magnitude"')
  assert reader.spread() > 20
  key('a')
  reader.saved()

  reader.click('#finish-open')
  reader.click('#finish button.strong')
  reader.wait('document.querySelector(".banner.good")')
  assert 'completed' in reader.banner()
  assert 'sub-02' in reader.banner()
  reader.click('.banner.good button')
  reader.wait('document.body.dataset.ready === "sub-02"')
  assert reader.strangers() == []
  assert reader.heard.complaints == []
  server.end()

  state = journal.read(
    folders.folder_of(tmp_path, review_pages.RATER, 'sub-01')
  )
  assert state.status == 'completed'
  assert len(state.voxels(added)) == painted
  mask = review_pages.mask(tmp_path)
  assert np.count_nonzero(np.asarray(mask.dataobj) == added) == painted
  written = lines(tmp_path)
  assert all(line['ms'] >= 0 for line in written if line['event'] == 'verdict')
  said = {
    line['item']: line['new']
    for line in written
    if line['event'] in ('mimic', 'certainty')
  }
  assert said == {12: 'probable', 2: 'vessel'}
  made = tmp_path / 'export'
  arguments = ('--reviews', tmp_path, '--rater', review_pages.RATER)
  code = cli.main(
    ['review', 'export', str(source), *map(str, arguments), '--out', str(made)]
  )
  assert code == 0  # the other case, not read, is left out
  (scan,) = cohort_lib.read_cohort(made).scans
  truth = cohort_lib.load_scan(scan).truth
  assert len(truth.lesions) == 7
  assert truth.rejected.any()


def markers(shape, rng, count):
  """Voxels well inside, far from one another."""
  low, high = np.array(shape) // 4, np.array(shape) * 3 // 4
  while True:
    found = rng.integers(low, high, (count, 3))
    apart = np.abs(found[:, None] - found[None]).max(-1)
    if (apart + 99 * np.eye(count) > 3).all():
      return found


@pytest.mark.parametrize(
  ('codes', 'degrees', 'ratio'),
  [
    ('RAS', 0, 1),
    ('LPS', 17, 2),
    ('PIR', 0, 1),
    ('SLA', 12, 2),
    ('AIL', 25, 1),
  ],
)
def test_what_is_painted_is_that_voxel_of_the_file(
  read, tmp_path, codes, degrees, ratio
):
  # One bright voxel per stroke, known by its place in the file alone.
  rng = np.random.default_rng([7, degrees, ratio])
  array = rng.integers(60, 100, (40, 44, 20)).astype(np.int16)
  marked = markers(array.shape, rng, 3)
  image = review_pages.turned(array, (0.9, 1.1, 2.5), codes, degrees=degrees)
  native = np.asarray(image.dataobj).copy()
  labels = np.zeros(native.shape, np.uint16)
  labels[2, 2, 2] = 1
  to_native = nib.orientations.ornt_transform(
    nib.orientations.axcodes2ornt('RAS'),
    nib.orientations.io_orientation(image.affine),
  )
  where = []
  for voxel in marked:
    one = np.zeros(array.shape, np.int8)
    one[tuple(voxel)] = 1
    turned = nib.orientations.apply_orientation(one, to_native)
    where.append(tuple(int(n) for n in np.argwhere(turned)[0]))
    native[where[-1]] = 255
  paths = tmp_path / 'scan.nii.gz', tmp_path / 'labels.nii.gz'
  for path, data in zip(paths, (native, labels)):
    nib.save(nib.Nifti1Image(data, image.affine), path)
  given = (paths[0], '--labels', paths[1], '--reviews', tmp_path / 'r')
  with review_server.running(*given, '--rater', review_pages.RATER) as server:
    reader = read(server.address, device_scale_factor=ratio)
    reader.run('cmbjax.viewer.setWindow(0, 255)')
    reader.key('a')
    reader.key('f')
    reader.key('b')
    for _ in range(9):
      reader.key('-')
    for pane, voxel in enumerate(marked):
      reader.run(f'cmbjax.viewer.jump({voxel.tolist()})')
      reader.run('cmbjax.viewer.setField(60)')
      for other in range(3):
        assert reader.grey(voxel, other) > 240
      step = [0, 0, 0]
      step[[0, 0, 1][pane]] = 1  # a neighbour in the plane is dark
      assert reader.grey(voxel + step, pane) < 200
      reader.drag([reader.at(voxel, pane)])
      assert reader.run('cmbjax.painting.brush.mm') == 1
    reader.key('Control+s')
    reader.wait('document.querySelector(".banner.good")')
    case = reader.run('cmbjax.review.meta.name')
    if degrees:
      assert 'Oblique by' in reader.run('document.body.innerText')
  saved = review_pages.mask(tmp_path / 'r', case)
  np.testing.assert_allclose(saved.affine, image.affine, atol=1e-5)
  painted = {tuple(map(int, one)) for one in np.argwhere(saved.dataobj)}
  assert painted == {*where, (2, 2, 2)}


def test_typing_is_no_verdict(room):
  reader, _ = room()
  reader.key('c')
  reader.page.keyboard.type('a ruban, 0 +bg')
  assert reader.run('document.activeElement.id') == 'comment'
  reader.key('Escape')
  reader.saved()
  assert set(reader.verdicts().values()) == {None}
  assert reader.item['comment'] == 'a ruban, 0 +bg'
  assert len(reader.items()) == 12
  reader.key('Shift+ArrowLeft')
  reader.run('document.getElementById("case").focus()')
  reader.key('a')
  assert set(reader.verdicts().values()) == {None}
  reader.run('document.activeElement.blur()')
  reader.page.keyboard.down('a')
  reader.page.keyboard.down('a')  # held: it repeats
  reader.page.keyboard.up('a')
  assert list(reader.verdicts().values()).count('accept') == 1


def test_two_tabs_do_not_overwrite_each_other(room):
  reader, server = room()
  reader.key('a')
  reader.saved()
  client = server.client
  code, answer = client.act('verdict', rev=1, item=5, value='reject')
  assert code == 200, answer
  reader.key('u')  # of candidate 2, on a state that is old by now
  reader.wait('document.getElementById("banners").textContent')
  assert 'Another tab has changed this case' in reader.banner()
  assert 'unsure, candidate 2' in reader.banner()
  verdicts = reader.verdicts()
  assert verdicts[5] == 'reject'
  assert verdicts[2] is None
  # A stroke is not lost by it.
  reader.choose(7)
  reader.key('b')
  x, y = reader.at(reader.run('cmbjax.viewer.position'))
  code, _ = client.act('verdict', rev=2, item=6, value='accept')
  assert code == 200
  reader.drag([(x, y), (x + 60, y + 30)])
  painted = reader.item['voxels']
  reader.key('Escape')
  reader.saved()
  assert reader.verdicts()[6] == 'accept'
  assert reader.run('cmbjax.review.items.get(7).voxels') == painted
  # The browser itself notices a second tab.
  reader.page.context.new_page().goto(reader.page.url)
  reader.wait('document.querySelector("[data-key=tabs]")')


def test_nothing_is_lost_when_the_server_is_killed(room, source, tmp_path):
  reader, server = room()
  reader.key('a')
  reader.key('r')
  reader.saved()
  port = server.client.port
  server.end(signal.SIGKILL)
  reader.key('u')
  reader.wait('cmbjax.review.state === "failed"')  # its strip moves the list
  reader.choose(4)
  reader.key('b')
  x, y = reader.at(reader.run('cmbjax.viewer.position'))
  reader.drag([(x, y), (x + 60, y + 30)])
  reader.key('Escape')
  painted = reader.item['voxels']
  reader.wait('cmbjax.review.state === "failed"')
  assert 'The server does not answer' in reader.banner()
  assert reader.run('document.querySelector("#saved").textContent').startswith(
    'Not saved'
  )
  given = (source, '--reviews', tmp_path, '--rater', review_pages.RATER)
  with review_server.running(*given, '--port', port) as fresh:
    reader.click('.banner.bad button')
    reader.wait('document.body.textContent.includes("has printed a new link")')
    reader.click('.banner.bad button:nth-of-type(2)')
    reader.page.keyboard.insert_text(fresh.address)
    reader.key('Enter')
    reader.saved()
    assert reader.banner() == ''
    assert list(reader.verdicts().values())[:4] == [
      'accept', 'reject', 'unsure', None,
    ]  # fmt: skip
    assert reader.run('cmbjax.review.items.get(4).voxels') == painted
  state = journal.read(
    folders.folder_of(tmp_path, review_pages.RATER, 'sub-01')
  )
  assert len(state.voxels(4)) == painted
  assert [state.items[n].verdict for n in (1, 2, 3)] == [
    'accept', 'reject', 'unsure',
  ]  # fmt: skip


def test_a_full_disk_is_said_and_edits_are_kept(room):
  reader, _ = room()
  reader.run(
    'globalThis.honest = fetch; globalThis.fetch = (a, o) => '
    "String(a).endsWith('/events') ? Promise.resolve(new Response("
    '\'{"error": "the disk is full."}\', {status: 507})) : honest(a, o), 0'
  )
  reader.key('a')
  reader.key('r')
  reader.wait('cmbjax.review.state === "failed"')
  assert 'the disk is full' in reader.banner()
  assert list(reader.verdicts().values())[:2] == ['accept', 'reject']
  assert reader.run(
    '(() => { const e = new Event("beforeunload", {cancelable: true});'
    ' dispatchEvent(e); return e.defaultPrevented; })()'
  )
  reader.run('globalThis.fetch = honest, 0')
  reader.click('.banner.bad button')
  reader.saved()
  assert not reader.run(
    '(() => { const e = new Event("beforeunload", {cancelable: true});'
    ' dispatchEvent(e); return e.defaultPrevented; })()'
  )
  reader.reload()
  assert list(reader.verdicts().values())[:2] == ['accept', 'reject']


def test_changes_that_never_left_are_found_again(room):
  reader, _ = room()
  reader.run(
    'globalThis.fetch = () => Promise.reject(new TypeError("away")), 0'
  )
  reader.key('r')
  reader.wait('cmbjax.review.state === "failed"')
  address = reader.page.url
  reader.run('cmbjax.review.queue = []')  # a page that dies asks nothing
  reader.page.goto('about:blank')
  reader.page.goto(address)
  reader.ready()
  assert 'never reached the server (reject, candidate 1)' in reader.banner()
  assert reader.verdicts()[1] is None
  reader.click('.banner.warn button')
  reader.saved()
  assert reader.verdicts()[1] == 'reject'


def test_the_unaided_reading_comes_first(room):
  reader, _ = room('--mode', 'first-reader', '--ratings')
  assert reader.items() == []
  assert 'Your own search' in reader.run('document.body.innerText')
  assert 'Candidates are hidden until you say done.' in reader.run(
    'document.getElementById("list").innerText'
  )
  assert reader.run('document.getElementById("case").clientWidth') > 100
  reader.key('+')
  reader.wait('cmbjax.reading.item')
  assert reader.item['origin'] == 'reader'
  reader.key('l')
  reader.key('7')
  assert reader.item['rating'] == 7
  reader.key('Escape')
  reader.key('Delete')
  reader.wait('cmbjax.review.items.size === 0')
  reader.key('Control+z')
  reader.wait('cmbjax.review.items.size === 1')
  reader.key('s')
  reader.key('Enter')
  reader.wait('cmbjax.sweep.share() > 0.2')
  reader.key('s')
  reader.saved()
  reader.click('#done-open')
  reader.click('#done button[value=yes]')
  reader.wait('cmbjax.review.items.size === 13')
  assert {item['origin'] for item in reader.items()} == {'model', 'reader'}
  rows = reader.run('document.getElementById("rows").innerText')
  assert 'Addition 1' in rows
  assert 'Candidate 12' in rows
  assert '100' not in rows
  assert all(item['score'] is None for item in reader.items())


def test_mouse_and_wheel(room):
  reader, _ = room(width=1000, height=700)
  where = 'cmbjax.viewer.position'
  reader.run('cmbjax.viewer.jump([48, 45, 12])')
  x, y = reader.at([48, 45, 12])
  reader.wheel(x, y, -1)
  reader.wait(f'{where}[2] === 13')
  reader.wheel(x, y, 2)
  reader.wait(f'{where}[2] === 12')
  for key, to in (('ArrowUp', 13), ('ArrowLeft', 12)):
    reader.key(key)
    assert reader.run(where)[2] == to
  reader.drag([reader.at([30, 40, 12])])
  reader.wait(f'String({where}) === "30,40,12"')
  # About the pointer: what is under it stays there.
  near = tuple(round(one) for one in reader.at([30, 40, 12]))
  box = 'cmbjax.viewer.panes[0].canvas.getBoundingClientRect()'
  under = (
    f'cmbjax.viewer.point(cmbjax.viewer.panes[0], {near[0]} - {box}.x,'
    f' {near[1]} - {box}.y)'
  )
  before = reader.run(under)
  reader.page.keyboard.down('Control')
  reader.wheel(*near, -6)
  reader.page.keyboard.up('Control')
  reader.wait('cmbjax.viewer.field')
  np.testing.assert_allclose(reader.run(under), before, atol=1e-6)
  reader.key('f')
  reader.wait('!cmbjax.viewer.field')
  window = reader.run('cmbjax.viewer.window')
  reader.drag([(x, y), (x + 80, y)], button='right')
  low, high = reader.run('cmbjax.viewer.window')
  assert high - low > 1.2 * (window[1] - window[0])
  reader.key('w')
  reader.drag([(x, y), (x - 80, y)])
  reader.key('Escape')
  again = reader.run('cmbjax.viewer.window')
  np.testing.assert_allclose(again, window, rtol=0.02, atol=1)


def test_fingers(room):
  reader, _ = room(
    width=400, height=800, device_scale_factor=2, has_touch=True, is_mobile=True
  )
  where = 'cmbjax.viewer.position'
  assert reader.run('document.documentElement.scrollWidth <= innerWidth')
  reader.key('n')  # the images do not scroll away
  assert reader.run('scrollY') == 0
  reader.run('cmbjax.viewer.jump([30, 40, 12])')
  x, y = reader.at([48, 45, 12])
  reader.touch([(x, y)])
  reader.wait(f'{where}[0] === 48 && {where}[1] === 45')
  before = reader.run(where)[2]
  reader.touch([(x, y)], [(x, y + 20)], [(x, y + 45)])
  reader.wait(f'{where}[2] < {before}')
  reader.touch(
    [(x - 20, y), (x + 20, y)], [(x - 40, y), (x + 40, y)],
    [(x - 80, y), (x + 80, y)],
  )  # fmt: skip
  reader.wait('cmbjax.viewer.field && cmbjax.viewer.field < 20')


def serious(reader) -> list[str]:
  """What axe finds wrong, serious or critical."""
  found = reader.run(
    'axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations'
    '.filter(v => ["serious", "critical"].includes(v.impact))'
    '.map(v => v.id + ": " + v.nodes.map(n => n.target + " " + '
    'n.failureSummary).join("; ")))'
  )
  return found


def test_everybody_can_use_it(room):
  axe = pytest.importorskip('axe_core_python')
  script = pathlib.Path(axe.__file__).with_name('axe.min.js').read_text('utf-8')
  reader, _ = room('--ratings', '--blind', 'none')
  reader.run(script + ';0')
  states = {
    'start': lambda: None,
    'rejected': lambda: [reader.key('r'), reader.choose(1)],
    'accepted': lambda: reader.key('a'),
    'brush': lambda: [reader.choose(2), reader.key('b')],
    'dark': lambda: reader.click('#dark'),
    'sweep': lambda: [reader.key('Escape'), reader.key('s')],
    'help': lambda: [reader.key('s'), reader.key('?')],
    'settings': lambda: [
      reader.key('Escape'),
      reader.click('#settings-open'),
    ],
    'keys': lambda: reader.click('#settings-keys'),
    'another key': lambda: [reader.click('#add-next'), reader.key('a')],
    'finish': lambda: [reader.key('Escape'), reader.click('#finish-open')],
    'failed': lambda: [
      reader.key('Escape'),
      reader.run('cmbjax.review.failure = {status: 0}, cmbjax.show()'),
    ],
    'phone': lambda: reader.size(400, 800),
  }
  wrong = {}
  for name, enter in states.items():
    enter()
    wrong[name] = serious(reader)
  assert {name: found for name, found in wrong.items() if found} == {}
  # Verdicts by Tab and Space alone.
  reader.size(1280, 800)
  reader.choose(3)
  reader.run('document.querySelector(".skip").focus()')
  for _ in range(60):
    if reader.run('document.activeElement.dataset.key === "unsure"'):
      break
    reader.key('Tab')
  reader.key('Space')
  assert reader.verdicts()[3] == 'unsure'
