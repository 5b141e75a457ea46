"""Units as others are told of them, and as they tell us: the state's, those of nodes, and those of the protocol."""

from __future__ import annotations

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator.state import Unit
from cluster_agent.orders.messages import UnitInfo


def unit_info(unit: Unit) -> UnitInfo:
    """A unit as an order names it."""
    return UnitInfo(unit.id, unit.digest, unit.size, unit.task, unit.origin, unit.generation, unit.name)


def unit_proto(unit: Unit | UnitInfo) -> model_pb2.Unit:
    """A unit as it travels."""
    return model_pb2.Unit(
        id=unit.id,
        digest=unit.digest,
        size=unit.size,
        task=unit.task,
        origin=unit.origin,
        generation=unit.generation,
        name=unit.name,
        lineage=unit.lineage,
        order=unit.order,
    )


def info_of(unit: model_pb2.Unit) -> UnitInfo:
    """A unit that another cluster told of."""
    return UnitInfo(
        unit.id,
        unit.digest,
        unit.size,
        unit.task,
        unit.origin,
        unit.generation,
        unit.name,
        unit.lineage,
        unit.order,
    )
