"""Replicas: strategy x fold x seed, trained, saved, resumed."""
