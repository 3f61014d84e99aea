"""Patches drawn without scans: see README.md."""
