"""The hub: it holds the topology, plans runs and keeps the agents' sessions."""
