"""Rows, claims and labels of the study of the paper, for tests of reports."""

from configs import chen2019

ROWS = {(row.strategy, row.test): row.number for row in chen2019.ROWS}
CLAIMS = chen2019.CLAIMS
LABELS = {name: one.label for name, one in chen2019.STRATEGIES.items()}
COHORT_LABELS = {name: one.label for name, one in chen2019.COHORTS.items()}
