"""What peers say of a run, or of a newer plan of one, that has not come to us yet: kept until it comes, within a bound.

    peer ─▶ keep ─ MessageKept ─▶ State.early ─ the fragment comes ─▶ heard
              └ no room for that peer ─ EarlyRefused ─▶ the fragment comes ─▶ fails, naming the peer

A peer's messages come once and in order, so none may be dropped and the rest be heard. What is beyond the peer's bound
takes all that it has said of that run with it, and the fragment fails when it comes, instead of waiting for ever. So a
member that turns against the others fills no disk, and harms only runs that it takes part in. Of what a step has done
only the newest report is kept: those that are well say little else for long.
"""

from __future__ import annotations

from typing import Final

from bdw_fed.v1 import peer_pb2
from cluster_agent.coordinator.book import Book
from cluster_agent.coordinator.clusters import records
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.state import Early

_OVERHEAD: Final = 100  # bytes that a kept message or a refused run takes besides its own


def keep(book: Book, key: RunKey, cluster: str, message: peer_pb2.PeerMessage, serialised: bytes) -> None:
    """Keep the message, unless the run was forgotten at that revision."""
    name = run_name(key)
    if message.revision <= book.state.forgotten.get(name, -1):
        return
    early = book.state.early.get(name)
    if early is not None and cluster in early.refused:
        return
    most = book.policy.early_bytes
    if _kept(book, cluster) + len(serialised) + _OVERHEAD <= most:
        book.commit(records.MessageKept(key, cluster, serialised))
    elif _kept(book, cluster) <= most + most // 8:  # nobody who is well has so many runs refused
        book.commit(records.EarlyRefused(key, cluster, message.revision))


def said(early: Early) -> list[tuple[str, bytes]]:
    """The messages that were kept, with who said them."""
    return [(cluster, message) for cluster, messages in early.kept.items() for message in messages.values()]


def run_name(key: RunKey) -> str:
    """The run's key in the durable state."""
    return f"{key.namespace}/{key.run}"


def derive(book: Book) -> None:
    """After a restore: how much is kept of each peer."""
    book.early_bytes.clear()
    for early in book.state.early.values():
        _count_all(book, early, 1)


def forget(book: Book, name: str, revision: int | None = None) -> None:
    """Take out what was kept of a run, up to this plan of it if one is given. Part of applying a record.

    Who was refused is refused for a newer plan too: of which one the words were that are missing is not known.
    """
    early = book.state.early.pop(name, None)
    if early is None:
        return
    _count_all(book, early, -1)
    if revision is None or early.revision <= revision:
        return
    for cluster, messages in list(early.kept.items()):
        del early.kept[cluster]
        if newer := {about: said for about, said in messages.items() if _revision(said) > revision}:
            early.kept[cluster] = newer
    book.state.early[name] = early
    _count_all(book, early, 1)


def _revision(message: bytes) -> int:
    return peer_pb2.PeerMessage.FromString(message).revision


def apply_kept(book: Book, record: records.MessageKept) -> None:
    """See records."""
    early = book.state.early.setdefault(run_name(record.run), Early())
    kept = early.kept.setdefault(record.cluster, {})
    message = peer_pb2.PeerMessage.FromString(record.message)
    about = f"{message.epoch} {message.report.step}" if message.HasField("report") else f"#{early.count}"
    before = kept.get(about)
    kept[about] = record.message
    early.count += 1
    early.revision = max(early.revision, message.revision)
    _count(book, record.cluster, len(record.message) - len(before) if before else len(record.message) + _OVERHEAD)


def apply_refused(book: Book, record: records.EarlyRefused) -> None:
    """See records."""
    early = book.state.early.setdefault(run_name(record.run), Early())
    dropped = early.kept.pop(record.cluster, {})
    _count(book, record.cluster, _OVERHEAD - sum(len(message) + _OVERHEAD for message in dropped.values()))
    early.refused.append(record.cluster)
    early.revision = max(early.revision, record.revision)


def _kept(book: Book, cluster: str) -> int:
    return book.early_bytes.get(cluster, 0)


def _count_all(book: Book, early: Early, sign: int) -> None:
    for cluster in early.refused:
        _count(book, cluster, sign * _OVERHEAD)
    for cluster, kept in early.kept.items():
        _count(book, cluster, sign * sum(len(message) + _OVERHEAD for message in kept.values()))


def _count(book: Book, cluster: str, size: int) -> None:
    total = _kept(book, cluster) + size
    if total:
        book.early_bytes[cluster] = total
    else:
        book.early_bytes.pop(cluster, None)
