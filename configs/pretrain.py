"""7T training alone: row 1, and the weights that finetune.py can start from.

python -m cmbjax.main --config=configs/pretrain.py
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'pretrain'
  config.strategies = ('7t',)
  config.tests = ('btumor_7t',)
  return config
