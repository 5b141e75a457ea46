"""The scrubber: reads all that a node stores, again and again, so that damage is found while it can be made good."""
