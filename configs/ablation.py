"""One network of benchmarks/ablation.py: all cohorts, from nothing.

python benchmarks/ablation.py --data runs/heads --out runs/ablation

Short trainings of three folds, equal for every arm; about 4 minutes each on 2
idle CPU cores once the heads are there. Not for weights that are to be used.
"""

from cmbjax.study import Cohort, Strategy
from configs import weights


def get_config(preset=''):
  config = weights.get_config(preset)
  config.name = 'ablation'
  config.strategies = ('combined',)
  config.study.strategies.combined = Strategy(
    '7T, 3T and CCM combined', learns=('btumor_7t', 'btumor_3t', 'ccm_3t')
  )  # from nothing: channels differ
  # Every subject with a scanner of its own, for arms that learn from them.
  config.study.cohorts.randomised = Cohort(
    'Randomised scanners', protocol='randomised'
  )
  config.train.folds = 3
  config.train.epochs = 6
  config.train.plateau_patience = 1
  return config
