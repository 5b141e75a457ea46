"""The audit logs of all hubs as one: each hub writes its own, and reads it for the others.

    request ─▶ our own log ──────────────┐
           └─▶ each other hub that lives ┴▶ by time ─▶ the newest

Who could not be asked is named, for an answer that lacks something must say so. The log of a hub that is gone lies
where that hub ran.
"""

from __future__ import annotations

import asyncio

from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.access.history import AuditHistory, most, newest
from control_plane.hubs.fellows import Fellows


class Audits:
    """See the module."""

    def __init__(self, own: AuditHistory, fellows: Fellows) -> None:
        self._own = own
        self._fellows = fellows

    async def read(self, request: cp.ReadAuditRequest) -> cp.ReadAuditResponse:
        """The newest lines that are asked for, of all hubs, the oldest of them first."""
        own, (others, unreachable) = await asyncio.gather(self._own.read(request), self._fellows.audits(request))
        answers = [own, *others]
        lines = sorted((line for each in answers for line in each.lines), key=lambda line: line.at)
        answer = newest(lines, most(request))
        answer.more |= any(each.more for each in answers)
        answer.unreachable.extend(sorted(unreachable))
        return answer
