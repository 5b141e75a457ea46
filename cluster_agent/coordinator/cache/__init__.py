"""Results that are known already: of the cache, and of what a run has done before it began again."""
