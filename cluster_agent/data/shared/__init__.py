"""Places that several nodes, or clusters, reach: a Redis for small units, a bucket of object storage for all."""
