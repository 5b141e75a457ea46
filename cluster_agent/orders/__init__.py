"""Orders and results: what the coordinator and a node daemon say to each other for each task. See `messages`."""
