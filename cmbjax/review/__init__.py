"""People judge candidates in a browser; what they say becomes labels."""
