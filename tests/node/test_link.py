"""A stream's first message says how the node is at one moment: what it holds, and the results that made it so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bdw_fed.v1 import node_pb2
from cluster_agent.node.link import AgentLink
from cluster_agent.orders.messages import Downward, Result, Results, Upward, decode_upward
from tests.node.cluster import CLUSTER, Members
from wire.identity import Role


class Call:
    """A stream that takes what is written, and ends when there are two messages."""

    def __init__(self) -> None:
        self.written: list[node_pb2.AttachRequest] = []
        self.enough = asyncio.Event()

    async def write(self, request: node_pb2.AttachRequest) -> None:
        self.written.append(request)
        if len(self.written) == 2:
            self.enough.set()

    async def __aiter__(self) -> AsyncIterator[node_pb2.AttachResponse]:
        await asyncio.wait_for(self.enough.wait(), 20)
        for response in ():
            yield response

    def cancel(self) -> None:
        return


async def test_what_ends_after_the_hello_is_not_told_with_it(tmp_path: Path, monkeypatch: Any) -> None:
    """Else the agent takes units that the hello does not list for lost."""
    loop = asyncio.get_running_loop()
    said: list[Upward] = [Results("default", "run1", (Result(b"before", 1),))]

    def later() -> None:
        said.append(Results("default", "run1", (Result(b"after", 1),)))
        link.wake()

    def hello() -> node_pb2.NodeMessage:
        loop.call_soon(later)
        return node_pb2.NodeMessage(hello=node_pb2.NodeHello(results=1))

    def of_tasks() -> list[Upward]:
        taken, said[:] = list(said), []
        return taken

    async def ignored(_: node_pb2.NodeCommand | Downward) -> None:
        return

    credentials = Members(tmp_path).credentials(Role.NODE, f"{CLUSTER}/n1")
    link = AgentLink(
        "127.0.0.1:1", CLUSTER, credentials, hello, of_tasks, list, handle=ignored, ordered=ignored, lost=lambda: None
    )
    call = Call()
    monkeypatch.setattr(link, "_stub", type("Stub", (), {"Attach": lambda _: call})())
    running = asyncio.create_task(link.run())
    await asyncio.wait_for(call.enough.wait(), 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await link.close()
    told = [[what.results[0].task for what in decode_upward(each.results)] for each in call.written[:2]]  # type: ignore[union-attr]
    assert call.written[0].messages[0].HasField("hello")
    assert told == [[b"before"], [b"after"]]
