"""The language of the coordinator's log: what was decided or learned, in the order in which it became true.

A record is the only thing that changes the durable state. It says decisions (where a task goes, who gets a unit), not
events, so that a log means the same to a later version of the code. Each package has the records of its noun, and the
modules that apply them; a log knows them by their names.
"""

from __future__ import annotations

import msgspec

from cluster_agent.coordinator.cache.records import CacheRecord
from cluster_agent.coordinator.clusters.records import ClusterRecord
from cluster_agent.coordinator.nodes.records import NodeRecord
from cluster_agent.coordinator.runs.records import RunRecord
from cluster_agent.coordinator.tasks.records import TaskRecord
from cluster_agent.coordinator.units.records import UnitRecord

AnyRecord = CacheRecord | ClusterRecord | NodeRecord | RunRecord | TaskRecord | UnitRecord

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)
_batch_decoder: msgspec.msgpack.Decoder[list[AnyRecord]] = msgspec.msgpack.Decoder(list[AnyRecord])


def encode(record: AnyRecord) -> bytes:
    """One record."""
    return _encoder.encode(record)


def decode(data: bytes) -> AnyRecord:
    """The record of `encode`; raises msgspec.DecodeError or msgspec.ValidationError for anything else."""
    return _decoder.decode(data)


def encode_all(records: list[object]) -> bytes:
    """The records of a tick, as the log keeps them."""
    return _encoder.encode(records)


def decode_all(data: bytes) -> list[AnyRecord]:
    """The records of `encode_all`; raises as `decode` does."""
    return _batch_decoder.decode(data)
