"""The session of two endpoints: what was said arrives exactly once and in order, whatever the connection does."""
