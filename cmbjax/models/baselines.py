"""The simple networks published beside the residual ones, as comparators.

Rule: as in `resnet`: names and parameter counts never change. Those whose
input is not 16 x 16 x 8 are left out.
"""

import functools

from cmbjax.models.resnet import ResNet

_flat = functools.partial(ResNet, flatten=True)
_cnn = functools.partial(_flat, (), dropout=0.0)

BASELINES = {
  'fcnn': functools.partial(_cnn, head=(128, 64)),
  'resnet_v2': functools.partial(
    _flat, ((1, 8), (1, 16)), (8, 16), pool_stages=False
  ),
  'simpler_cnn': functools.partial(_cnn, (8, 16, 32), pool_last=False),
  'simpler_cnn_v2': functools.partial(
    _cnn, (8, 16, 32), pool_last=False, dropout=0.5
  ),
  'simpler_cnn_v3': functools.partial(_cnn, (8, 16), dropout=0.5),
}
