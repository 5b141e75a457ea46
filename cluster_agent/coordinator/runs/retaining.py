"""What is kept of a run that has not succeeded, so that it can be tried again from what had failed (`policy.retain`).

A fragment that ends badly frees its units at once, unless its run retains: then it keeps all of them until the hub,
once the run has ended everywhere, says what becomes of them. RETAINED means: keep them for so long as the policy says,
in case somebody tries the run again, and free them then as FINISHED would (`ending`). A new fragment that comes before
that remembers what was done, as after any new beginning (`remembering`). The time begins anew after a restart.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.nodes import commands

WANT_FINISHED: Final = int(model_pb2.DESIRED_STATE_FINISHED)
WANT_RETAINED: Final = int(model_pb2.DESIRED_STATE_RETAINED)


def retains(live: LiveRun) -> bool:
    """Whether the run has ended, and its data is kept for a while."""
    return live.run.desired == WANT_RETAINED and live.graph.retain > 0 and not live.run.swept


def watch(book: Book, live: LiveRun) -> None:
    """See to it that what is retained is freed in time; nothing happens if nothing is."""
    if retains(live):
        book.wake(book.now + live.graph.retain, "retained", live.key, live.graph.epoch)


def stop_on_nodes(book: Book, live: LiveRun) -> None:
    """End the run's tasks, and keep what it has."""
    held: dict[str, list[bytes]] = {}
    for unit in live.run.units.values():
        for node in unit.copies:
            held.setdefault(node, []).append(unit.id)
    for unit_id, stocked in live.stock.items():
        for node in stocked.copies:
            held.setdefault(node, []).append(unit_id)
    for node in book.nodes:
        book.tell(node, commands.end_run(live.key, held.get(node, []), keep_shared=True))
