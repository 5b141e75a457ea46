"""Runs on this cluster: how a fragment comes, is reserved for, ends, and what is told of it."""
