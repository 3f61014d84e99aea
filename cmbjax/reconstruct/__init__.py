"""The files of one scan to one susceptibility-weighted image."""
