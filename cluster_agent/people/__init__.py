"""People who ask the agent itself, hub or no hub: the same calls as at the hub, about what is here."""
