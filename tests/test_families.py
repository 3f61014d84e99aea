"""Families of generators: which are drawn, held out and refused."""

import numpy as np
import pytest

from cmbjax.errors import InputError
from cmbjax.simulate import families, randomised
from tests.messages import says


def drawn(choice, count=40):
  rng = np.random.default_rng(0)
  return [families.draw(rng, choice) for _ in range(count)]


def test_every_family_can_be_found():
  for part, names in families.KINDS.items():
    for name in names:
      assert families.find(part, name) is not None


def test_classic_is_the_first_of_each_part():
  first = {part: next(iter(names)) for part, names in families.KINDS.items()}
  assert families.Families(**first) == families.CLASSIC
  assert set(drawn('classic')) == {families.CLASSIC}


def test_the_last_of_each_part_never_trains():
  for part, names in families.KINDS.items():
    if len(names) > 1:
      last = list(names)[-1]
      assert all(getattr(one, part) != last for one in drawn('trained'))
      assert all(getattr(one, part) == last for one in drawn('held-out'))
      met = [getattr(one, part) for one in drawn('any')]
      assert set(met) == set(names)
      half = [getattr(one, part) == last for one in drawn('mixed', 400)]
      assert 160 < sum(half) < 240  # 4 standard deviations of a fair coin


def test_a_fixed_part_changes_no_other():
  free, fixed = drawn('trained'), drawn('veins=walks')
  assert all(one.veins == 'walks' for one in fixed)
  assert [one._replace(veins='') for one in free] == [
    one._replace(veins='') for one in fixed
  ]


def test_what_is_not_known_is_refused():
  with says(InputError, 'nonsense veins finish'):
    families.check('nonsense')
  with says(InputError, 'veins drawn walks'):
    families.check('veins=drawn')


def test_a_subject_has_its_families_by_seed_and_number_alone():
  one = randomised.protocol_of('randomised', 3, seed=5)
  again = randomised.protocol_of('randomised', 3, seed=5, families='trained')
  assert one == again
  classic = randomised.protocol_of('btumor_3t', 3, seed=5)
  assert classic.families == families.CLASSIC
  with pytest.raises(InputError):
    randomised.protocol_of('btumor_3t', 3, seed=5, families='x=y')
