"""Candidates that are shown twice: nothing but the place in the head tells.

What a page is told of them, and what it may do with them, is that of any
other candidate.
"""

import argparse

import numpy as np

from cmbjax.errors import InputError
from cmbjax.review import command as review_command
from cmbjax.review.log import geometry, journal
from cmbjax.review.server import session
from tests import review_records as reviews
from tests import review_server
from tests.messages import says


def test_a_repeat_is_drawn_on_as_any_other():
  state = reviews.record(1, repeat=100)
  assert state.repeats == {2: 1}
  source = state.voxels(1)
  change = state.apply({'event': 'edit', 'item': 1, 'clear': source[:4]})
  assert (change.item, change.items) == (1, (1,))
  np.testing.assert_array_equal(state.voxels(2), source)  # as it was
  assert state.item_json(2)['runs'] == geometry.encode_runs(source)
  state.apply({'event': 'verdict', 'item': 1, 'value': 'reject'})
  before = state.snapshot(), state.labels().copy()
  change = state.apply({'event': 'edit', 'item': 2, 'clear': source[:2]})
  assert (change.item, change.items, change.refused) == (2, (2,), 0)
  state.apply({'event': 'grow', 'item': 2, 'ijk': [0, 0, 0], 'set': [0, 1]})
  state.apply({'event': 'move', 'item': 2, 'ijk': [0, 0, 0]})
  np.testing.assert_array_equal(state.voxels(2), np.sort([0, 1, *source[2:]]))
  np.testing.assert_array_equal(state.labels(), before[1])
  for _ in range(3):
    assert (
      state.apply({'event': 'undo'}).item == 2
    )  # where the page goes back to
  assert state.snapshot()['voxels'] == before[0]['voxels']
  state.apply({'event': 'redo'})
  state.apply({'event': 'verdict', 'item': 2, 'value': 'reject'})
  with says(InputError):
    state.apply({'event': 'edit', 'item': 2, 'set': [5]})
  state.apply({'event': 'verdict', 'item': 2, 'value': 'accept'})
  assert state.items[1].verdict == 'reject'  # two readings, two verdicts


def test_a_repeat_finds_its_neighbours_as_any_other():
  state = reviews.record(2, repeat=50)
  ((again, original),) = state.repeats.items()
  (other,) = set(state.items) - {again, original}
  theirs = state.voxels(other)
  change = state.apply({'event': 'edit', 'item': again, 'set': theirs})
  assert change.refused == len(theirs)
  state.apply({'event': 'verdict', 'item': other, 'value': 'reject'})
  change = state.apply({'event': 'edit', 'item': again, 'set': theirs})
  assert change.refused == 0
  assert np.isin(theirs, state.voxels(again)).all()
  np.testing.assert_array_equal(state.voxels(other), theirs)


def test_the_end_of_a_list_is_not_all_repeats():
  runs, count = 200, 18
  again = np.zeros(count + 3)
  for seed in range(runs):
    state = reviews.record(count, order='random', seed=seed, repeat=15)
    assert len(state.repeats) == 3
    again[[number - 1 for number in state.repeats]] += 1 / runs
  assert not again[: count // 2].any()  # half a list behind
  assert (again[-4:] < 0.7).all()
  assert again[-7:].min() > 0.1  # and no place is free of them either


def test_a_lesion_found_unaided_is_not_asked_again():
  # All others that the first reader had marked are judged by then.
  state = reviews.record(3, mode='first-reader', repeat=100)
  assert len(state.repeats) == 3
  source = reviews.candidates(3)
  state.apply({'event': 'add', 'ijk': source[0].ijk, 'set': source[0].voxels})
  change = state.apply({'event': 'done'})
  (dropped,) = change.line['dropped']
  assert not state.is_shown(dropped)
  assert state.items[dropped].id == 'lesion-001'
  assert len(state.repeats) == 2
  assert len(state.shown()) == 5


def test_repeats_come_in_random_order():
  parser = argparse.ArgumentParser()
  review_command.add_arguments(parser)

  def options(*words):
    given = parser.parse_args(['open', 'scan.nii', *words])
    return session.options(given).terms

  assert options().order == 'likelihood'
  assert options('--repeat', '0').order == 'likelihood'
  assert options('--repeat', '10').order == 'random'
  for order in ('likelihood', 'position'):
    with says(InputError, f'--order {order}'):
      options('--repeat', '10', '--order', order)
  for blind in ('none', 'score', 'id,mask'):
    with says(InputError, '--blind --repeat'):
      options('--repeat', '10', '--blind', blind)
  assert options('--repeat', '10', '--blind', 'model,id,score').repeat == 10


def test_what_is_drawn_on_a_repeat_is_in_the_journal(tmp_path):
  kept = journal.Journal.open(tmp_path / 'c', reviews.header(2, repeat=50))
  ((again, original),) = kept.record.repeats.items()
  voxels = kept.record.voxels(again)
  kept.apply({'event': 'edit', 'item': again, 'clear': voxels[:3]})
  kept.apply({'event': 'edit', 'item': original, 'clear': voxels[-3:]})
  kept.apply({'event': 'undo'})
  kept.apply({'event': 'undo'})
  kept.apply({'event': 'redo'})
  found = journal.read(tmp_path / 'c')
  assert found.snapshot() == kept.record.snapshot()
  np.testing.assert_array_equal(found.voxels(again), voxels[3:])
  np.testing.assert_array_equal(found.voxels(original), voxels)
  kept.close()


def test_the_server_treats_a_repeat_as_any_other(tmp_path):
  local = review_server.Local(tmp_path, blind=(), order='random', repeat=50)
  rows = ''.join(f'{n}\tlesion-{n:03d}\n' for n in range(1, 7))
  table = tmp_path / 'sub-01_dseg.tsv'
  table.write_text(f'index\tname\n{rows}')
  (row,) = local.get('/api/session').get_json()['cases']
  assert row['items'] is None  # the table has fewer than will be shown
  case = local.case()
  assert case['quiet']
  items = case['items']
  assert len(items) == 9
  # Neither name nor likelihood, whatever is asked for: they are the same.
  for name in ('id', 'score', 'status'):
    assert {item[name] for item in items} == {None}
  again = next(item for item in items if item['runs'])
  fields = set(again)
  for item in items:
    assert set(item) == fields
    grown = local.act('grow', item=item['item'], ijk=item['ijk'])
    assert grown.status_code == 200, grown.get_json()
    for event, more in (
      ('move', {'ijk': item['ijk']}),
      ('edit', {'set': [0]}),
      ('undo', {}),
    ):
      answer = local.act(
        event, **({} if event == 'undo' else {'item': item['item']}), **more
      )
      assert answer.status_code == 200, answer.get_json()
      assert answer.get_json()['item'] == item['item']
