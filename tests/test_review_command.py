"""`cmbjax review` as a person calls it: the verb, its server, its ends."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from cmbjax import cli
from cmbjax.errors import InputError
from cmbjax.review import command as review_command
from cmbjax.review.cases import sources
from cmbjax.review.log import folders, journal
from cmbjax.review.server import desk
from tests import lesion_data, review_kills, review_server, small_cohorts
from tests.messages import printed, says


def here(*arguments):
  return cli.main(['review', *map(str, arguments)])


def failed(capsys, code, words, *arguments):
  """Called so, it ends with `code` and one line that has `words`."""
  assert here(*arguments) == code
  errors = capsys.readouterr().err.strip().splitlines()
  assert len(errors) == 1, errors
  assert words in errors[0]


@pytest.fixture
def scan(tmp_path):
  image, labels, _ = review_server.write_scan(tmp_path)
  return image, labels


# Help and mistakes.


def test_help_names_everything_and_needs_no_jax():
  code = (
    'import sys\n'
    'from cmbjax import cli\n'
    'try:\n'
    "  cli.main(['review', '--help'])\n"
    'except SystemExit as end:\n'
    '  assert end.code == 0\n'
    "rooms = ('jax', 'flask', 'nibabel', 'scipy', 'numpy')\n"
    'assert not [name for name in rooms if name in sys.modules]\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  for word in (*review_command.DOES, 'review open --help'):
    assert word in done.stdout


SOURCE = {
  *('reviews', 'images', 'labels', 'swi-pattern', 'participant-label'),
}
OPTIONS = {
  'open': SOURCE
  | {
    *('rater', 'blind', 'order', 'seed', 'mode', 'repeat', 'least', 'ratings'),
    *('port', 'no-browser', 'allow-host', 'dry-run'),
  },
  'merge': {
    *('reviews', 'raters', 'adjudicate', 'matching-mm', 'show-verdicts'),
  },
  'agreement': {'reviews', 'raters', 'out'},
  'export': SOURCE | {'rater', 'out', 'link', 'grow-missing'},
  'import': SOURCE | {'rater', 'to'},
}


@pytest.mark.parametrize('verb', review_command.DOES)
def test_sub_verbs_show_their_own_options_only(capsys, verb):
  with pytest.raises(SystemExit) as end:
    here(verb, '--help')
  assert end.value.code == 0
  shown = capsys.readouterr().out
  assert shown.startswith(f'usage: cmbjax review {verb} ')
  assert set(re.findall(r'^  --([a-z-]+)', shown, re.M)) == OPTIONS[verb]


@pytest.mark.parametrize('words', [[], ['x'], ['--rater', 'a', 'x']])
def test_without_a_sub_verb_it_opens(words):
  assert review_command.with_verb(words) == ['open', *words]
  for verb in review_command.DOES:
    assert review_command.with_verb([verb, *words]) == [verb, *words]


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (('{scan}', 'more'), 'arguments: more'),
    (('{scan}', '--raters', 'a', 'b'), '--raters'),
    ((), 'required: SOURCE'),
    (('merge',), '--raters'),
    (('merge', '--raters', 'a', 'b'), 'SOURCE'),
    (('merge', '{scan}', '--raters', 'a', 'b', '--port', '3'), '--port'),
    (('agreement', '{scan}', '--rater', 'a'), '--rater'),
    (('export', '{scan}', '--rater', 'a'), '--out'),
    (('import', '{tmp}/x.json'), '--to'),
    (('import', '--to', '{scan}'), 'FILE'),
  ],
)
def test_options_that_a_sub_verb_does_not_have(
  tmp_path, capsys, arguments, words
):
  places = {'tmp': tmp_path, 'scan': tmp_path / 'scan.nii'}
  with pytest.raises(SystemExit) as end:
    here(*[a.format(**places) for a in arguments])
  assert end.value.code == 2
  *_, last = capsys.readouterr().err.strip().splitlines()
  assert 'error: ' in last
  assert words in last


@pytest.mark.parametrize(
  ('arguments', 'code', 'words'),
  [
    (('{tmp}/none',), 3, 'no such file'),
    (('{tmp}',), 3, 'no scan'),
    (('{scan}', '--blind', 'everything'), 2, '--blind'),
    (('{scan}', '--blind', ''), 2, '--blind'),
    (('{scan}', '--port', '70000'), 2, '--port'),
    (('{scan}', '--seed', '-1'), 2, '--seed'),
    (('{scan}', '--repeat', '101'), 2, '--repeat'),
    (('{scan}', '--repeat', 'nan'), 2, '--repeat'),
    (('{scan}', '--least', '1.5'), 2, '--least'),
    (('{scan}', '--least', 'nan'), 2, '--least'),
    (('{scan}', '--least', 'possible'), 2, '--least'),
    (('{scan}', '--rater', '!!'), 2, '--rater'),
    (('{scan}', '--rater', ''), 2, '--rater'),  # of an empty shell variable
    (('import', '{tmp}/x', '--to', '{scan}', '--rater', ''), 2, '--rater'),
    (('{scan}', '--participant-label', '7'), 3, '--participant-label'),
    (('{scan}', '--labels', '{tmp}/none'), 3, '--labels'),
    (('{scan}', '--swi-pattern', '*'), 2, '--swi-pattern'),
    (('merge', '{tmp}/none', '--raters', 'a', 'b'), 3, 'no such file'),
    (('import', '{tmp}/none.json', '--to', '{scan}'), 2, 'none.json'),
  ],
)
def test_mistakes_are_one_line(
  tmp_path, scan, capsys, monkeypatch, arguments, code, words
):
  folder = tmp_path / 'empty'
  folder.mkdir()
  places = {'tmp': folder, 'scan': scan[0]}
  monkeypatch.chdir(folder)
  failed(capsys, code, words, *[a.format(**places) for a in arguments])
  assert not (tmp_path / 'review').exists()


def test_a_folder_that_cannot_be_written(scan, capsys):
  failed(
    capsys, 2, 'cannot be', scan[0], '--reviews', '/dev/null/x', '--rater', 'a'
  )


def test_a_port_that_is_taken_is_one_line(scan, tmp_path, capsys):
  from cmbjax.review.server import serve

  with serve.listen(0) as taken:
    taken.listen()
    port = taken.getsockname()[1]
    failed(capsys, 2, '--port', scan[0], '--port', port, '--rater', 'a')


def test_the_login_name_is_the_rater(monkeypatch):
  monkeypatch.setenv('LOGNAME', 'Jan.de-Vries 3')
  assert folders.label_or_login(None) == 'JandeVries3'


# A real server.

pytestmark = pytest.mark.e2e


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A source for servers that leave no trace of each other but readers."""
  folder = tmp_path_factory.mktemp('served')
  image, labels, _ = review_server.write_scan(folder)
  return (image, '--labels', labels, '--reviews', folder / 'reviews'), folder


