"""The engine that owns the runs' state on this cluster."""
