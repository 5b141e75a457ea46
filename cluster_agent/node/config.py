"""What a node daemon is told by whoever starts it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cluster_agent.data.scrub.scrubber import MOST_BYTES
from cluster_agent.data.shared.config import SharedConfig
from wire.identity import Credentials

if TYPE_CHECKING:
    from cluster_agent.runtimes.kubernetes.surroundings import KubernetesConfig


@dataclass(frozen=True)
class NodeConfig:
    """What a node daemon is told. `cpus` may be a fraction; `memory` and `disk` are bytes, 0 = not limited.

    Where workers are pods, `cpus` and `memory` of 0 are what Kubernetes says that the node has.
    """

    cluster: str
    node: str
    state: Path
    agent: str  # host:port of the cluster's agent
    credentials: Credentials
    listen_data: str  # host:port; port 0 = any
    advertise_data: str = ""  # host:port where others find it, where that differs
    plain_port: int = 0  # where to serve it without TLS, as links allow that; 0 = any
    cpus: float = 1.0
    memory: int = 0
    disk: int = 0
    python: str = sys.executable  # interpreter of `python` steps
    # Where small tasks have theirs. None: in shared memory if there is any; on the disk if workers are pods.
    memory_directory: Path | None = None
    # What units may take of that. None: a small part of the node's memory, for what workflows want there; nothing if
    # workers are pods.
    memory_tier: int | None = None
    secrets: Path | None = None  # what the operator keeps for steps; of pods Kubernetes knows
    kubernetes: KubernetesConfig | None = None  # workers are pods
    storage: SharedConfig = field(default_factory=SharedConfig)  # places that it shares with other nodes
    scrub_period: float | None = None  # in so many seconds all that it stores is read again; 0 = never, None: a week
    scrub_most: float = MOST_BYTES  # bytes a second that this reads at most
