"""Logs of real runs as files: what an agent had in its database, and the state that it led to.

    python -m tests.properties.recording STATE NAME

takes the log of each agent of the federation whose state directory is STATE, which should be down, and writes
`recorded/NAME-CLUSTER.log`: compressed MessagePack of the cluster, its last snapshot, the batches of records since, and
the digest of the state after them. Such a file must mean the same for as long as its release is supported.

    python -m tests.properties.recording

notes the digests anew, for when the state is encoded otherwise, and nothing else has changed.
"""

from __future__ import annotations

import sqlite3
import sys
import zlib
from contextlib import closing
from pathlib import Path

import msgspec

from cluster_agent.coordinator import records
from cluster_agent.coordinator.core import Coordinator
from cluster_agent.log.store import FILE
from wire.digests import bytes_digest

RECORDED = Path(__file__).parent / "recorded"


class Recorded(msgspec.Struct, array_like=True):
    """A log. `snapshot` may be empty."""

    cluster: str
    snapshot: bytes
    batches: list[bytes]
    digest: bytes

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """The log that `write` has put there."""
        return msgspec.msgpack.decode(zlib.decompress(path.read_bytes()), type=cls)

    def write(self, path: Path) -> None:
        """Keep it."""
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(msgspec.msgpack.encode(self), 9))

    def replayed(self) -> Coordinator:
        """A coordinator with all of the log applied."""
        core = Coordinator(self.cluster)
        if self.snapshot:
            core.restore(self.snapshot)
        for batch in self.batches:
            for record in records.decode_all(batch):
                core.apply(record)
        return core


def record(state: Path, name: str) -> None:
    """See the module."""
    for directory in sorted(state.glob("agent-*")):
        with closing(sqlite3.connect(directory / FILE)) as database:
            snapshot = database.execute("SELECT body FROM snapshot").fetchone()
            batches = [bytes(body) for (body,) in database.execute("SELECT body FROM records ORDER BY seq")]
        cluster = directory.name.removeprefix("agent-")
        found = Recorded(cluster, bytes(snapshot[0]) if snapshot else b"", batches, b"")
        found.digest = bytes_digest(found.replayed().snapshot())
        found.write(RECORDED / f"{name}-{cluster}.log")


def renew() -> None:
    """See the module."""
    for path in RECORDED.glob("*.log"):
        found = Recorded.read(path)
        found.digest = bytes_digest(found.replayed().snapshot())
        found.write(path)


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else renew()
