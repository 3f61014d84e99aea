"""Folders and files to scans: what each file is, and of whom."""
