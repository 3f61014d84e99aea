"""Candidates of the cohort 7T_Btumor; everything is in the base class."""

from cmbjax.data import cohort_builder


class Builder(cohort_builder.CohortBuilder):
  """Patches round microbleed candidates, like those of 7T_Btumor."""
