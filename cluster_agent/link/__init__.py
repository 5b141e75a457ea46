"""The agent's end of its stream to the hub."""
