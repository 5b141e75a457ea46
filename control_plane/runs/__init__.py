"""The life of a run as the hub sees it."""
