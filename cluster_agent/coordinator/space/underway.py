"""Bytes on their way here from other clusters, counted against the disk of the node that they come to.

    a fetch begins ─▶ `begin`     it is over, or needless, or its run has ended ─▶ `end`     a node joins ─▶ `recount`

All that begins or ends such a fetch does it here, so that what is set aside is given back once, and once only.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.units.errands import Fetch


def begin(book: Book, fetch: Fetch, size: int) -> None:
    """So many bytes come to the fetch's node. Nothing happens if they are known to."""
    if not fetch.crossing:
        fetch.crossing = True
        fetch.set_aside = size
        book.nodes[fetch.node].fetching += size


def end(book: Book, live: LiveRun, unit: bytes, node: str) -> Fetch | None:
    """Nothing comes to the node for that unit any more; gives what was under way, if anything was."""
    fetch = live.fetches.pop((unit, node), None)
    if fetch is not None and fetch.crossing:
        book.nodes[node].fetching -= fetch.set_aside
    return fetch


def end_all(book: Book, live: LiveRun) -> None:
    """The run has ended."""
    for unit, node in list(live.fetches):
        end(book, live, unit, node)


def recount(book: Book, name: str) -> None:
    """What was counted when the node was here before is counted anew."""
    fetches = [fetch for live in book.lives.values() for fetch in live.fetches.values()]
    book.nodes[name].fetching = sum(fetch.set_aside for fetch in fetches if fetch.node == name and fetch.crossing)
