"""The page server: requests in, events into the log."""
