"""SWI and mask to candidate microbleeds, each with its reason."""
