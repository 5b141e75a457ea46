"""The other hubs, as one of them sees them: a stream to each for its news, and questions for their agents.

    heartbeat, progress of an agent of ours ─▶ to all       frame for an agent of another hub ─▶ to that one
    question to an agent of another hub     ─▶ to that one, and its answers back

A hub that can't be reached is tried again as long as it lives by its key in etcd; meanwhile it is known that its agents
are connected, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import structlog

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import hub_pb2 as h
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from bdw_fed.v1.hub_pb2_grpc import HubServiceStub
from control_plane.federation.errors import AgentUnreachable
from control_plane.hubs.news import News
from control_plane.store.etcd.client import backoff
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials

if TYPE_CHECKING:
    from bdw_fed.v1.hub_pb2_grpc import HubServiceAsyncStub

_AUDIT_SECONDS = 15.0
# A call ends in one of these ways; in the last two if its channel is opened anew meanwhile.
_NOT_REACHED = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError)
_STEADY_SECONDS = 5.0  # a stream that lasts so long was a good one

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Line:
    """A connection to another hub: its service, and how the connection is closed."""

    stub: HubServiceAsyncStub
    close: Callable[[], Awaitable[None]]


def line(address: str, credentials: Credentials) -> Line:
    """To the hub at an address, with the certificate that is there now; it may have been renewed."""
    channel = grpc.aio.secure_channel(
        address, grpc_channel_credentials(credentials), options=channel_options(Identity(Role.HUB, "hub"))
    )
    return Line(HubServiceStub(channel), channel.close)


class Fellows:
    """All of them. `know` is called when others have come or gone; `all_of_ours` gives what a new one is told first.

    `open_line` connects with one.
    """

    def __init__(
        self,
        hub_id: bytes,
        credentials: Credentials,
        all_of_ours: Callable[[], Iterable[cp.ClusterStatus]],
        open_line: Callable[[str, Credentials], Line] = line,
    ) -> None:
        self._hub_id = hub_id
        self._open_line = lambda record: open_line(record.address, credentials)
        self._all_of_ours = all_of_ours
        self._fellows: dict[bytes, _Fellow] = {}

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return bool(self._fellows)

    def know(self, hubs: Mapping[bytes, s.HubRecord]) -> None:
        """These are all others that live."""
        for gone in self._fellows.keys() - hubs.keys():
            self._fellows.pop(gone).task.cancel()
        for hub_id, record in hubs.items():
            if hub_id not in self._fellows:
                self._fellows[hub_id] = _Fellow(record, self._hub_id, self._open_line, self._all_of_ours)

    def status(self, status: cp.ClusterStatus) -> None:
        """How an agent of ours is."""
        for fellow in self._fellows.values():
            fellow.news.status(status)

    def progress(self, status: m.FragmentStatus) -> None:
        """How far an agent of ours is."""
        for fellow in self._fellows.values():
            fellow.news.progress(status)

    def relay(self, hub_id: bytes, relay: f.PeerRelay) -> None:
        """Pass a frame to an agent of another hub; dropped if that is not reached."""
        if fellow := self._fellows.get(hub_id):
            fellow.news.relay(relay)

    async def ask(self, hub_id: bytes, cluster: str, query: f.Query) -> AsyncGenerator[f.QueryReply]:
        """What an agent of another hub replies. AgentUnreachable."""
        fellow = self._fellows.get(hub_id)
        if fellow is None:
            raise AgentUnreachable(f"the hub with which {cluster} is connected is not known")
        call = fellow.stub.Ask(h.AskRequest(cluster=cluster, query=query))
        try:
            async for response in call:
                yield response.reply
        except grpc.aio.AioRpcError as error:
            raise AgentUnreachable(error.details() or f"{cluster} can't be asked just now") from None
        finally:
            call.cancel()

    async def audits(self, request: cp.ReadAuditRequest) -> tuple[list[cp.ReadAuditResponse], list[str]]:
        """What the audit logs of the others say, and the names of those that could not be asked."""
        fellows = list(self._fellows.values())
        answers = await asyncio.gather(*(fellow.audit(request) for fellow in fellows), return_exceptions=True)
        told, absent = [], []
        for fellow, answer in zip(fellows, answers, strict=True):
            if isinstance(answer, cp.ReadAuditResponse):
                told.append(answer)
                continue
            if not isinstance(answer, _NOT_REACHED):
                raise answer
            _log.warning("another hub's audit log can't be had", hub=fellow.name, error=repr(answer))
            absent.append(fellow.name)
        return told, absent

    async def close(self) -> None:
        """Speak to nobody any more."""
        tasks = [fellow.task for fellow in self._fellows.values()]
        self._fellows.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Fellow:
    """One of them, and the task that keeps the stream to it."""

    def __init__(
        self,
        record: s.HubRecord,
        own_id: bytes,
        open_line: Callable[[s.HubRecord], Line],
        all_of_ours: Callable[[], Iterable[cp.ClusterStatus]],
    ) -> None:
        self._record = record
        self._all_of_ours = all_of_ours
        self._open_line = open_line
        self.news = News(own_id)
        self._line = open_line(record)
        self.task = asyncio.create_task(self._keep(), name=f"tell hub {record.name}")

    @property
    def name(self) -> str:
        """What the hub calls itself."""
        return self._record.name

    @property
    def stub(self) -> HubServiceAsyncStub:
        """Its service, over the connection that there is now."""
        return self._line.stub

    async def audit(self, request: cp.ReadAuditRequest) -> cp.ReadAuditResponse:
        """What its audit log says. One of _NOT_REACHED is raised if it can't be asked."""
        asked = h.AskAuditRequest(request=request)
        answer: h.AskAuditResponse = await self.stub.AskAudit(asked, timeout=_AUDIT_SECONDS)
        return answer.response

    async def _keep(self) -> None:
        delays = backoff()
        clock = asyncio.get_running_loop().time
        try:
            while True:
                begun = clock()
                self.news.clear()
                for status in self._all_of_ours():
                    self.news.status(status)
                try:
                    await self.stub.Tell(self.news.requests())
                except grpc.aio.AioRpcError as error:
                    _log.info("no stream to another hub", hub=self._record.name, code=error.code().name)
                if clock() - begun > _STEADY_SECONDS:
                    delays = backoff()
                await asyncio.sleep(next(delays))
                await self._line.close()
                self._line = self._open_line(self._record)
        finally:
            await self._line.close()
