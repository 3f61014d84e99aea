"""What a reader did, one event a line, and the state that it makes."""
