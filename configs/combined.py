"""Training on 7T and 3T together: rows 8, 9 and 10.

python -m cmbjax.main --config=configs/combined.py
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'combined'
  config.strategies = ('combined',)
  config.tests = ('btumor_7t', 'btumor_3t', 'ccm_3t')
  return config
