"""What follows from the table of cached results: its bytes, and which contents a node keeps for it."""

from __future__ import annotations

from collections import Counter

from cluster_agent.coordinator.state import Cached
from wire.digests import content_name


class Shelf:
    """What follows from the table: its bytes, and how many results have a content on a node."""

    def __init__(self) -> None:
        self.bytes = 0
        self.held: Counter[tuple[str, str, bytes]] = Counter()  # node, namespace, name of a content

    def count(self, entry: Cached, by: int) -> list[bytes]:
        """Count a result in or out; the names of contents that no result has any more."""
        self.bytes += by * entry.size
        gone = []
        for name in {content_name(output.unit.digest) for output in entry.outputs}:
            key = (entry.node, entry.namespace, name)
            self.held[key] += by
            if not self.held[key]:
                del self.held[key]
                gone.append(name)
        return gone
