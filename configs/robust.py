"""The weights that `cmbjax detect` takes: patches in mm, all three cohorts.

python -m cmbjax.main --config=configs/robust.py --workdir=runs/robust
cmbjax weights pack runs/robust --out cmbjax/weights --name robust

The heads, the folds and the network are those of configs/weights.py; what
differs was chosen by benchmarks/ablation.py: every patch is resampled to
0.5 x 0.5 x 2 mm, so that a microbleed looks the same whatever the voxels of
the scan. About 15 minutes on 2 idle cores once the heads are there.
"""

from configs import weights


def get_config(preset=''):
  config = weights.get_config(preset)
  config.name = 'robust'
  config.patches = 'resampled'
  config.strategies = ('combined',)
  config.train.combined_start = ''  # '7t' has seen patches in voxels
  config.train.epochs = 12
  return config
