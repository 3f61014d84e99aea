"""The weights that come with cmbjax: 7t, finetuned and combined, 5 folds each.

python -m cmbjax.main --config=configs/weights.py --workdir=runs/weights
cmbjax weights pack runs/weights --out cmbjax/weights

Whole simulated heads, so that candidates come as often as in a whole scan;
'combined' learns from all three cohorts. Seed 5000: seeds 9000 to 9199 are for
tuning and for reports, and no study of the configs beside this one uses it.
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'weights'
  config.seed = 5000
  config.strategies = ('7t', 'finetuned', 'combined')
  config.tests = ('btumor_7t', 'btumor_3t', 'ccm_3t')
  config.simulate.slab_mm = 0.0
  config.simulate.subjects.btumor_7t = 38
  config.simulate.subjects.btumor_3t = 38
  config.simulate.subjects.ccm_3t = 18
  config.test_subjects.btumor_7t = 3
  config.test_subjects.btumor_3t = 3
  config.test_subjects.ccm_3t = 3
  config.train.combined = ('btumor_7t', 'btumor_3t', 'ccm_3t')
  return config
