"""Several readers: merged, compared, adjudicated."""
