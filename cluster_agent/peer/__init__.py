"""Cluster to cluster: notices of units and bulk data, without the hub."""
