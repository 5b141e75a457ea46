"""Bulk data between the stores of nodes: HTTPS with ranges, both ends known by their certificates."""
