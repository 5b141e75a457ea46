"""The nodes of this cluster: which is there, which executes a task, and what it is told."""