def processor_s(process):
  """Seconds of processor time so far."""
  text = pathlib.Path(f'/proc/{process.pid}/stat').read_text()
  fields = text.rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _wait_until_calm(process):
  """Until what the last question began is done; a busy machine takes long."""
  before, end = -1.0, time.monotonic() + 60
  while (now := processor_s(process)) != before and time.monotonic() < end:
    before = now
    time.sleep(0.3)


def test_a_session_from_begin_to_end(place):
  """One server, many questions: starting one takes a second."""
  options, folder = place
  with review_server.running(*options, '--rater', 'anna') as server:
    client = server.client
    case = client.get('/api/cases/0')
    status, answer = client.act('verdict', rev=0, item=1, value='accept')
    assert status == 200
    assert len(client.ask('GET', '/api/cases/0/voxels/swi')[1]) == 2 * np.prod(
      case['dim']
    )
    maps = pathlib.Path(f'/proc/{server.process.pid}/maps').read_text()
    assert 'numpy' in maps
    assert 'jaxlib' not in maps  # never, also with a case open
    _second_server(options)
    _wait_until_calm(server.process)
    before = processor_s(server.process)
    time.sleep(1.5)
    assert processor_s(server.process) - before <= 0.03  # it sleeps
    code, errors = server.end(signal.SIGINT)
  assert code == 130
  assert 'everything is saved' in errors
  assert 'Traceback' not in errors
  own = folder / 'reviews/anna/sub-01'
  snapshot = json.loads((own / journal.STATE).read_text())
  assert snapshot['case']['rev'] >= answer['rev']
  assert journal.read(own).items[1].verdict == 'accept'
  assert journal.lines(own)[-1]['event'] == 'close'


