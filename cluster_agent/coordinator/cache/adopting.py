"""Units that two lines of a run have: what is remembered of the one gets a name in the other on the nodes that hold it.

    a line begins beside another ─▶ nodes that are here are told ─▶ from then on each line frees its own name alone
    a node joins, and its list lacks names of a second line ─▶ it is told again, before it is told of anything freed

A node may be away when a line begins, or the word may be lost with its agent. The line counts on the copy all the same,
and may have told other clusters that it needs nothing more to make the unit. So what a node lacks under one line's name
is lost only if it has it under no other.
"""

from __future__ import annotations

from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.cache import remembering
from cluster_agent.coordinator.live import LiveRun
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.nodes import commands
from cluster_agent.coordinator.state import Known
from wire.lines import is_second


def begin(book: Book, of: RunKey, line: RunKey, known: dict[bytes, Known]) -> None:
    """A line begins with what is remembered of another."""
    for node in book.nodes:
        if units := remembering.kept_on(known, node):
            book.tell(node, commands.adopt(units, of, line))


def joined(book: Book, node: str, units: dict[RunKey, set[bytes]]) -> None:
    """A node has come with these units: those that it shall have in another line too count as there from now on."""
    for live in book.lives.values():
        if not is_second(live.key.run):
            continue
        lacking = _expected(live, node) - units.get(live.key, set())
        for other in [each for each in units if lacking and remembering.are_lines_of_one_run(each, live.key)]:
            if found := lacking & units[other]:
                book.tell(node, commands.adopt(sorted(found), other, live.key))
                units.setdefault(live.key, set()).update(found)
                lacking -= found


def _expected(live: LiveRun, node: str) -> set[bytes]:
    known = live.run.units
    here = {unit.id for unit in known.values() if node in unit.copies}
    return here | {unit for unit in live.stock if unit not in known and live.stocked(unit, node)}
