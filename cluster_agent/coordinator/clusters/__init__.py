"""Other clusters: which one executes a unit's next task, and how units get there and come from there."""
