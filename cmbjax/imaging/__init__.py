"""Arrays of one scan: SWI, brain mask, regions. Imports nothing of ours."""
