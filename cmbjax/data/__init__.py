"""Cohort folders to labelled patches, folds and batches."""
