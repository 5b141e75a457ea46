"""The agent of one cluster: it runs its part of every run, hub or no hub."""
