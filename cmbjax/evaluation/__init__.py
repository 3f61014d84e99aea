"""Predictions to metrics and intervals. Arrays in, numbers out."""
