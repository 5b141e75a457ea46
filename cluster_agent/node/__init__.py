"""The node daemon: the node's data store and its workers."""