def _second_server(options):
  """The same reader twice is refused in one line; another is not."""
  done = subprocess.run(
    [*review_server.command(*options), '--rater', 'anna', '--no-browser'],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert done.returncode == 2
  assert len(done.stderr.strip().splitlines()) == 1
  printed(done.stderr)


def test_being_told_to_end_is_no_failure(place):
  options, folder = place
  with review_server.running(*options, '--rater', 'bob') as server:
    server.client.get('/api/cases/0')
    address = server.address
    code, errors = server.end(signal.SIGTERM)
  assert code == 0
  assert 'Traceback' not in errors
  assert address.split('=')[1] not in errors
  assert (folder / 'reviews/bob/sub-01' / journal.STATE).is_file()
  assert not list((folder / 'reviews/bob').glob('.open*'))


def test_ending_while_a_case_is_being_read(place):
  options, _ = place
  with review_server.running(*options, '--rater', 'carl') as server:
    code, errors = server.end(signal.SIGINT)
  assert code == 130
  assert 'Traceback' not in errors


def test_eight_kills_lose_nothing(tmp_path):
  forked = review_server.Forked
  count = review_kills.run(tmp_path, kills=8, seed=3, most_s=0.4, kind=forked)
  assert count.kills == 8
  assert count.acknowledged > 0


# After `cmbjax detect`.


FAST = ('--weights', 'none', '--no-regions', '--no-report', '--jobs', '1')


def detect(*arguments):
  return cli.main(['detect', *map(str, arguments), *FAST])


def test_results_of_detect_are_reviewed_on_their_image(tmp_path, monkeypatch):
  data = tmp_path / 'data'
  data.mkdir()
  lesion_data.write_swi(data / 'one_swi.nii.gz')
  monkeypatch.chdir(tmp_path)
  assert detect('data/one_swi.nii.gz', 'out') == 0
  record = json.loads((tmp_path / 'out/logs/sub-one.json').read_text())
  assert record['images']['swi'] == ['../data/one_swi.nii.gz']
  (case,) = sources.find(pathlib.Path('out')).cases
  table = desk.Desk([case], tmp_path / 'reviews', 'anna')
  with table.use(0) as opened:
    found = table.case_json(0, opened)
  rows = lesion_data.read_table(
    next((tmp_path / 'out').glob('*/anat/*_dseg.tsv'))
  )
  assert len(found['items']) == len(rows) > 0
  table.close()


def test_an_swi_that_detect_made_is_kept_and_shown(tmp_path):
  """What is judged is what was found on, not made anew."""
  rng = np.random.default_rng(0)
  one = small_cohorts.phantom(4)
  for part, array in (
    ('mag', one.swi + 10),
    ('phase', rng.normal(0, 0.05, one.swi.shape)),
  ):
    path = tmp_path / 'data' / f'sub-7_part-{part}_T2starw.nii.gz'
    small_cohorts.save(path, array.astype(np.float32), one.affine)
  (path.parent / 'sub-7_part-phase_T2starw.json').write_text('{"Units": "rad"}')
  out = tmp_path / 'out'
  assert detect(tmp_path / 'data', out) == 0
  (made,) = out.glob('sub-7/anat/*_desc-judged_swi.nii.gz')
  (case,) = sources.find(out).cases
  assert case.image.resolve() == made.resolve()
  assert [s.name for s in case.sequences] == ['swi', 'magnitude', 'phase']
  image = nib.load(made)
  assert image.shape == one.swi.shape
  assert image.get_data_dtype() == np.uint16
  array = np.asanyarray(image.dataobj)
  assert 4000 < array.max() <= 4095


# Several readers.


def read_as(source, root, rater, verdicts):
  """A finished review by hand."""
  table = desk.Desk(sources.find(source).cases, root, rater)
  for number in range(len(table.cases)):
    with table.use(number) as opened:
      for item in opened.book.record.view_items(()):
        value = verdicts[item['item'] % len(verdicts)]
        rev = opened.book.record.rev
        action = {'rev': rev, 'item': item['item'], 'value': value}
        table.act(opened, {'event': 'verdict', **action})
      rev = opened.book.record.rev
      table.act(opened, {'rev': rev, 'event': 'status', 'value': 'completed'})
  assert table.close() == []


def test_merge_agreement_and_export(tmp_path, capsys):
  source = tmp_path / 'bids'
  small_cohorts.write_cohort(source, subjects=2, num_lesions=4)
  root = sources.reviews_of(source)
  read_as(source, root, 'anna', ['accept', 'reject'])
  read_as(source, root, 'bob', ['accept'])
  names = ('--raters', 'anna', 'bob')
  assert here('merge', source, *names, '--adjudicate', 'carl') == 0
  printed = capsys.readouterr()
  assert (root / 'carl' / desk.ADJUDICATION).is_file()
  assert pathlib.Path(printed.out.strip()).is_dir()
  table = desk.Desk(sources.find(source).cases, root, 'carl')
  assert table.session()['adjudicates']
  with table.use(0) as opened:
    shown = table.case_json(0, opened)['items']
  assert len(shown) == 2  # of four: where the two disagree
  table.close()
  assert here('agreement', source, '--out', tmp_path / 'a') == 0
  assert pathlib.Path(capsys.readouterr().out.strip()).exists()
  out = tmp_path / 'cohort'
  assert here('export', source, '--rater', 'anna', '--out', out) == 0
  (case, _) = sources.find(out).cases
  assert case.labels is not None
  # Whoever decides has to see what the others saw.
  path = table.cases[0].image
  image = nib.load(path)
  nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)
  table = desk.Desk(sources.find(source).cases, root, 'carl')
  with (
    says(InputError),
    table.use(0),
  ):
    pass


def test_the_desk_of_an_adjudicator_without_cases(tmp_path, scan, capsys):
  folder = tmp_path / 'reviews' / 'carl'
  folder.mkdir(parents=True)
  (folder / desk.ADJUDICATION).write_text('{}')
  options = ('--reviews', folder.parent, '--rater', 'carl', '--no-browser')
  failed(capsys, 3, 'nothing to decide', scan[0], *options)
