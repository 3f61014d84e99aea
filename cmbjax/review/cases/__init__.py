"""What is to be read: scans, their candidates and outlines."""
