"""Finds out why a pod does not come up, beside what its state says: from its events, and its last words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import ApiError
from cluster_agent.runtimes.kubernetes.api.objects.event import Event
from cluster_agent.runtimes.kubernetes.api.objects.kinds import EVENTS
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.reasons import Reason, reason_of

_WORDS: Final = 20  # lines
_log = structlog.get_logger(__name__)


async def explained(client: Client, pod: Pod) -> tuple[Reason | None, str]:
    """The reason, as far as one is known, and what the container has printed that has ended."""
    namespace, name = pod.metadata.namespace, pod.metadata.name
    events: list[Event] = []
    words = ""
    try:
        found = await client.list(EVENTS, namespace, fields=f"involvedObject.uid={pod.metadata.uid}")
        events = _since_progress(found)
        reason = reason_of(pod)
        if reason is not None and reason.container and reason.exit_code is not None:
            words = await client.logs(name, namespace, container=reason.container, tail=_WORDS)
    except ApiError as error:
        _log.warning("a pod can't be explained", pod=name, error=str(error))
    return reason_of(pod, events, words), words


def _since_progress(events: Sequence[Event]) -> list[Event]:
    """The warnings after which nothing has gone well."""
    well = [event.at for event in events if event.type == "Normal" and event.reason != "Scheduled" and event.at]
    since = max(well, default=None)
    return [event for event in events if event.type != "Normal" and (since is None or (event.at or since) >= since)]
