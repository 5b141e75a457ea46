"""What namespaces may have: bytes stored on each cluster, which agents see to, and open runs, which hubs see to."""
