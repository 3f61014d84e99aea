"""The networks of the paper, and the convolutions that make them fast."""
