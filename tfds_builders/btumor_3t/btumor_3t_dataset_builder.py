"""Candidates of the cohort 3T_Btumor; everything is in the base class."""

from cmbjax.data import cohort_builder


class Builder(cohort_builder.CohortBuilder):
  """Patches round microbleed candidates, like those of 3T_Btumor."""
