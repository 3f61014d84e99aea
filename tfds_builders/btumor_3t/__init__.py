"""The cohort 3T_Btumor: see README.md."""
