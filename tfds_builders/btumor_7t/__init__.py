"""The cohort 7T_Btumor: see README.md."""
