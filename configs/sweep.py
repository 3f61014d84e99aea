"""Three learning rates for every strategy: 60 trainings, one table.

python -m cmbjax.main --config=configs/sweep.py --mode=dryrun
python -m cmbjax.main --config=configs/sweep.py

Expected: the ten rows, each from the rate with the smallest held-out loss, and
sweep.csv with all of them.
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'sweep'
  config.strategies = ('7t', 'finetuned', 'scratch', 'combined')
  config.tests = ('btumor_7t', 'btumor_3t', 'ccm_3t')
  return config


def sweep():
  """Each point is a whole study; trainings that agree are done once."""
  for rate in (3e-5, 1e-4, 3e-4):
    yield {'train.learning_rate': rate, 'train.finetune_learning_rate': rate}
