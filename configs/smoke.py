"""Everything once, as small as it gets: does the machine run it at all?

  python -m cmbjax.main --config=configs/smoke.py

Expected: about 70 s on 2 cores (aim: 60); the numbers mean nothing.
"""

from configs import base


def get_config(preset=''):
  config = base.get_config(preset)
  config.name = 'smoke'
  config.simulate.slab_mm = 24.0
  config.simulate.subjects.btumor_7t = 3
  config.simulate.subjects.btumor_3t = 3
  config.simulate.subjects.ccm_3t = 1
  config.test_subjects.btumor_7t = 1
  config.test_subjects.btumor_3t = 1
  config.model.name = 'resnet_v3'
  config.train.folds = 2
  config.train.epochs = 2
  config.train.finetune_epochs = 1
  config.evaluation.draws = 200
  return config
