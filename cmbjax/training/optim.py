"""Names to optax: optimizers, and the learning rate of every step.

Rule: the rate of a step is known on the host before the step runs. It follows
from the number of the step or, on a plateau, from one validation loss per
replica and epoch; never from a training loss, and never from NaN.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmbjax import plugins
from cmbjax.errors import InputError, shown

if TYPE_CHECKING:
  from cmbjax.training.replicas import Replica

# With weight decay 0, which is the default, this is Adam: Loshchilov & Hutter
# 2019, arXiv:1711.05101.
OPTIMIZERS = {'adamw': optax.adamw}
PLATEAU = 'plateau'
_SCHEDULE = 'config.train.schedule'
# What optax adds to `min_delta` must be above 0; this changes no comparison.
_SMALLEST = float(np.finfo(np.float32).tiny)
# Rate, steps, smallest rate and warm-up with which a schedule is tried.
_TRIAL = {
  'learning_rate': 1e-3,
  'steps': 8,
  'min_learning_rate': 1e-6,
  'warmup': 0.25,
}


def constant(learning_rate: float, steps: int) -> optax.Schedule:
  """One rate for all steps; a plateau multiplies it after each epoch."""
  del steps
  return optax.constant_schedule(learning_rate)


def cosine(
  learning_rate: float, steps: int, *, min_learning_rate: float
) -> optax.Schedule:
  """Half a cosine from the rate to the smallest one, at the last step.

  Args:
    learning_rate: at the first step.
    steps: of the whole training.
    min_learning_rate: at the last step.
  """
  return optax.cosine_decay_schedule(
    learning_rate, steps, alpha=_share(min_learning_rate, learning_rate)
  )


def warmup_cosine(
  learning_rate: float, steps: int, *, min_learning_rate: float, warmup: float
) -> optax.Schedule:
  """A line from the smallest rate up to the rate, then `cosine`.

  Args:
    learning_rate: where the line ends.
    steps: of the whole training.
    min_learning_rate: first and last rate.
    warmup: share of the steps that the line takes.
  """
  least = min(min_learning_rate, learning_rate)
  return optax.warmup_cosine_decay_schedule(
    init_value=least,
    peak_value=learning_rate,
    warmup_steps=min(round(warmup * steps), steps - 1),
    decay_steps=steps,
    end_value=least,
  )


SCHEDULES = {
  PLATEAU: constant,
  'constant': constant,
  'cosine': cosine,
  'warmup_cosine': warmup_cosine,
}


def find_optimizer(name: str) -> Callable[..., optax.GradientTransformation]:
  """An optimizer by its name, or any other as 'module:name' ('optax:lion').

  Args:
    name: 'adamw', or a callable with the keyword `learning_rate` and, if it
      has one, `weight_decay`; both are traced numbers inside the step.

  Raises:
    InputError: it does not exist, or cannot be used like this.
  """
  key = 'config.train.optimizer'
  must = (
    'take learning_rate as an array and return an optax.GradientTransformation'
  )
  found = plugins.find(name, key=key, known=OPTIMIZERS)
  with plugins.tried(name, key=key, must=must):
    jax.eval_shape(
      functools.partial(_trial, found), jnp.float32(1), jnp.float32(0)
    )
  return found


def find_schedule(name: str) -> Callable[..., optax.Schedule]:
  """A schedule by its name, or your own as 'module:name'.

  Args:
    name: a key of `SCHEDULES`, or a function `(learning_rate, steps)` that
      returns an optax schedule (number of the step to rate); `steps` are
      those of the whole training. It gets `min_learning_rate` and `warmup`
      of the replica where it takes them by name.

  Raises:
    InputError: it does not exist, or gives no usable rates.
  """
  found = plugins.find(name, key=_SCHEDULE, known=SCHEDULES)
  _rates(name, found, **_TRIAL)
  return found


def make(
  optimizer: Callable, learning_rate: Any, weight_decay: Any
) -> optax.GradientTransformation:
  """The optimizer with these two settings, which may be traced.

  Args:
    optimizer: as `find_optimizer` gives it.
    learning_rate: of this step.
    weight_decay: passed where the optimizer takes it.
  """
  settings = {'learning_rate': learning_rate, 'weight_decay': weight_decay}
  return optimizer(**plugins.accepted(optimizer, settings))


def check_decay(optimizer: Callable, table: 'Sequence[Replica]') -> None:
  """Refuses a weight decay that the optimizer would not see.

  Raises:
    InputError: a row has one, and the optimizer does not take it.
  """
  takes = plugins.accepted(optimizer, {'weight_decay': 0.0})
  if not takes and any(row.weight_decay for row in table):
    raise InputError(
      'config.train.weight_decay: is above 0, but config.train.optimizer '
      'takes no weight_decay; set it to 0, or choose another optimizer.'
    )


def begin(
  optimizer: Callable, params: Any, weight_decay: np.ndarray
) -> optax.OptState:
  """The first optimizer state of R replicas, numpy leaves [R, ...].

  Args:
    optimizer: as `find_optimizer` gives it.
    params: leaves [R, ...].
    weight_decay: [R].
  """
  first = _first_states(optimizer)
  if optimizer is optax.adamw:  # all of it is zero: a second of compiling less
    states = jax.eval_shape(first, params, np.float32(weight_decay))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), states)
  return jax.tree.map(np.asarray, first(params, np.float32(weight_decay)))


def rates(row: 'Replica', steps: int) -> np.ndarray:
  """The rate of each step of a whole training, float32 [steps].

  Of a plateau it is the rate before any cut.

  Raises:
    InputError: a schedule gives something else than finite numbers from 0.
  """
  return _rates(
    row.schedule,
    find_schedule(row.schedule),
    learning_rate=row.learning_rate,
    steps=steps,
    min_learning_rate=row.min_learning_rate,
    warmup=row.warmup,
  )


def plateau_init(num_replicas: int) -> Any:
  """The state of optax's plateau before the first epoch, numpy leaves [R]."""
  state = optax.contrib.reduce_on_plateau().init(np.float32(0))
  return jax.tree.map(
    lambda leaf: np.full(num_replicas, leaf, leaf.dtype), state
  )


