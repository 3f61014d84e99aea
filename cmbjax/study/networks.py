"""Recipes to networks: whether they can be made, run and started from.

Rule: what does not fit is refused before any work; given weights are used as
they are, or not at all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cmbjax import files
from cmbjax.candidates import stages
from cmbjax.data import augment
from cmbjax.errors import InputError
from cmbjax.models import get_model
from cmbjax.reconstruct.channels import depth
from cmbjax.study.plan import source_of
from cmbjax.study.spec import Point, Recipe, Study
from cmbjax.training import checkpoint, hosts, optim, replicas
from cmbjax.training.runner import Runner
from cmbjax.training.transfer import transfer


class Trained(NamedTuple):
  """One strategy's networks, and how they came about."""

  weights: replicas.Weights  # leaves [R, ...]
  table: tuple[replicas.Replica, ...]  # R rows
  fingerprint: str


def make_runner(config: ConfigDict) -> Runner:
  """The network and the way its replicas run.

  Raises:
    InputError: a part that cannot be found, or devices that do not fit.
  """
  network = get_model(
    config.model.name,
    convolution=config.model.convolution,
    channels=depth(config.channels),
    bn_momentum=config.train.bn_momentum,
    dtype=jnp.dtype(config.model.dtype),
  )
  return Runner(
    network,
    loss=replicas.find_loss(config.train.loss),
    augmenter=augment.find(config.train.augmenter, config.channels),
    optimizer=optim.find_optimizer(config.train.optimizer),
    backend=config.train.backend,
    width=config.train.width,
    data_parallel=config.train.data_parallel,
  )


def check_layers(points: Sequence[Point]) -> None:
  """Refuses names of frozen layers that no network has, before any work.

  Raises:
    InputError: an expression fits no layer.
  """
  for point in points:
    for recipe in point.study.trained:
      if recipe.rows[0].frozen:  # the same in all rows of a recipe
        replicas.trainable(recipe.rows, _shapes(recipe.config))


def check_starts(points: Sequence[Point]) -> None:
  """Refuses a start from a network of other layers, before it is trained.

  Raises:
    InputError: no name agrees, or a shape differs.
  """
  for point in points:
    for recipe in point.study.trained:
      start = point.study.recipes.get(recipe.strategy.starts)
      if start is None or not start.is_trained:
        continue
      names = [one.config.model.name for one in (start, recipe)]
      if names[0] != names[1]:  # the same network always fits itself
        try:
          transfer(_shapes(recipe.config), _shapes(start.config))
        except InputError as error:
          raise InputError(
            f'config.study.strategies.{recipe.name}.starts: is {start.name!r}, '
            f'whose network is {names[0]}, and here it is {names[1]} ({error})'
          ) from error


def _shapes(config: ConfigDict) -> replicas.Weights:
  """What the weights of one network look like."""
  channels = depth(config.channels)
  network = get_model(config.model.name, channels=channels)
  shapes = jax.eval_shape(
    lambda x: network.init(jax.random.key(0), x, train=False),
    jax.ShapeDtypeStruct((1, *augment.SEEN, channels), jnp.float32),
  )
  return replicas.Weights(shapes['params'], shapes.get('batch_stats', {}))


def check_given(study: Study) -> None:
  """Refuses given weights that do not fit this run, before any work.

  Raises:
    NoInputError: there are none.
    InputError: another network, other patches, channels or candidates, or a
      damaged file.
  """
  config = study.config
  for recipe in study.given:
    known = recipe.known
    seen = ' + '.join(known['channels']), ' + '.join(config.channels)
    wanted = {
      'patches': (known['patches'], config.patches),
      'channels': seen,
      'candidates': (known['candidates'], config.candidates),
    }
    for other in study.trained:
      if other.strategy.starts == recipe.name:
        wanted['model.name'] = (known['model'], other.config.model.name)
    for key, (has, value) in wanted.items():
      if has != value:
        raise InputError(
          f'{recipe.name}: its weights ({recipe.folder.name}) are for {has}, '
          f'config.{key} is {value}; make them equal, or set '
          '--config.pretrained=train to train others first.'
        )
    if known['model_code'] != code_of(recipe.config):
      hosts.say(
        f'{recipe.name}: {known["model"]} is not the code that its weights '
        f'({recipe.folder}) were trained with; results may be off.'
      )
    # Last, because it reads all of the files.
    checkpoint.check_weights(recipe.folder)


def code_of(config: ConfigDict) -> str:
  """16 hex digits over the source of an own network; '' of a built-in one.

  Raises:
    InputError: the network is unknown.
  """
  text = source_of(config, 'model.name')
  return files.digest(text) if text else ''


def load_given(recipe: Recipe) -> Trained:
  """The networks of a strategy that is not trained here."""
  known, stage = recipe.known, recipe.config.candidates
  if known['candidates_code'] != stages.code(stage):
    hosts.say(
      f'{recipe.name}: its weights learned from candidates of other code of '
      f'{stage}; likelihoods may be off.'
    )
  table = replicas.from_record(known['replicas'])
  weights = checkpoint.load_weights(recipe.folder)
  return Trained(weights, table, known['fingerprint'])
