"""3T training from scratch: rows 6 and 7.

python -m cmbjax.main --config=configs/scratch.py
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'scratch'
  config.strategies = ('scratch',)
  config.tests = ('btumor_3t', 'ccm_3t')
  return config