def plateau_step(
  table: 'Sequence[Replica]', state: Any, values: np.ndarray
) -> Any:
  """One epoch for every replica; those with another schedule stay.

  Args:
    table: R rows.
    state: of all of them, as from `plateau_init`.
    values: [R] validation losses; a non-finite one counts as a bad epoch.

  Returns:
    The new state; `.scale` [R] multiplies the base rates.
  """
  values = np.where(np.isfinite(values), values, np.inf).astype(np.float32)
  # The floor is a share of the rate, because the plateau scales the rate.
  patience = np.array([row.patience for row in table], np.int32)
  floor = np.array(
    [_share(row.min_learning_rate, row.learning_rate) for row in table],
    np.float32,
  )
  groups: dict[tuple, list[int]] = {}  # optax takes these two as plain numbers
  for r, row in enumerate(table):
    if row.schedule == PLATEAU:
      groups.setdefault((row.plateau_factor, row.min_delta), []).append(r)
  state = jax.tree.map(np.array, state)
  for settings, rows in groups.items():
    old = jax.tree.map(lambda leaf, rows=rows: leaf[rows], state)
    new = _plateau(*settings)(old, values[rows], patience[rows], floor[rows])
    for whole, mine in zip(jax.tree.leaves(state), jax.tree.leaves(new)):
      whole[rows] = np.asarray(mine)
  return state


@functools.lru_cache(maxsize=64)  # one for each pair in a sweep
def _plateau(factor: float, min_delta: float) -> Callable:
  def step(state, value, patience, min_scale):
    rule = optax.contrib.reduce_on_plateau(
      factor=factor,
      patience=patience,
      rtol=0.0,
      atol=max(min_delta, _SMALLEST),
      min_scale=min_scale,
    )
    return rule.update({}, state, value=value)[1]

  return jax.jit(jax.vmap(step))


@functools.lru_cache(maxsize=1024)  # asked for every row in every epoch
def _rates(
  name: str,
  schedule: Callable,
  *,
  learning_rate: float,
  steps: int,
  min_learning_rate: float,
  warmup: float,
) -> np.ndarray:
  more = {'min_learning_rate': min_learning_rate, 'warmup': warmup}
  must = 'take (learning_rate, steps) and return an optax schedule'
  with plugins.tried(name, key=_SCHEDULE, must=must):
    rule = schedule(learning_rate, steps, **plugins.accepted(schedule, more))
    out = np.asarray(jax.vmap(rule)(jnp.arange(steps)), np.float32)
  good = out.shape == (steps,) and np.isfinite(out).all() and (out >= 0).all()
  if not good:
    raise InputError(
      f'{_SCHEDULE}: {shown(name)!r} gives rates of shape '
      f'{out.shape} from {np.min(out):g} to {np.max(out):g} for {steps} steps; '
      'it must give one finite number from 0 for each step.'
    )
  out.flags.writeable = False  # it is shared by all that ask for it
  return out


@functools.lru_cache(maxsize=8)
def _first_states(optimizer: Callable) -> Callable:
  def one(params, weight_decay):
    return make(optimizer, jnp.float32(0), weight_decay).init(params)

  # Level 0: it runs once, so compiling fast wins.
  options = {'xla_backend_optimization_level': 0}
  return jax.jit(jax.vmap(one), compiler_options=options)


def _trial(optimizer, learning_rate, weight_decay):
  """One update as the step makes it, to see whether it can be made."""
  params = {'a': jnp.ones((2, 3)), 'b': {'c': jnp.ones(3)}}
  rule = make(optimizer, learning_rate, weight_decay)
  change, state = rule.update(params, rule.init(params), params)
  return optax.apply_updates(params, change), state


def _share(least: float, rate: float) -> float:
  """The floor of a rate as a share of it; 1 where the rate is 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    share = np.float32(least) / np.float32(rate)
  return float(min(share, 1)) if np.isfinite(share) else 1.0
