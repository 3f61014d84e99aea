"""Networks by name, and own ones as 'module:name'.

Rule: the name decides the parameters, nothing else does.
"""

from typing import Any

import flax.linen as nn

from cmbjax import errors, plugins
from cmbjax.models import contract as _contract
from cmbjax.models import convolution as _convolution
from cmbjax.models import resnet as _resnet

_BUILDERS = {**_resnet.RESNETS, **_resnet.BASELINES}
MODELS = tuple(sorted(_BUILDERS))
DEFAULT = 'resnet_v4'

split_over = _contract.split_over


def get_model(
  name: str = DEFAULT,
  *,
  convolution: str = 'auto',
  channels: int = 1,
  **settings: Any,
) -> nn.Module:
  """The network of that name as a Flax module.

  Args:
    name: one of `MODELS`, or your own as 'module:name': a module of
      flax.linen, its class, or a function that returns one. It takes
      (x [B, 16, 16, 8, C], train=bool) and gives logits [B] or [B, 1]; it may
      have params and batch_stats.
    convolution: 'auto' (by platform and layer) or a form of
      `convolution.FORMS`; changes the speed, never the parameters.
    channels: C, for a look at an own network.
    **settings: `bn_momentum`, `dropout`, `dtype` and `data_axis` of
      `resnet.ResNet`. An own network gets those that it takes by name. The
      plain baselines have no BatchNorm and so no 'batch_stats'.

  Returns:
    A module whose `apply({'params', 'batch_stats'}, x [B, 16, 16, 8, C],
    train=..., rngs={'dropout': key}, mutable=['batch_stats'])` gives
    logits [B].

  Raises:
    InputError: unknown name or form, or an own network that cannot be used.
  """
  found = plugins.find(name, key=_contract.KEY, known=_BUILDERS)
  forms = ('auto', *_convolution.FORMS)
  if convolution not in forms:
    raise errors.InputError(
      f"config.model.convolution: is '{convolution}'; choose one of "
      f'{", ".join(forms)}.'
    )
  settings['convolution'] = convolution
  if not plugins.is_plugin(name):
    return found(**settings)
  if callable(found) and not isinstance(found, nn.Module):
    must = f'need none but {", ".join(settings)}'
    with plugins.tried(name, key=_contract.KEY, must=must, verb='made'):
      found = found(**plugins.accepted(found, settings))
  return _contract.own(name, found, channels=channels)
