"""The weights that come with cmbjax: 7t, finetuned and combined, 5 folds each.

python -m cmbjax.main --config=configs/weights.py --workdir=runs/weights
cmbjax weights pack runs/weights --out cmbjax/weights
python benchmarks/weights.py --out runs/fresh
cmbjax weights pack cmbjax/weights --out cmbjax/weights --results benchmarks/results/weights.json

Whole simulated heads, so that candidates come as often as in a whole scan;
'combined' starts from '7t' and learns from all three cohorts. About half an
hour on 2 idle cores, two thirds of it for the scans. Seed 5000: 9000 to 9099
are for tuning, 9100 to 9199 for reports, and no other config uses it.
"""

from cmbjax.study import Strategy
from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'weights'
  config.seed = 5000
  config.strategies = ('7t', 'finetuned', 'combined')
  config.tests = ('ccm_3t',)  # one subject; benchmarks/weights.py is the test
  config.simulate.slab_mm = 0.0
  config.simulate.subjects.btumor_7t = 30
  config.simulate.subjects.btumor_3t = 20
  config.simulate.subjects.ccm_3t = 10
  config.test_subjects.btumor_7t = 0
  config.test_subjects.btumor_3t = 0
  config.test_subjects.ccm_3t = 1
  config.study.strategies.combined = Strategy(
    '7T, 3T and CCM combined',
    learns=('btumor_7t', 'btumor_3t', 'ccm_3t'),
    starts='7t',  # half the time of a start from nothing
  )
  config.train.epochs = 16
  config.train.finetune_epochs = 8
  config.train.batch = 32
  config.train.learning_rate = 1e-3  # 1e-4 learns too little in so few steps
  config.train.output_bias = 'prior'  # with zero, 4 of 5 heads fell silent
  config.train.finetune_learning_rate = 5e-4
  config.train.min_learning_rate = 1e-5
  config.train.plateau_factor = 0.3
  config.train.plateau_patience = 2
  config.train.plateau_min_delta = 1e-3
  config.train.weight_decay = 1e-4
  config.train.bn_momentum = 0.97
  return config
