"""The hub's services for people and programs."""
