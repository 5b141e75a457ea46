"""A door of its own, for clusters of which neither can dial the other: both dial it, and speak TLS through it."""
