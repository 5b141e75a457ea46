"""What is told of a unit that this node has made."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import Content
from wire.digests import unit_id


def produced(task: bytes, port: str, index: int, content: Content, name: str) -> node_pb2.ProducedUnit:
    """The unit that `task` put on `port`, with its id, digest, size and name."""
    unit = model_pb2.Unit(id=unit_id(task, port, index), digest=content.digest, size=content.size, name=name)
    return node_pb2.ProducedUnit(port=port, index=index, unit=unit)
