"""Configs. Every default is in base.py, once."""
