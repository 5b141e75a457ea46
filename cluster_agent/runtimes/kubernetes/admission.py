"""Asks before a pod is: whether the namespace's quotas and limits leave room for it.

Pods that are asked for together are asked about together: what was read just now is good enough, as the API server
has the last word. Who may not read quotas learns of them by being refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import ApiError, Forbidden
from cluster_agent.runtimes.kubernetes.api.objects.kinds import LIMIT_RANGES, QUOTAS
from cluster_agent.runtimes.kubernetes.api.objects.limits import LimitRange, ResourceQuota
from cluster_agent.runtimes.kubernetes.api.quota import PodAsking, room

_FRESH_SECONDS: Final = 0.5
_log = structlog.get_logger(__name__)
_Rules = tuple[list[ResourceQuota], list[LimitRange]]


@dataclass(frozen=True)
class Refusal:
    """Why a pod would not be admitted. `no_room`: it would, were there fewer others."""

    text: str
    no_room: bool


class Limits:
    """The quotas and limits of one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._reading: asyncio.Task[_Rules] | None = None
        self._read_at = 0.0

    async def refusal(self, pod: PodAsking) -> Refusal | None:
        """Why the pod would be refused; None if it would not be, as far as is known. ApiError."""
        quotas, ranges = await self._rules()
        found = room(pod, quotas, ranges)
        if found.count is None or found.count > 0:
            return None
        if room(pod, _unused(quotas), ranges).count == 0:
            return Refusal(f"namespace {self._namespace} takes no such pod: {found.because}", False)
        return Refusal(f"namespace {self._namespace} has no room for another pod: {found.because}", True)

    def forget(self) -> None:
        """What was read is not so any more."""
        self._read_at = 0.0

    async def close(self) -> None:
        """Give up reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _rules(self) -> _Rules:
        now = time.monotonic()
        if self._reading is None or (self._reading.done() and now - self._read_at > _FRESH_SECONDS):
            self._read_at = now
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> _Rules:
        try:
            quotas, ranges = await asyncio.gather(
                self._client.list(QUOTAS, self._namespace), self._client.list(LIMIT_RANGES, self._namespace)
            )
        except Forbidden as error:
            _log.info("quotas can't be read", error=str(error))
            return [], []
        except ApiError as error:
            _log.warning("quotas can't be read", error=str(error))
            return [], []
        return quotas, ranges


def _unused(quotas: Sequence[ResourceQuota]) -> list[ResourceQuota]:
    """As if there were no pods."""
    return [msgspec.structs.replace(quota, status=msgspec.structs.replace(quota.status, used={})) for quota in quotas]
