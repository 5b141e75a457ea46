"""What a relay has passed on, by who dialled whom, and whom it has refused and why: for Prometheus to read.

Clusters' names and codes are letters, digits and '-', so nothing needs to be escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cluster_agent.relay.pipe import Pipe

_HELP = {
    "bdw_fed_relay_bytes_total": "Bytes that were passed on, by the cluster that sent and the one that received them.",
    "bdw_fed_relay_connections_total": "Connections that were let through, by who dialled whom.",
    "bdw_fed_relay_refused_total": "Connections that came to nothing, by the reason.",
    "bdw_fed_relay_now": "Members that can be called, calls that wait, pairs that speak, newcomers.",
}


class Counts:
    """Sums since the start, those of the pairs that speak just now among them."""

    def __init__(self) -> None:
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._connections: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._pipes: dict[Pipe, tuple[str, str]] = {}
        self.now: Callable[[], Mapping[str, int]] = dict  # what holds just now, by name

    def refused(self, why: str) -> None:
        """A connection came to nothing."""
        self._refused[why] += 1

    @contextmanager
    def counted(self, by: str, to: str, pipe: Pipe) -> Iterator[None]:
        """Count what passes through a pipe as long as the context lasts."""
        self._connections[by, to] += 1
        self._pipes[pipe] = (by, to)
        try:
            yield
        finally:
            del self._pipes[pipe]
            _add(self._bytes, by, to, pipe)

    def passed(self) -> dict[tuple[str, str], int]:
        """Bytes by who sent and who received them."""
        sums = Counter(self._bytes)
        for pipe, (by, to) in self._pipes.items():
            _add(sums, by, to, pipe)
        return dict(sums)

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        lines = [f"# HELP {name} {words}" for name, words in _HELP.items()]
        lines += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}" for name in _HELP]
        lines += [
            f'bdw_fed_relay_bytes_total{{sender="{by}",receiver="{to}"}} {count}'
            for (by, to), count in sorted(self.passed().items())
        ]
        lines += [
            f'bdw_fed_relay_connections_total{{caller="{by}",called="{to}"}} {count}'
            for (by, to), count in sorted(self._connections.items())
        ]
        lines += [
            f'bdw_fed_relay_refused_total{{reason="{why}"}} {count}' for why, count in sorted(self._refused.items())
        ]
        lines += [f'bdw_fed_relay_now{{what="{what}"}} {count}' for what, count in self.now().items()]
        return "\n".join(sorted(lines, key=_order)) + "\n"


def _add(sums: Counter[tuple[str, str]], by: str, to: str, pipe: Pipe) -> None:
    there, back = pipe.moved
    sums[by, to] += there
    sums[to, by] += back


def _order(line: str) -> tuple[str, int]:
    """What is said of one metric together: HELP, TYPE, its values."""
    words = line.split(" ")
    if words[0] == "#":
        return words[2], 0 if words[1] == "HELP" else 1
    return line.partition("{")[0], 2
