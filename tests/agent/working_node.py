"""A node daemon whose tasks take a moment. It keeps its results until they are acked, through any reconnection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import grpc
import grpc.aio

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import node_pb2 as n
from bdw_fed.v1.node_pb2_grpc import NodeServiceStub
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.orders import messages as orders
from tests.fixtures import words
from wire.digests import bytes_digest, source_task_id, unit_id
from wire.identity import Credentials, Identity, Role, channel_options, grpc_channel_credentials

Key = tuple[str, str, bytes]
Task = tuple[str, str, bytes, int]
Said = n.NodeMessage | orders.Upward


class WorkingNode:
    """Opens every source as one unit, makes one unit of every task, fetches whatever it is told to."""

    def __init__(self, address: str, cluster: str, credentials: Credentials, *, seed: int = 0) -> None:
        self._address = address
        self._cluster = cluster
        self._credentials = credentials
        self._random = Random(seed)
        self._units: set[Key] = set()
        self._results: dict[Task, orders.Results] = {}
        self._running: set[Task] = set()
        self._out: asyncio.Queue[Said] = asyncio.Queue()
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
            ears = words.Ears()
            await call.write(self._hello())
            writer = asyncio.create_task(self._write(call, self._out))
            try:
                while isinstance(response := await call.read(), n.AttachResponse):
                    of_tasks = orders.decode_downward(response.orders) if response.orders else []
                    for said in [*response.commands, *of_tasks]:
                        for kind, what in ears.hear(said):
                            self._obey(kind, what)
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, call: grpc.aio.StreamStreamCall, out: asyncio.Queue[Said]) -> None:  # type: ignore[type-arg]
        while True:
            said = [await out.get()]
            while not out.empty():
                said.append(out.get_nowait())
            rare = [one for one in said if isinstance(one, n.NodeMessage)]
            of_tasks = [one for one in said if not isinstance(one, n.NodeMessage)]
            results = orders.encode(of_tasks) if of_tasks else b""
            await call.write(n.AttachRequest(messages=rare, results=results))

    def _hello(self) -> n.AttachRequest:
        hello = n.NodeHello(cluster=self._cluster, node="n1", incarnation=b"only", data_address="127.0.0.1:1")
        hello.server_name = "n1"
        hello.orders_version = orders.VERSION
        hello.status.cpus = 8
        for key in [*self._running, *self._results]:
            namespace, run, task, attempt = key
            hello.running.add(namespace=namespace, run=run, task=task, attempt=attempt)
        for namespace, run, unit in self._units:
            hello.units.add(namespace=namespace, run=run, unit=unit)
        kept: list[orders.Upward] = list(self._results.values())
        return n.AttachRequest(messages=[n.NodeMessage(hello=hello)], results=orders.encode(kept) if kept else b"")

    def _obey(self, kind: str, what: Any) -> None:
        handler: Callable[[Any], None] | None = getattr(self, f"_on_{kind}", None)
        if handler is not None:
            handler(what)

    def _on_welcome(self, _: n.NodeWelcome) -> None:
        self.attached += 1

    def _on_ack(self, key: n.TaskKey) -> None:
        self._results.pop((key.namespace, key.run, key.task, key.attempt), None)

    def _on_free(self, key: n.UnitKey) -> None:
        self._units.discard((key.namespace, key.run, key.unit))

    def _on_open(self, order: n.OpenSource) -> None:
        maker = source_task_id(order.namespace, order.run, order.step, order.index)
        opened = n.SourceOpened(namespace=order.namespace, run=order.run, step=order.step, index=order.index)
        unit = self._make(order.namespace, order.run, maker, "out").unit
        opened.units.add(port="out", unit=m.Unit(id=unit.id, digest=unit.digest, size=unit.size, task=maker))
        self._out.put_nowait(n.NodeMessage(source=opened))

    def _on_start(self, order: words.Task) -> None:
        key = order.key.namespace, order.key.run, order.key.task, order.key.attempt
        if key not in self._running and key not in self._results:
            self._running.add(key)
            self._tasks.create_task(self._work(key, order.start))

    async def _work(self, key: Task, start: n.StartTask) -> None:
        namespace, run, task, attempt = key
        self._out.put_nowait(words.started(RunKey(namespace, run), task, attempt))
        await asyncio.sleep(self._random.random() * 0.01)
        if key not in self._running:
            return
        self._running.discard(key)
        self.executed[task] += 1
        made = [self._make(namespace, run, task, port.name) for port in start.outputs]
        done = self._results[key] = words.done(RunKey(namespace, run), task, attempt, made, 0.01)
        self._out.put_nowait(done)

    def _on_cancel(self, command: n.CancelTask) -> None:
        key = command.key
        self._running.discard((key.namespace, key.run, key.task, key.attempt))

    def _on_fetch(self, order: n.FetchUnit) -> None:
        self._units.add((order.key.namespace, order.key.run, order.key.unit))
        self._out.put_nowait(n.NodeMessage(fetched=n.FetchFinished(unit=order.key, bytes=order.unit.size)))

    def _make(self, namespace: str, run: str, maker: bytes, port: str) -> orders.Output:
        unit = unit_id(maker, port, 0)
        self._units.add((namespace, run, unit))
        return orders.Output(port, 0, orders.UnitInfo(unit, bytes_digest(unit), 100, maker))
