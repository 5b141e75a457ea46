"""Outputs that a cluster had lost, and that a disk has which is back: real nodes read them, and tell the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1 import model_pb2 as m
from cluster_agent.data.shared.config import SharedConfig
from tests.agent.federation import FakeHub, Members, Served
from tests.agent.test_sharing import LARGE, PARTS, making, world
from tests.coordinator.workflows import output, source

pytestmark = pytest.mark.asyncio


async def test_outputs_are_there_again_with_the_disk_that_was_away_but_for_those_that_are_spoilt(
    members: Members, hub: FakeHub, hub_server: Served, tmp_path: Path
) -> None:
    async with world(members, hub, hub_server, tmp_path, "a") as made:
        cluster = made.clusters["a"]
        await cluster.node("n1", SharedConfig())
        make = making(LARGE, tmp_path / "log")
        made.run([source("rows", ["a"]), make, output(make)], "make")
        (end,) = (await made.end()).values()
        made.want(m.DESIRED_STATE_FINISHED)
        session = hub.live["a"]
        home, away = tmp_path / "a" / "n1", tmp_path / "away"

        async def told(number: int, *, lost: bool) -> set[bytes]:
            """With its disk as it is the node joins, and of so many outputs the hub is told that; of no others."""
            before = len(session.frames)
            await cluster.node("n1", SharedConfig())
            heard: list[m.RunOutput] = []

            def enough(_: f.SessionRequest) -> bool:
                heard[:] = [each for frame in session.frames[before:] for each in frame.output.outputs]
                return len(heard) == number

            await session.wait_for(enough)
            assert {bool(each.lost) for each in heard} == {lost}
            await cluster.end("n1")
            return {each.unit.id for each in heard}

        await cluster.end("n1")
        home.rename(away)
        assert await told(PARTS, lost=True) == {each.unit.id for each in end.outputs}
        home.rename(tmp_path / "empty")
        away.rename(home)
        spoilt = next((home / "store" / "content").glob("*/*"))
        spoilt.chmod(0o600)
        with spoilt.open("r+b") as content:
            content.write(b"?")
        assert len(await told(PARTS - 1, lost=False)) == PARTS - 1
