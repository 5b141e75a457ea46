"""A whole federation on this machine, in one call."""
