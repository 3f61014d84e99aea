"""One training step to R replicas of it, in threads, in one program, or on a
mesh of devices.

Rule: nothing ever crosses from one replica to another.
"""

import collections
import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmbjax import workers
from cmbjax.data import augment
from cmbjax.errors import InputError
from cmbjax.training import hosts, optim, replicas
from cmbjax.training.mesh import FORWARD, STEP, Mesh, over
from cmbjax.training.replicas import Learner, Patches, Values, Weights
from cmbjax.training.step import Parts, Turn, forward, train_step

BACKENDS = ('auto', 'loop', 'map', 'vmap', 'shard')
# Calls that may wait on the device: enough to keep it busy, few enough that
# a request to stop is heard at once.
_AHEAD = 4


class Course(NamedTuple):
  """How far each replica is within its epoch; arrays [R] on the host."""

  step: np.ndarray  # int32, steps that are done
  total: np.ndarray  # float32, sum of their losses


def begin(num_replicas: int) -> Course:
  """Before the first step of an epoch."""
  return Course(
    np.zeros(num_replicas, np.int32), np.zeros(num_replicas, np.float32)
  )


class Runner:
  """Runs a step and a forward pass for R replicas.

  Args:
    network: the Linen module.
    loss: as `replicas.find_loss` gives it.
    augmenter: as `augment.find` gives it.
    optimizer: as `optim.find_optimizer` gives it.
    backend: 'loop' (one compiled step, replicas in threads), 'map' or 'vmap'
      (one program with axis R), 'shard' (replicas over all devices, each
      device its own; the only one for several devices or processes);
      'auto' is 'shard' with several devices, 'loop' on CPU, else 'vmap'.
    width: rows of one call of 'map' and 'vmap'; 0 for all.
    data_parallel: devices that share one batch, for 'shard'.
    devices: those of 'shard'; None for all.

  Raises:
    InputError: unknown backend, devices that cannot be shared out, or a
      network that cannot share a batch.
  """

  def __init__(
    self,
    network: Any,
    *,
    loss: Callable = replicas.cross_entropy,
    augmenter: Callable = augment.augment,
    optimizer: Callable = optim.OPTIMIZERS['adamw'],
    backend: str = 'auto',
    width: int = 0,
    data_parallel: int = 1,
    devices: list | None = None,
  ):
    if backend not in BACKENDS:
      raise InputError(
        f'config.train.backend: {backend!r} is unknown; use one of {BACKENDS}.'
      )
    devices = devices or jax.devices()
    if backend == 'auto':
      one = 'loop' if jax.default_backend() == 'cpu' else 'vmap'
      backend = 'shard' if len(devices) > 1 else one
    if backend != 'shard' and hosts.count() > 1:
      raise InputError(
        f'config.train.backend: {backend!r} runs in one process, here are '
        f"{hosts.count()}; use 'auto' or 'shard'."
      )
    if backend != 'shard' and data_parallel > 1:
      raise InputError(
        f'config.train.data_parallel: is {data_parallel}, which needs several '
        f'devices and backend shard; here it is {backend}.'
      )
    self._backend = backend
    self.network, self.loss, self.optimizer = network, loss, optimizer
    parts = Parts(network, loss, augmenter, optimizer)
    self._width = width
    self._mesh: Mesh | None = None
    if backend == 'shard':
      self._mesh = Mesh(parts, devices, data_parallel)
      self._step, self._forward = self._mesh.step, self._mesh.forward
      return
    step, run = train_step(parts), forward(network)
    if backend != 'loop':
      step, run = over(step, STEP, backend), over(run, FORWARD, backend)
    # The step may write into the learner that it gets: memory for one less.
    self._step = jax.jit(step, donate_argnums=1)
    self._forward = jax.jit(run)

  def padded(self, num: int) -> int:
    """Rows that the program wants for `num` replicas; the rest is inactive."""
    multiple = 1
    if self._mesh is not None:
      multiple = self._mesh.rows
    elif self._backend != 'loop':
      multiple = self._rows_of_a_call(num)
    return -(-num // multiple) * multiple

  def _rows_of_a_call(self, num: int) -> int:
    """Of 'map' and 'vmap' as many as `width` says; a mesh takes all."""
    return num if self._mesh is not None else min(self._width or num, num)

  def place(self, tree: Any) -> Any:
    """Host arrays [R, ...], padded, to where they are needed."""
    if self._mesh is not None:
      return self._mesh.place(tree)
    # All at once and as copies, since the step takes what it is given.
    return jax.device_put(tree, may_alias=False)

  def epoch(
    self,
    patches: Patches,
    learners: Learner,
    course: Course,
    *,
    index: np.ndarray,
    steps: np.ndarray,
    keys: np.ndarray,
    rates: np.ndarray,
    values: Values,
    active: np.ndarray,
    stop: Callable[[], bool] = lambda: False,
  ) -> tuple[Learner, Course]:
    """The rest of one epoch, for every active replica.

    Args:
      patches: all examples.
      learners: every leaf [R, ...], from `place`; they are used up.
      course: what of the epoch is done.
      index: [R, most steps, B] into the examples.
      steps: [R] steps of each replica.
      keys: uint32 [R, 2], one key per replica; the step number is folded in.
      rates: float32 [R, most steps], the learning rate of each step.
      values: arrays [R].
      active: bool [R]; the others stay as they are.
      stop: asked after every step; the epoch then ends early.

    Returns:
      New learners and how far they are.
    """
    work = _Work(index, np.where(active, steps, 0), keys, rates, values)
    if self._backend == 'loop':
      return self._epoch_loop(patches, learners, course, work, stop)
    num = len(steps)
    width = self._rows_of_a_call(num)
    if width == num:
      return self._epoch_rows(patches, learners, course, work, stop)
    parts = []
    for first in range(0, num, width):
      rows = slice(first, first + width)
      mine = jax.tree.map(
        lambda a, rows=rows: a[rows], (learners, course, work)
      )
      parts.append(self._epoch_rows(patches, *mine, stop))
    learners = jax.tree.map(
      lambda *a: jnp.concatenate(a), *(p[0] for p in parts)
    )
    course = jax.tree.map(lambda *a: np.concatenate(a), *(p[1] for p in parts))
    return learners, course

  def logits(
    self, patches: Patches, weights: Weights, index: np.ndarray, batch: int
  ) -> np.ndarray:
    """[R, n] logits of examples `index` [n], or [R, n] its own for each.

    The last batch is padded and the padding cut off again.

    Args:
      patches: all examples.
      weights: leaves [R, ...], from `place`.
      index: positions in the examples.
      batch: patches per call.
    """
    num = jax.tree.leaves(weights)[0].shape[0]
    index = np.broadcast_to(index, (num, np.shape(index)[-1]))
    size = index.shape[1]
    if not size:
      return np.zeros((num, 0), np.float32)
    if self._mesh is not None:  # each device takes its part of a batch
      batch = -(-batch // self._mesh.data) * self._mesh.data
    # One size of batch, so that one program is compiled.
    padded = np.pad(index, ((0, 0), (0, -size % batch)), mode='edge')
    chunks = np.split(padded.astype(np.int32), padded.shape[1] // batch, axis=1)
    patches = self._share(patches)
    if self._backend == 'loop':
      parts = replicas.unstack(hosts.fetch(weights), num)

      def one(r):
        return [self._forward(patches, parts[r], c[r]) for c in chunks]

      out = _in_threads(one, range(num))
      rows = [np.concatenate([np.asarray(c) for c in row]) for row in out]
      return np.stack(rows)[:, :size]
    out = []
    width = self._rows_of_a_call(num)
    for first in range(0, num, width):
      rows = slice(first, first + width)
      some = jax.tree.map(lambda a, rows=rows: a[rows], weights)
      some = weights if width == num else some
      row = [self._forward(patches, some, self._batch(c[rows])) for c in chunks]
      out.append(np.concatenate(hosts.fetch(row), 1))
    return np.concatenate(out)[:, :size]

  def pick(self, mask: np.ndarray, new: Any, old: Any) -> Any:
    """Rows of `new` where `mask` [R], else of `old`; leaves [R, ...].

    Args:
      mask: bool [R].
      new: from `place`.
      old: the same tree; its buffers are used up.
    """
    return _pick(self.place(np.asarray(mask)), new, old)

  def _epoch_loop(self, patches, learners, course, work, stop):
    num = len(work.steps)
    # Through the host: slicing there compiles nothing, leaf by leaf.
    parts = replicas.unstack(hosts.fetch(learners), num)
    own = replicas.unstack(work.values, num)

    step, total = course.step.copy(), list(map(np.float32, course.total))
    waiting = collections.deque(np.flatnonzero(step < work.steps))

    def take_turns(_):
      # One step of each in turn: were a thread to keep its replica to the end,
      # the last one would run alone, with the other cores idle.
      ahead = _Ahead()
      while waiting and not stop():
        try:
          r = waiting.popleft()
        except IndexError:  # another thread was quicker
          return
        s = step[r]
        turn = Turn(work.index[r, s], work.keys[r], work.rates[r, s], own[r])
        parts[r], total[r] = self._step(patches, parts[r], total[r], s, turn)
        ahead.add(total[r])
        step[r] += 1
        if step[r] < work.steps[r]:
          waiting.append(r)

    _in_threads(take_turns, waiting)
    stacked = replicas.stack(hosts.fetch(parts))
    return self.place(stacked), Course(step, np.array(total, np.float32))

  def _epoch_rows(self, patches, learners, course, work, stop):
    patches = self._share(patches)
    step, ahead = course.step.copy(), _Ahead()
    total, keys, values = self.place((course.total, work.keys, work.values))
    pending, last, now = step < work.steps, None, None
    first = int(step[pending].min(initial=2**30))  # none pending: no step
    for s in range(first, int(work.steps.max())):
      if stop():
        break
      on = (step == s) & (s < work.steps)
      if last is None or (on != last).any():  # else it is there already
        last, active = on, self.place(on)
      if now is None or (work.rates[:, s] != now).any():
        now, rate = work.rates[:, s], self.place(work.rates[:, s])
      turn = Turn(self._batch(work.index[:, s]), keys, rate, values, active)
      learners, total = self._step(patches, learners, total, np.int32(s), turn)
      ahead.add(total)
      step += on
    return learners, Course(step, hosts.fetch(total))

  def _batch(self, index):
    return index if self._mesh is None else self._mesh.batch(index)

  def _share(self, patches):
    return patches if self._mesh is None else self._mesh.share(patches)


class _Work(NamedTuple):
  """What an epoch is made of, see `Runner.epoch`; every leaf is [R, ...]."""

  index: np.ndarray
  steps: np.ndarray
  keys: np.ndarray
  rates: np.ndarray
  values: Values


class _Ahead:
  """Keeps a few calls in flight, and waits for the oldest of more."""

  def __init__(self):
    self._calls = collections.deque()

  def add(self, value):
    self._calls.append(value)
    if len(self._calls) > _AHEAD:
      self._calls.popleft().block_until_ready()


@functools.partial(jax.jit, donate_argnums=2)
def _pick(mask, new, old):
  def one(n, o):
    return jnp.where(mask.reshape(-1, *[1] * (n.ndim - 1)), n, o)

  return jax.tree.map(one, new, old)


def _in_threads(function: Callable, items: Any) -> list:
  """Replicas are independent, and a compiled step does not hold the GIL."""
  items = list(items)
  count = max(1, min(len(items), workers.cores()))
  with concurrent.futures.ThreadPoolExecutor(count) as pool:
    return list(pool.map(function, items))
