"""Finished readings as a cohort, and verdicts from elsewhere."""
