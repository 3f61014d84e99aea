"""Trained networks that come with the package, and how they are packed."""
