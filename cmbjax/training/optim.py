"""Adam, and a learning rate per replica that falls when its loss plateaus.

Rule: the schedule sees one validation loss per replica and epoch; it never
sees a training step, and never NaN. Every setting may differ per replica.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax


class Plateau(NamedTuple):
  """How the rate falls; every field is one number or [R].

  Attributes:
    factor: what a cut multiplies the rate with.
    patience: bad epochs in a row that cut it, as in Keras.
    min_delta: smallest gain that counts.
    min_scale: floor, as a share of the base rate.
  """

  factor: Any
  patience: Any
  min_delta: Any
  min_scale: Any


class PlateauState(NamedTuple):
  """Where each replica stands, arrays [R] on the host."""

  scale: np.ndarray  # multiplies the base rate
  best_value: np.ndarray
  bad_epochs: np.ndarray  # in a row, since the last cut


def adam() -> optax.GradientTransformation:
  """Adam whose rate and (decoupled) weight decay are leaves of its state.

  Loshchilov & Hutter 2019, arXiv:1711.05101; a decay of 0 is plain Adam.
  """
  wrapped = optax.inject_hyperparams(
    optax.adamw,
    static_args=('b1', 'b2', 'eps', 'eps_root', 'mask', 'nesterov'),
  )
  return wrapped(learning_rate=0.0, weight_decay=0.0)


def begin(params: Any, rate: np.ndarray, weight_decay: np.ndarray) -> Any:
  """The first optimizer state of R replicas, numpy leaves [R, ...].

  All of it is zero but the two settings; making it on the host compiles
  nothing.

  Args:
    params: leaves [R, ...].
    rate: [R].
    weight_decay: [R].
  """
  shapes = jax.eval_shape(jax.vmap(adam().init), params)
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  hyperparams = {
    **zeros.hyperparams,
    'learning_rate': np.asarray(rate, np.float32),
    'weight_decay': np.asarray(weight_decay, np.float32),
  }
  return zeros._replace(hyperparams=hyperparams)


def plateau_init(num_replicas: int) -> PlateauState:
  """One schedule per replica, before its first epoch."""
  return PlateauState(
    scale=np.ones(num_replicas, np.float32),
    best_value=np.full(num_replicas, np.inf, np.float32),
    bad_epochs=np.zeros(num_replicas, np.int32),
  )


def plateau_step(
  plateau: Plateau, state: PlateauState, values: np.ndarray
) -> PlateauState:
  """One epoch for every replica.

  Args:
    plateau: the rule.
    state: of all replicas.
    values: [R] validation losses; a non-finite one counts as a bad epoch.

  Returns:
    The new state; `.scale` [R] multiplies the base rates.
  """
  values = np.where(np.isfinite(values), values, np.inf).astype(np.float32)
  better = values < state.best_value - np.float32(plateau.min_delta)
  bad = np.where(better, 0, state.bad_epochs + 1)
  cut = bad >= np.asarray(plateau.patience)
  lower = state.scale * np.asarray(plateau.factor, np.float32)
  floor = np.asarray(plateau.min_scale, np.float32)
  return PlateauState(
    scale=np.where(cut, np.maximum(lower, floor), state.scale),
    best_value=np.where(better, values, state.best_value),
    bad_epochs=np.where(cut, 0, bad).astype(np.int32),
  )
