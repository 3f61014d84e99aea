"""Scans: NIfTI and BIDS in, SWI and brain mask out. Imports nothing of ours."""
