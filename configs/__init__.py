"""Configs. Every default stands once, in base.py."""
