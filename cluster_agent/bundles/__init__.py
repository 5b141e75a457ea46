"""Steps' code on its way from the hub to the nodes: pulled once by the cluster, kept by content."""

from cluster_agent.bundles.cache import BundleCache, BundleError, Pull

__all__ = ["BundleCache", "BundleError", "Pull"]
