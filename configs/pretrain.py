"""7T training alone: row 1, and the weights that finetune.py can start from.

python -m cmbjax.main --config=configs/pretrain.py

On patches instead of whole scans (see tfds_builders/simulated_patches), add
--config.cohorts.btumor_7t=OUT/simulated_patches/btumor_7t/1.2.0
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'pretrain'
  config.strategies = ('7t',)
  config.tests = ('btumor_7t',)
  return config
