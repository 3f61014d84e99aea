"""Ten rows and sixteen claims, as many as the paper has, as test data."""

from cmbjax.evaluation.claims import Claim

# (strategy, test set) -> row of Figure 3.
ROWS = {
  ('7t', 'btumor_7t'): 1,
  ('7t', 'btumor_3t'): 2,
  ('7t', 'ccm_3t'): 3,
  ('finetuned', 'btumor_3t'): 4,
  ('finetuned', 'ccm_3t'): 5,
  ('scratch', 'btumor_3t'): 6,
  ('scratch', 'ccm_3t'): 7,
  ('combined', 'btumor_7t'): 8,
  ('combined', 'btumor_3t'): 9,
  ('combined', 'ccm_3t'): 10,
}
_AT = {number: key for key, number in ROWS.items()}


def _claim(text, first, second=None, kind='above', *, inferred=False):
  second = None if second is None else _AT[second]
  return Claim(text, _AT[first], second, kind, inferred=inferred)


# `inferred`: the paper does not name the reference of "higher".
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
LABELS = {
  '7t': '7T',
  'finetuned': '7T fine-tuned on 3T',
  'scratch': '3T from scratch',
  'combined': '7T and 3T combined',
}
COHORT_LABELS = {
  'btumor_7t': '7T_Btumor',
  'btumor_3t': '3T_Btumor',
  'ccm_3t': '3T_CCM',
}
