"""Tasks: how they form from units, what becomes of their results, and when they are tried again or no more."""
