"""The whole study: the ten rows of the paper's Figure 3.

python -m cmbjax.main --config=configs/study.py
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'study'
  config.strategies = ('7t', 'finetuned', 'scratch', 'combined')
  config.tests = ('btumor_7t', 'btumor_3t', 'ccm_3t')
  return config
