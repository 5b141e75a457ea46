"""Which clusters may execute each step of a run, with what share, and why."""
