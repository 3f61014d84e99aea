"""Networks that learn from unlike generators, so that they carry over.

python -m cmbjax.main --config=configs/families.py --workdir=runs/families
cmbjax detect BIDS found --weights runs/families/models/combined

Whole heads, each with a scanner of its own and every part of it drawn by one
of several unlike generators (`cmbjax.simulate.families`), in patches of equal
mm. The operating points and the calibration are chosen on heads of which half
of the parts come from generators that trained nothing. No bundled weights are
made by it yet.
"""

from cmbjax.study import Cohort, Strategy
from configs import weights

TRAINED, HELD_OUT = 'randomised', 'held_out'


def get_config(preset=''):
  config = weights.get_config(preset)
  config.name = 'families'
  config.study.cohorts[TRAINED] = Cohort(
    'Randomised scanners', protocol='randomised', families='trained',
    subjects=130, lesions=40.0,
  )  # fmt: skip
  config.study.cohorts[HELD_OUT] = Cohort(
    'Generators held out', protocol='randomised', families='mixed',
    subjects=32, first=1001, test='all',
  )  # fmt: skip
  config.strategies = ('combined',)
  config.study.strategies.combined = Strategy(
    'All scanners and generators', learns=(TRAINED,)
  )
  config.tests = (HELD_OUT,)
  config.evaluation.points_from = HELD_OUT
  config.candidates = 'learned'
  config.patches = 'resampled'
  config.channels = ('swi', 'wide', 'mirror')
  config.train.augmenter = 'appearance'
  config.train.epochs = 20
  config.evaluation.mirrored = True
  return config
