"""Adam, and a learning rate per replica that falls when its loss plateaus.

Rule: the schedule sees one validation loss per replica and epoch; it never
sees a training step, and never NaN.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import contrib

# The scheduler is a transform of updates; it only needs some tree.
_DUMMY = {'x': 1.0}


class Plateau(NamedTuple):
  """How the rate falls. `patience` bad epochs in a row cut it, as in Keras."""

  factor: float
  patience: int
  min_delta: float
  min_scale: float

  def transform(self) -> optax.GradientTransformationExtraArgs:
    # rtol = 0: with a relative tolerance a negative loss would never be bad.
    return contrib.reduce_on_plateau(
      factor=self.factor,
      patience=self.patience,
      rtol=0.0,
      atol=self.min_delta,
      min_scale=self.min_scale,
    )


def adam() -> optax.GradientTransformation:
  """Adam whose learning rate is a leaf of its state (set it before use)."""
  wrapped = optax.inject_hyperparams(
    optax.adam, static_args=('b1', 'b2', 'eps', 'eps_root')
  )
  return wrapped(learning_rate=0.0)


def set_rate(opt: Any, rate: jax.Array) -> Any:
  """The optimizer state with another learning rate (scalar or [R])."""
  rate = jnp.asarray(rate, jnp.float32)
  return opt._replace(hyperparams={**opt.hyperparams, 'learning_rate': rate})


def plateau_init(plateau: Plateau, num_replicas: int) -> Any:
  """One scheduler state per replica, every leaf with axis R."""
  one = plateau.transform().init(_DUMMY)
  return jax.tree.map(
    lambda leaf: jnp.broadcast_to(leaf, (num_replicas, *jnp.shape(leaf))), one
  )


def plateau_step(plateau: Plateau, states: Any, values: jax.Array) -> Any:
  """One epoch for every replica.

  Args:
    plateau: the rule.
    states: scheduler states with axis R.
    values: [R] validation losses; a non-finite one counts as a bad epoch.

  Returns:
    The new states; `.scale` [R] multiplies the base rates.
  """
  transform = plateau.transform()

  def one(state, value):
    return transform.update(_DUMMY, state, value=value)[1]

  # A large finite loss is a bad epoch; NaN would poison the running average.
  worst = jnp.finfo(jnp.float32).max / 2
  values = jnp.where(jnp.isfinite(values), values, worst)
  return jax.vmap(one)(states, values.astype(jnp.float32))
