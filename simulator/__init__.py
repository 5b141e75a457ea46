"""The production cores on virtual time."""
