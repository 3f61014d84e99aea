"""Field and echo time of a JSON, believed or said."""

import pytest

from cmbjax.intake import facts


@pytest.mark.parametrize(
  ('key', 'value', 'found'),
  [
    (facts.ECHO, 0.028, 0.028),
    (facts.ECHO, '0.028', 0.028),
    (facts.FIELD, 2.8936, 2.8936),
    (facts.FIELD, '3', 3.0),
    (facts.ECHO, None, None),
    (facts.ECHO, 0, None),
    (facts.FIELD, 'n/a', None),
  ],
)
def test_what_is_believed(key, value, found):
  assert facts.number(value, key) == (found, '')
  assert facts.known({key: value}, key) == found


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    (facts.ECHO, 28),
    (facts.ECHO, '28 ms'),
    (facts.ECHO, -1),
    (facts.ECHO, True),
    (facts.FIELD, 123.25),
    (facts.FIELD, 30000),
    (facts.FIELD, '3T'),
    (facts.FIELD, float('inf')),
    (facts.FIELD, 'nan'),
  ],
)
def test_what_is_not_believed_is_said_once(key, value):
  assert facts.known({key: value}, key) is None
  said = facts.remarks([{key: value}, {key: value}, {}])
  assert len(said) == 1
  assert key in said[0]
  assert repr(value) in said[0]
  assert 'not known' in said[0]


def test_each_of_several_echoes():
  assert not facts.remarks([{facts.ECHO: [0.01, 0.02]}])
  assert len(facts.remarks([{facts.ECHO: [10, 20]}])) == 2
