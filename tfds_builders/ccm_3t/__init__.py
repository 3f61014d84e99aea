"""The cohort 3T_CCM: see README.md."""
