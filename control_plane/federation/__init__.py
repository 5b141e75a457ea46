"""The sessions of the agents with the hub."""
