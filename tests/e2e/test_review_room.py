"""What a reader found wanting in the review page, and its answers."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from cmbjax.review.log import folders
from tests import browser, review_server
from tests.e2e import review_pages

pytestmark = [pytest.mark.e2e, browser.needed]


def test_two_is_phase_and_a_slow_one_is_announced(read, source, tmp_path):
  # Phase beside the magnitude, in a copy of the cohort.
  whole = tmp_path / 'phased'
  shutil.copytree(source, whole)
  for path in whole.glob('sub-*/anat/*part-mag_T2starw.nii.gz'):
    phase = path.with_name(path.name.replace('part-mag', 'part-phase'))
    image = nib.load(path)
    turns = np.asarray(image.dataobj) * (2 * np.pi / 255) - np.pi
    nib.save(nib.Nifti1Image(turns.astype(np.float32), image.affine), phase)
  given = (whole, '--reviews', tmp_path / 'r', '--rater', review_pages.RATER)
  with review_server.running(*given) as server:
    reader = read(server.address)
    buttons = 'document.getElementById("sequences").innerText'
    reader.run(
      'globalThis.honest = fetch; globalThis.fetch = (a, o) => '
      "String(a).endsWith('/phase') ? new Promise(go => { "
      'globalThis.letGo = () => go(honest(a, o)); }) : honest(a, o), 0'
    )
    reader.key('2')
    said = reader.run('document.getElementById("fetching").innerText')
    assert said == 'loading phase…'
    assert 'loading phase…' in reader.run(buttons)
    reader.key('4')  # another wish meanwhile
    reader.wait('cmbjax.sequence.name === "magnitude"')
    path = next(whole.glob('sub-01/anat/*part-mag_T2starw.nii.gz'))
    values = nib.load(path).get_fdata()
    middle = (values.min() + values.max()) / 2  # of what 16 bits hold
    assert reader.run('cmbjax.sequence.intercept') == pytest.approx(middle)
    reader.run('letGo(), 0')
    reader.wait('cmbjax.review.images.has("phase")')
    assert reader.run('cmbjax.sequence.name') == 'magnitude'
    reader.key('2')
    reader.wait('cmbjax.sequence.name === "phase"')
    reader.key('1')
    reader.wait('cmbjax.sequence.name === "swi"')
    assert reader.run('document.getElementById("fetching").hidden')
    reader.key('3')
    assert reader.run('cmbjax.viewer.slab') > 0
    assert reader.heard.complaints == []


def test_marks_do_not_cover_what_they_mark(room):
  reader, _ = room(width=1000, height=700)
  script = (
    '(() => { const v = cmbjax.viewer, d = v.grid.dim, out = [];'
    ' for (const shown of [true, false]) {'
    ' v.setOverlay({shown}); v.refresh(); const c = v.panes[0].canvas,'
    ' b = c.getBoundingClientRect(), x = c.getContext("2d");'
    ' out.push([...cmbjax.review.labels.voxels(1)].map(i => [i % d[0],'
    ' Math.floor(i / d[0]) % d[1], Math.floor(i / d[0] / d[1])])'
    ' .filter(p => p[2] === v.position[2]).map(p => { const q = v.onPage(p);'
    ' return x.getImageData(Math.floor(q[0] - b.x), Math.floor(q[1] - b.y),'
    ' 1, 1).data[2]; })); } v.setOverlay({shown: true}); return out; })()'
  )
  reader.choose(1)
  reader.key('f')
  with_marks, without = reader.run(script)
  assert len(without) > 3
  assert with_marks == without
  # So small that a line would be as wide as a voxel: corners only.
  reader.key('f')
  reader.size(300, 300)
  reader.wait('cmbjax.viewer.map(cmbjax.viewer.panes[1]).scale < 2')
  calls = (
    '(() => { const v = cmbjax.viewer, p = v.panes[1]; let n = 0;'
    ' const old = p.context.clip; p.context.clip = (...a) =>'
    ' { n++; old.apply(p.context, a); };'
    ' v.refresh(); p.context.clip = old; return n; })()'
  )
  assert reader.run(calls) == 0
  reader.run('cmbjax.viewer.setField(15)')
  assert reader.run(calls) > 0


def test_the_way_back_and_the_last_decision(room):
  reader, _ = room()
  position, said = 'cmbjax.viewer.position', 'spoken.textContent'
  reader.run('cmbjax.viewer.jump([20, 20, 3])')
  reader.key('Home')
  assert reader.run(position) == reader.item['ijk']
  reader.run('cmbjax.viewer.jump([20, 20, 3])')
  reader.key('f')
  assert reader.run(position) == reader.item['ijk']
  label = 'document.getElementById("field").innerText'
  assert reader.run(label).startswith('60 mm lesion')
  strip = 'document.querySelector(".last").innerText'
  reader.key('r')
  words = reader.run(strip)
  assert 'Last decision' in words
  assert 'Candidate 1 · rejected' in words
  assert 'What is it?' in words
  reader.key('Shift+3')
  reader.saved()
  assert reader.items()[0]['mimic'] == 'cavernoma'
  reader.choose(12)
  assert reader.run('document.querySelector(".last").hidden')
  reader.key('n')
  assert reader.run(said) == 'This is the last candidate.'


def test_a_damaged_case_is_named_and_the_rest_can_be_read(room, tmp_path):
  folder = folders.folder_of(tmp_path, review_pages.RATER, 'sub-02')
  folder.mkdir(parents=True)
  (folder / 'events.jsonl').write_text('not a journal\nat all\n')
  reader, _ = room()
  assert reader.run('cmbjax.review.meta.name') == 'sub-01'
  assert 'sub-02 cannot be opened' in reader.banner()
  cases = reader.run('document.getElementById("case").textContent')
  assert '⚠ sub-02 (damaged)' in cases
  reader.key('a')
  reader.saved()


def test_likeliest_first_and_definite_only_unless_blinded(room):
  reader, _ = room('--blind', 'none')
  options = '[...document.querySelectorAll("#list option")].map(o => o.value)'
  # Labels without a table have no likelihood: neither is offered.
  assert {'score', 'definite'}.isdisjoint(reader.run(options))
  reader.run(
    'cmbjax.review.items.forEach((i, n) => Object.assign(i,'
    ' {score: n / 20, status: n > 6 ? "definite" : "possible"})),'
    'cmbjax.list.offer(cmbjax.review.items), cmbjax.show()'
  )
  assert {'score', 'definite'} <= set(reader.run(options))
  script = (
    '(() => {{ const s = document.getElementById("{}"); s.value = "{}";'
    ' s.dispatchEvent(new Event("change", {{bubbles: true}}));'
    ' return [...document.querySelectorAll("#rows [data-item]")]'
    '.map(one => Number(one.dataset.item)); }})()'
  )
  assert reader.run(script.format('sort', 'score')) == list(range(12, 0, -1))
  assert reader.run(script.format('filter', 'definite')) == [
    12, 11, 10, 9, 8, 7, 1,
  ]  # fmt: skip


def test_a_phone_shows_whom_the_verdict_is_for(room):
  reader, _ = room(width=400, height=800)
  reader.key('r')
  bar = 'document.querySelector(".verdicts").innerText'
  assert 'Candidate 2 · unread' in reader.run(bar)
  assert reader.run('document.documentElement.scrollHeight') < 2000
  assert reader.run('document.querySelector(".tools").matches(".more")')
  assert reader.run('document.documentElement.scrollWidth <= innerWidth')
  reader.key('b')
  hint = reader.run('document.getElementById("brush-bar").innerText')
  assert 'Ctrl' not in hint
  assert 'Esc' not in hint
  reader.key('Escape')
  reader.click('#list-fold')
  reader.choose(5)
  assert reader.run('scrollY') == 0
  assert not reader.run('document.getElementById("list").matches(".open")')


def test_unread_ones_come_before_the_end(room):
  reader, _ = room()
  reader.key('a')
  reader.click('#finish-open')
  strong = 'document.querySelector("#finish .strong").innerText'
  assert reader.run(strong) == 'Go to next unread'
  reader.click('#finish .strong')
  assert reader.item['verdict'] is None
  assert not reader.run('document.getElementById("finish").open')


def test_a_sweep_goes_across_the_slices_as_measured(read, tmp_path):
  array = np.full((60, 24, 56), 90, np.int16)
  image = tmp_path / 'scan.nii.gz'
  labels = tmp_path / 'labels.nii.gz'
  affine = np.diag([1.0, 3.0, 1.0, 1.0])
  nib.save(nib.Nifti1Image(array, affine), image)
  nib.save(nib.Nifti1Image((array * 0).astype(np.uint8), affine), labels)
  given = (image, '--labels', labels, '--reviews', tmp_path / 'r')
  with review_server.running(*given, '--rater', review_pages.RATER) as server:
    reader = read(server.address)
    assert reader.run('cmbjax.review.meta.slab_axis') == 1
    reader.run('cmbjax.viewer.jump([30, 3, 28])')
    reader.key('s')
    before = reader.run('cmbjax.viewer.position')
    reader.key('ArrowUp')
    assert reader.run('cmbjax.viewer.position') == [
      before[0], before[1] + 1, before[2],
    ]  # fmt: skip
    assert reader.run('cmbjax.sweep.slices().length') == 24
    reader.key('Enter')
    reader.wait('cmbjax.sweep.share() > 0.2')
    reader.key('s')
    assert reader.run('cmbjax.sweep.ms') == 0  # it was reported
    reader.saved()


def test_a_sweep_counts_the_brain_where_it_is_known(read, tmp_path):
  anat = tmp_path / 'scans/sub-01/anat'
  anat.mkdir(parents=True)
  array = np.full((60, 56, 24), 90, np.int16)
  inside = np.zeros(array.shape, np.uint8)
  inside[16:40, 16:40, 6:18] = 1  # 3 x 3 blocks of 12 slices
  affine = np.diag([1.0, 1.0, 3.0, 1.0])
  for name, one in (('swi', array), ('label-brain_mask', inside)):
    nib.save(nib.Nifti1Image(one, affine), anat / f'sub-01_{name}.nii.gz')
  given = (tmp_path / 'scans', '--reviews', tmp_path / 'r')
  with review_server.running(*given, '--rater', review_pages.RATER) as server:
    reader = read(server.address)
    reader.key('s')
    reader.wait('cmbjax.sweep.name === "brain"')
    assert reader.run('cmbjax.sweep.whole') == 3 * 3 * 12
    shares = reader.run('cmbjax.sweep.slices()')
    assert [z for z, one in enumerate(shares) if one is not None] == [
      *range(6, 18)
    ]
    reader.wait(
      'document.getElementById("sweep-share").innerText.endsWith("brain seen")'
    )
    reader.key('s')
    reader.saved()
