"""What the hub is asked once its pods are there: to take the topology, and whether it sees everybody."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from bdw_fed.kind.errors import KindError

_SECONDS = 120.0
_ASK_AGAIN = 0.2


def apply_topology(state: Path, text: str, file: str) -> None:
    """Apply the topology; asked again while the hub can't be reached yet. ClientError, KindError."""
    from bdw_fed.client import Document, SyncClient
    from bdw_fed.client.errors import Unavailable

    deadline = time.monotonic() + _SECONDS
    with SyncClient(state=state) as client:
        while True:
            try:
                client.apply([Document(text, file)])
                return
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise KindError(f"the hub can't be reached from this machine: {error}") from error
                time.sleep(_ASK_AGAIN)


def await_members(state: Path, members: Mapping[str, set[str]]) -> None:
    """Until the hub sees all clusters, and all their nodes, ready. KindError names those that are missing."""
    from bdw_fed.client import SyncClient

    deadline = time.monotonic() + _SECONDS
    with SyncClient(state=state) as client:
        while absent := missing(client, members):
            if time.monotonic() > deadline:
                raise KindError(f"the hub does not see: {', '.join(absent)}. Look at: bdw-fed kind status")
            time.sleep(_ASK_AGAIN)


def missing(client: object, members: Mapping[str, set[str]]) -> list[str]:
    """The clusters and nodes that the hub does not see ready; the hub itself if it does not answer."""
    from bdw_fed.client import SyncClient
    from bdw_fed.client.errors import Unavailable

    assert isinstance(client, SyncClient)
    try:
        seen = {cluster.name: cluster for cluster in client.status().clusters}
    except Unavailable:
        return ["the hub"]
    absent = []
    for name, nodes in members.items():
        if name not in seen or seen[name].state != "ready":
            absent.append(f"cluster {name}")
            continue
        ready = {node.name for node in seen[name].nodes if node.ready}
        absent += [f"node {name}/{node}" for node in sorted(nodes - ready)]
    return absent
