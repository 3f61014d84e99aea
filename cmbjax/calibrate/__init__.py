"""Scans that a site has reviewed to weights with points of its own."""
