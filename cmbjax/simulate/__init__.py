"""A physics simulator that writes the files a scanner would."""
