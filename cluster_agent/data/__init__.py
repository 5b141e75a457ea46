"""The content-addressed store of a node and the ways of bytes in and out of it."""
