"""A config to a finished study.

What a config file needs is here; to run one: `cmbjax.study.run`.
"""

from cmbjax.study.spec import Claim, Cohort, Row, Strategy

__all__ = ['Claim', 'Cohort', 'Row', 'Strategy']
