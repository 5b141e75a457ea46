"""Bundles and other large values that all hubs share."""
