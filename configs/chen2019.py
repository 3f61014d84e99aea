"""The paper: Chen et al., ISMRM 2019 #0671. Strategies, cohorts, rows, claims.

Not run by itself: configs/base.py takes it for every study, configs/study.py
runs all of it. Rows and claims only mark results; a study may train and test
anything else beside them.
"""

import dataclasses

from ml_collections import ConfigDict

from cmbjax.study import Claim, Cohort, Row, Strategy

PAPER = 'Chen et al., ISMRM 2019 #0671'

STRATEGIES = {
  '7t': Strategy('7T', learns=('btumor_7t',)),
  'finetuned': Strategy(
    '7T fine-tuned on 3T', learns=('btumor_3t',), starts='7t'
  ),
  'scratch': Strategy('3T from scratch', learns=('btumor_3t',)),
  'combined': Strategy('7T and 3T combined', learns=('btumor_7t', 'btumor_3t')),
}

# Subjects and test subjects as they fit 2 CPU cores [ours].
COHORTS = {
  'btumor_7t': Cohort('7T_Btumor', protocol='btumor_7t', subjects=10, test=3),
  'btumor_3t': Cohort('3T_Btumor', protocol='btumor_3t', subjects=10, test=4),
  'ccm_3t': Cohort('3T_CCM', protocol='ccm_3t', subjects=4, test='all'),
}

# The paper's, for GPUs: (subjects, test subjects).
PAPER_SCALE = {
  'btumor_7t': (80, 12),  # 49 single-echo + 31 four-echo; 12 test
  'btumor_3t': (48, 16),  # 16 test [paper] + 32 [ours]
  'ccm_3t': (12, 'all'),  # not stated; [ours]
}

# Rows of Figure 3.
ROWS = (
  Row(1, '7t', 'btumor_7t'),
  Row(2, '7t', 'btumor_3t'),
  Row(3, '7t', 'ccm_3t'),
  Row(4, 'finetuned', 'btumor_3t'),
  Row(5, 'finetuned', 'ccm_3t'),
  Row(6, 'scratch', 'btumor_3t'),
  Row(7, 'scratch', 'ccm_3t'),
  Row(8, 'combined', 'btumor_7t'),
  Row(9, 'combined', 'btumor_3t'),
  Row(10, 'combined', 'ccm_3t'),
)
_AT = {row.number: (row.strategy, row.test) for row in ROWS}


def _claim(text, first, second=None, kind='above', **more):
  return Claim(text, _AT[first], _AT.get(second), kind, **more)


CLAIMS = (
  _claim('The 7T model does a little worse on 3T than on 7T', 1, 2),
  _claim('Fine-tuning beats training from scratch on 3T', 4, 6),
  _claim('Fine-tuning beats training from scratch on CCM', 5, 7),
  _claim('Fine-tuning beats the 7T model on 3T', 4, 2, inferred=True),
  _claim('Fine-tuning beats the 7T model on CCM', 5, 3, inferred=True),
  _claim('From scratch is below the 7T model on 3T', 2, 6, inferred=True),
  _claim('From scratch is below the 7T model on CCM', 3, 7, inferred=True),
  _claim('Combined training beats the 7T model on 3T', 9, 2),
  _claim('Combined is not better than fine-tuned on 3T', 9, 4, 'not above'),
  _claim('Combined training beats the 7T model on CCM', 10, 3),
  _claim('Combined training beats fine-tuning on CCM', 10, 5),
  _claim('CCM is the worst test set: 7T model', 2, 3),
  _claim('CCM is the worst test set: fine-tuned', 4, 5),
  _claim('CCM is the worst test set: from scratch', 6, 7),
  _claim('CCM is the worst test set: combined', 9, 10),
  _claim('Combined removes many FPs on CCM', 10, kind='many removed'),
)


def study(preset: str = '') -> ConfigDict:
  """All of it, as `config.study`; 'paper' has the paper's cohort sizes."""
  cohorts = dict(COHORTS)
  if preset == 'paper':
    for name, (subjects, test) in PAPER_SCALE.items():
      cohorts[name] = dataclasses.replace(
        cohorts[name], subjects=subjects, test=test
      )
  # Tables keep the order in which these are given.
  return ConfigDict(
    {
      'paper': PAPER,
      'strategies': ConfigDict(STRATEGIES, sort_keys=False),
      'cohorts': ConfigDict(cohorts, sort_keys=False),
      'rows': ROWS,
      'claims': CLAIMS,
    }
  )
