"""The weights that `cmbjax detect` takes: patches in mm, all three cohorts.

python -m cmbjax.main --config=configs/robust.py --workdir=runs/robust
cmbjax weights pack runs/robust --out cmbjax/weights --name robust

Twice the heads of configs/weights.py and the same network. Every patch is
resampled to 0.5 x 0.5 x 2 mm, so that a microbleed looks the same whatever
the voxels of the scan (chosen by benchmarks/ablation.py), and judged with its
mirror images (chosen out of fold). About 35 minutes on 2 idle cores once the
heads are there.
"""

from cmbjax.study import Strategy
from configs import weights


def get_config(preset=''):
  config = weights.get_config(preset)
  config.name = 'robust'
  config.simulate.subjects.btumor_7t = 60
  config.simulate.subjects.btumor_3t = 40
  config.simulate.subjects.ccm_3t = 20
  config.patches = 'resampled'
  config.strategies = ('combined',)
  config.study.strategies.combined = Strategy(
    '7T, 3T and CCM combined', learns=('btumor_7t', 'btumor_3t', 'ccm_3t')
  )  # from nothing: '7t' has seen patches in voxels
  config.train.epochs = 14
  config.evaluation.mirrored = True
  return config
