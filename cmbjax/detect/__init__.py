"""One scan to measured lesions."""
