"""The NodeService: node daemons attach here, get their commands, fetch bundles and have their certificates renewed.

    node ─ hello ─▶ its unacknowledged results, then NodeJoined ─▶ intake ─▶ driver ─ tell ─▶ AttachResponse ─▶ node

A node has one live stream. A new one replaces the old, whose node is then lost first: the core hears the two in order,
and no late word of the old stream follows. The end of a stream, or gRPC's keepalive, tells that a node is dead.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio
import structlog

from bdw_fed.v1 import control_plane_pb2, node_pb2
from bdw_fed.v1.federation_pb2 import PeerDirectory
from bdw_fed.v1.node_pb2_grpc import NodeServiceServicer
from cluster_agent.bundles import BundleCache, BundleError
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import NodeLost, NodeSaid
from cluster_agent.membership.errors import JoinError, NotNowError
from cluster_agent.membership.revoked import Revoked
from cluster_agent.nodes.attached import Attached
from cluster_agent.nodes.logs import LogReaders
from cluster_agent.nodes.translate import changed, disk_told, event_of, joined, pool_told
from cluster_agent.orders.messages import VERSION, Downward, Results, Upward, decode_upward
from wire.identity import Identity, Role, refuse, require

_log = structlog.get_logger(__name__)
_CHUNK_BYTES = 256 << 10

_Context = grpc.aio.ServicerContext[Any, Any]


class NodeDoor(NodeServiceServicer):
    """All nodes of the cluster. `changed` is called when one has come, gone or changed; `certify` has the hub certify a
    request for a node."""

    def __init__(
        self,
        cluster: str,
        intake: Intake,
        bundles: BundleCache,
        revoked: Revoked,
        certify: Callable[[bytes, str], Awaitable[bytes]],
        *,
        data_root: str,
        durability: str,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._intake = intake
        self._bundles = bundles
        self._revoked = revoked
        revoked.listeners.append(self._cut_off)
        self._certify = certify
        self._welcome = node_pb2.NodeWelcome(
            cluster=cluster,
            data_root=data_root,
            durability=durability,
            revocations=revoked.revocations.to_proto(),
        )
        self._changed = changed
        self._nodes: dict[str, Attached] = {}
        self._gone: dict[str, int] = {}  # nodes that were here: the generation of their certificates
        self._streams = itertools.count()
        self.logs = LogReaders(cluster, self._say, lambda: list(self._nodes))

    # ------------------------------------------------------------------------------- the agent's side

    def tell(self, node: str, stream: int, commands: Sequence[bytes | Downward]) -> None:
        """Send serialised NodeCommands and orders; nothing if that stream has ended.

        What was said of a former stream must not come on a newer one: the node may not know what it is about.
        """
        attached = self._nodes.get(node)
        if attached is not None and attached.stream == stream:
            attached.tell(commands)

    def _say(self, node: str, commands: Sequence[bytes]) -> None:
        attached = self._nodes.get(node)
        if attached is not None:
            attached.tell(commands)

    def directory(self, directory: PeerDirectory) -> None:
        """Tell the nodes what they need of the hub's directory: to whom data may go without TLS, whom relays reach."""
        before = self._said_welcome()
        self._welcome.trusted[:] = [peer.cluster for peer in directory.peers if peer.trusted]
        del self._welcome.relayed[:]
        for peer in directory.peers:
            if peer.relays:
                self._welcome.relayed.add(cluster=peer.cluster, relays=peer.relays)
        if self._said_welcome() != before:
            self._welcome_again()

    def told_renewal(self, renew_after: float) -> None:
        """How many seconds a certificate is to be used, as the hub says."""
        if renew_after != self._welcome.renew_after:
            self._welcome.renew_after = renew_after
            self._welcome_again()

    def statuses(self) -> list[control_plane_pb2.NodeStatus]:
        """All nodes that were ever here or are revoked, those that are gone as not ready."""
        revoked = self._revoked.revocations.nodes_of(self._cluster)
        gone = [
            control_plane_pb2.NodeStatus(name=node, revoked=self._gone.get(node, 0) < revoked.get(node, 0))
            for node in (self._gone.keys() | revoked.keys()) - self._nodes.keys()
        ]
        return sorted([*gone, *(attached.status for attached in self._nodes.values())], key=lambda one: one.name)

    # ------------------------------------------------------------------------------- the nodes' side

    async def Attach(self, request_iterator: Any, context: _Context) -> None:  # type: ignore[override]
        """One node's stream, until either end closes it."""
        identity = await self._identity_of(context)
        node = _name(identity)
        requests = aiter(request_iterator)
        first: node_pb2.AttachRequest | None = await anext(requests, None)
        if first is None:
            return
        if not first.messages or not first.messages[0].HasField("hello"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be the node's hello")
        hello = first.messages[0].hello
        if (hello.cluster, hello.node) != (self._cluster, node):
            await refuse(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                f"the hello says {hello.cluster}/{hello.node}, the certificate {self._cluster}/{node}",
            )
        if hello.orders_version != VERSION:
            await refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                f"node {node} speaks version {hello.orders_version} of the orders, its agent {VERSION}: "
                "both must be of one release",
            )
        opening = await _opening(first, hello.results, requests)
        if opening is None:
            return
        if refusal := self._revoked.refusal(identity):  # since it began to speak
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, refusal)
        attached = self._attach(hello, opening, identity)
        tasks = [
            asyncio.create_task(self._read(attached, requests)),
            asyncio.create_task(_write(attached, context)),
            asyncio.create_task(attached.closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._detach(attached)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                _log.warning("a node's stream broke", node=node, error=repr(error))

    async def FetchBundle(
        self, request: node_pb2.FetchBundleRequest, context: _Context
    ) -> AsyncIterator[node_pb2.FetchBundleResponse]:
        """The archive of a bundle, from our cache or first from the hub."""
        await self._identity_of(context)
        try:
            path = await self._bundles.get(request.namespace, request.digest)
        except BundleError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND if error.missing else grpc.StatusCode.UNAVAILABLE, str(error))
        with await asyncio.to_thread(path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                yield node_pb2.FetchBundleResponse(chunk=chunk)

    async def Renew(self, request: node_pb2.RenewRequest, context: _Context) -> node_pb2.RenewResponse:
        """The next certificate of the node that asks."""
        node = _name(await self._identity_of(context))
        try:
            return node_pb2.RenewResponse(certificate=await self._certify(request.request, node))
        except NotNowError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except JoinError as error:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _identity_of(self, context: _Context) -> Identity:
        identity = await require(context, Role.NODE)
        if identity.cluster != self._cluster:
            await refuse(
                context, grpc.StatusCode.PERMISSION_DENIED, f"{identity} is not a node of cluster {self._cluster}"
            )
        if refusal := self._revoked.refusal(identity):
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, refusal)
        return identity

    def _cut_off(self, _: set[str]) -> None:
        """More certificates are revoked than were: nodes serve those members no more, and some of ours may be out."""
        for attached in list(self._nodes.values()):
            if refusal := self._revoked.refusal(attached.identity):
                _log.warning("a node is cut off", node=attached.node, reason=refusal)
                self._detach(attached)
                attached.close()
        del self._welcome.revocations[:]
        self._welcome.revocations.extend(self._revoked.revocations.to_proto())
        self._welcome_again()

    def _welcome_again(self) -> None:
        for attached in self._nodes.values():
            attached.tell([self._said_welcome()])

    def _attach(self, hello: node_pb2.NodeHello, opening: _Opening, identity: Identity) -> Attached:
        former = self._nodes.get(hello.node)
        if former is not None:
            self._detach(former)
            former.close()
        attached = Attached(hello, next(self._streams), identity)
        attached.status = hello.status
        self._nodes[hello.node] = attached
        self._gone.pop(hello.node, None)
        attached.tell([self._said_welcome()])
        for what in opening.said:  # first, so that their tasks are not taken for lost
            self._intake.submit(NodeSaid(hello.node, what))
        self._intake.submit(joined(hello, attached.stream))
        self.logs.joined(hello.node)
        self._changed()
        for message in opening.messages:
            self._take(attached, message)
        return attached

    def _said_welcome(self) -> bytes:
        return node_pb2.NodeCommand(welcome=self._welcome).SerializeToString()

    def _detach(self, attached: Attached) -> None:
        if self._nodes.get(attached.node) is not attached:
            return
        del self._nodes[attached.node]
        self._gone[attached.node] = attached.identity.generation
        self._intake.submit(NodeLost(attached.node, attached.incarnation))
        self.logs.lost(attached.node)
        self._changed()

    async def _read(self, attached: Attached, requests: AsyncIterator[node_pb2.AttachRequest]) -> None:
        await self._intake.room()
        async for request in requests:
            for message in request.messages:
                self._take(attached, message)
            self._hear(attached, request.results)
            await self._intake.room()

    def _hear(self, attached: Attached, results: bytes) -> None:
        """What a node says of its tasks."""
        if results and not attached.closed.is_set():
            for what in decode_upward(results):
                self._intake.submit(NodeSaid(attached.node, what))

    def _take(self, attached: Attached, message: node_pb2.NodeMessage) -> None:
        if attached.closed.is_set():
            return
        event = event_of(attached.node, message)
        if event is not None:
            self._intake.submit(event)
            return
        match message.WhichOneof("kind"):
            case "status":
                change = changed(attached.node, attached.status, message.status)
                attached.status = message.status
                disk = disk_told(attached.node, attached.disk, message.status)
                if disk is not None:
                    attached.disk = disk
                    self._intake.submit(disk)
                if change is not None:
                    self._intake.submit(change)
                    self._changed()
            case "log":
                self.logs.chunk(attached.node, message.log)
            case "workers":
                self._intake.submit(pool_told(attached.node, message.workers))
                if message.workers.error and not message.workers.full:
                    _log.warning(
                        "a worker could not start",
                        node=attached.node,
                        step=message.workers.step,
                        error=message.workers.error,
                    )


def _name(node: Identity) -> str:
    """Its name within its cluster."""
    return node.name.partition("/")[2]


class _Opening(NamedTuple):
    """What a node says first: of tasks, until its unacknowledged results are heard, and meanwhile of other things."""

    said: list[Upward]
    messages: list[node_pb2.NodeMessage]


async def _opening(
    first: node_pb2.AttachRequest, results: int, requests: AsyncIterator[node_pb2.AttachRequest]
) -> _Opening | None:
    """A stream's beginning, without the hello; None if it ends before so many results have come."""
    opening = _Opening(decode_upward(first.results) if first.results else [], list(first.messages[1:]))
    while sum(len(what.results) for what in opening.said if isinstance(what, Results)) < results:
        request = await anext(requests, None)
        if request is None:
            return None
        opening.said.extend(decode_upward(request.results) if request.results else [])
        opening.messages.extend(request.messages)
    return opening


async def _write(attached: Attached, context: _Context) -> None:
    async for response in attached.responses():
        await context.write(response)
