"""7T weights on 3T, directly and fine-tuned: rows 2 to 5 of Figure 3.

python -m cmbjax.main --config=configs/finetune.py
python -m cmbjax.main --config=configs/finetune.py:paper   # for GPUs
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'finetune'
  if preset != 'paper':
    config.pretrained = '7t'  # shipped; --config.pretrained=train trains them
  return config
