"""Keys depend on what they are for, and on nothing else."""

import subprocess
import sys

import jax

from cmbjax.training import rng


def bits(key):
  return int(jax.random.bits(key))


def test_names_and_numbers_give_different_keys():
  keys = [
    rng.key(0, 'step'),
    rng.key(1, 'step'),
    rng.key(0, 'init'),
    rng.key(0, 'step', fold=0),
    rng.key(0, 'step', fold=1),
    rng.key(0, 'step', epoch=1),
    rng.key(0, 'step', fold=1, epoch=0),
    rng.key(0, 'step', fold=0, epoch=1),
  ]
  assert len({bits(k) for k in keys}) == len(keys)


def test_order_of_numbers_does_not_matter():
  one = rng.key(3, 'a', fold=1, epoch=2)
  assert bits(one) == bits(rng.key(3, 'a', epoch=2, fold=1))


def test_the_same_in_another_process():
  code = (
    'import jax; from cmbjax.training import rng;'
    'print(int(jax.random.bits(rng.key(0, "step", fold=1))))'
  )
  run = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    env={'PYTHONHASHSEED': '7', 'PATH': ''},
  )
  assert int(run.stdout) == bits(rng.key(0, 'step', fold=1))
