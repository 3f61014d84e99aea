"""Networks by name. The name decides the parameters, nothing else does."""

from cmbjax import errors
from cmbjax.models import baselines as _baselines
from cmbjax.models import convolution as _convolution
from cmbjax.models import resnet as _resnet

_BUILDERS = {**_resnet.RESNETS, **_baselines.BASELINES}
MODELS = tuple(sorted(_BUILDERS))
DEFAULT = 'resnet_v4'


def get_model(name: str = DEFAULT, *, convolution: str = 'auto', **kwargs):
  """The network of that name as a Flax module.

  Args:
    name: one of `MODELS`.
    convolution: 'auto' (by platform and layer) or a form of
      `convolution.FORMS`; changes the speed, never the parameters.
    **kwargs: `bn_momentum`, `dropout`, `dtype` and `data_axis` of
      `resnet.ResNet`. The plain baselines have no BatchNorm and so no
      'batch_stats'.

  Returns:
    A module whose `apply({'params', 'batch_stats'}, x [B, 16, 16, 8, C],
    train=..., rngs={'dropout': key}, mutable=['batch_stats'])` gives
    logits [B].

  Raises:
    InputError: unknown name or form.
  """
  if name not in _BUILDERS:
    raise errors.InputError(
      f"Unknown model '{name}'; choose one of {', '.join(MODELS)}."
    )
  forms = ('auto', *_convolution.FORMS)
  if convolution not in forms:
    raise errors.InputError(
      f"Unknown convolution '{convolution}'; choose one of {', '.join(forms)}."
    )
  return _BUILDERS[name](convolution=convolution, **kwargs)
