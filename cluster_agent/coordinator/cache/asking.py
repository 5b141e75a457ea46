"""What people want of the cache here, by way of the hub or at our own door: asked of the driver, and answered by it."""

from __future__ import annotations

from bdw_fed.v1.control_plane_pb2 import ClearCacheRequest
from bdw_fed.v1.federation_pb2 import CachedSteps
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import ClearAsked


async def clear(intake: Intake, namespace: str, request: ClearCacheRequest) -> CachedSteps:
    """Have results in the cache given up; which they were, once that is in the log."""
    told = await intake.ask(lambda number: ClearAsked(number, namespace, request.step, request.age))
    return CachedSteps.FromString(told)
