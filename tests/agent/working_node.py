"""A node daemon whose tasks take a moment. It keeps its results until they are acked, through any reconnection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import grpc
import grpc.aio

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import node_pb2 as n
from bdw_fed.v1.node_pb2_grpc import NodeServiceStub
from wire.digests import bytes_digest, source_task_id, unit_id
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials

Key = tuple[str, str, bytes]


class WorkingNode:
    """Opens every source as one unit, makes one unit of every task, fetches whatever it is told to."""

    def __init__(self, address: str, cluster: str, credentials: Credentials, *, seed: int = 0) -> None:
        self._address = address
        self._cluster = cluster
        self._credentials = credentials
        self._random = Random(seed)
        self._units: dict[Key, m.Unit] = {}
        self._results: dict[tuple[bytes, int], n.TaskFinished] = {}
        self._running: dict[tuple[bytes, int], n.TaskKey] = {}
        self._out: asyncio.Queue[n.NodeMessage] = asyncio.Queue()
        self._tasks = asyncio.TaskGroup()
        self.executed: Counter[bytes] = Counter()
        self.attached = 0

    async def __aenter__(self) -> WorkingNode:
        await self._tasks.__aenter__()
        self._serving = self._tasks.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._serving.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _serve(self) -> None:
        while True:
            try:
                await self._attached()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)

    async def _attached(self) -> None:
        options = channel_options(Identity(Role.AGENT, self._cluster))
        credentials = grpc_channel_credentials(self._credentials)
        async with grpc.aio.secure_channel(self._address, credentials, options=options) as channel:
            call = NodeServiceStub(channel).Attach()
            self._out = asyncio.Queue()
            await call.write(n.AttachRequest(messages=[n.NodeMessage(hello=self._hello())]))
            writer = asyncio.create_task(self._write(call, self._out))
            try:
                while isinstance(response := await call.read(), n.AttachResponse):
                    for command in response.commands:
                        self._obey(command)
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, call: grpc.aio.StreamStreamCall, out: asyncio.Queue[n.NodeMessage]) -> None:  # type: ignore[type-arg]
        while True:
            messages = [await out.get()]
            while not out.empty():
                messages.append(out.get_nowait())
            await call.write(n.AttachRequest(messages=messages))

    def _hello(self) -> n.NodeHello:
        hello = n.NodeHello(cluster=self._cluster, node="n1", incarnation=b"only", data_address="127.0.0.1:1")
        hello.server_name = "n1"
        hello.status.cpus = 8
        hello.finished.extend(self._results.values())
        hello.running.extend(self._running.values())
        for namespace, run, unit in self._units:
            hello.units.add(namespace=namespace, run=run, unit=unit)
        return hello

    def _obey(self, command: n.NodeCommand) -> None:
        kind = command.WhichOneof("kind")
        handler: Callable[[n.NodeCommand], None] | None = getattr(self, f"_on_{kind}", None)
        if handler is not None:
            handler(command)

    def _on_welcome(self, command: n.NodeCommand) -> None:
        self.attached += 1

    def _on_open(self, command: n.NodeCommand) -> None:
        order = command.open
        maker = source_task_id(order.namespace, order.run, order.step, order.index)
        opened = n.SourceOpened(namespace=order.namespace, run=order.run, step=order.step, index=order.index)
        opened.units.append(self._make(order.namespace, order.run, maker, "out"))
        self._out.put_nowait(n.NodeMessage(source=opened))

    def _on_start(self, command: n.NodeCommand) -> None:
        key = command.start.key
        identity = key.task, key.attempt
        if identity in self._running or identity in self._results:
            return
        self._running[identity] = key
        self._tasks.create_task(self._work(command.start))

    async def _work(self, order: n.StartTask) -> None:
        key = order.key
        self._out.put_nowait(n.NodeMessage(started=n.TaskStarted(key=key)))
        await asyncio.sleep(self._random.random() * 0.01)
        if self._running.pop((key.task, key.attempt), None) is None:
            return
        self.executed[key.task] += 1
        finished = n.TaskFinished(key=key, execution_seconds=0.01)
        for port in order.outputs:
            finished.outputs.append(self._make(key.namespace, key.run, key.task, port.name))
        self._results[key.task, key.attempt] = finished
        self._out.put_nowait(n.NodeMessage(finished=finished))

    def _on_cancel(self, command: n.NodeCommand) -> None:
        self._running.pop((command.cancel.key.task, command.cancel.key.attempt), None)

    def _on_ack(self, command: n.NodeCommand) -> None:
        for key in command.ack.keys:
            self._results.pop((key.task, key.attempt), None)

    def _on_fetch(self, command: n.NodeCommand) -> None:
        order = command.fetch
        self._units[order.key.namespace, order.key.run, order.key.unit] = order.unit
        self._out.put_nowait(n.NodeMessage(fetched=n.FetchFinished(unit=order.key, bytes=order.unit.size)))

    def _on_free(self, command: n.NodeCommand) -> None:
        for key in command.free.units:
            self._units.pop((key.namespace, key.run, key.unit), None)

    def _make(self, namespace: str, run: str, maker: bytes, port: str) -> n.ProducedUnit:
        unit = unit_id(maker, port, 0)
        made = m.Unit(id=unit, digest=bytes_digest(unit), size=100, task=maker)
        self._units[namespace, run, unit] = made
        return n.ProducedUnit(port=port, index=0, unit=made)
