"""One network of benchmarks/ablation.py: all cohorts, from nothing.

python benchmarks/ablation.py --data runs/heads --out runs/ablation

Short trainings of three folds, equal for every arm; about 4 minutes each on 2
idle CPU cores once the heads are there. Not for weights that are to be used.
"""

from configs import weights


def get_config(preset=''):
  config = weights.get_config(preset)
  config.name = 'ablation'
  config.strategies = ('combined',)
  config.train.combined_start = ''  # channels differ, so all from nothing
  config.train.folds = 3
  config.train.epochs = 6
  config.train.plateau_patience = 1
  return config
