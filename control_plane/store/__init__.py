"""Where the hub keeps its state: revisions, watches, leases, locks."""
