"""A run that is handed out in several transactions is handed out wholly, or ends: whatever comes between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane import kinds as kinds_module
from control_plane.federation.halfway import Orphans, give_up_halfway
from control_plane.hubs.living import LivingHubs
from control_plane.kinds import Kinds
from control_plane.runs import messages
from control_plane.runs.board import Board
from control_plane.runs.driver import Runs
from control_plane.store.transaction import Operation

CLUSTERS = [f"c{number:02d}" for number in range(12)]
Between = Callable[[], Awaitable[object]]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five writes fit into a transaction."""
    monkeypatch.setattr(kinds_module, "MOST_OPERATIONS", 5)


async def submitted(runs: Runs, namespace: str, kinds: Kinds, between: Between | None = None) -> m.Run:
    """Submit a run, while something happens after the first of three groups of its fragments."""
    commit = kinds.commit
    groups = 0

    async def noted(operations: Sequence[Operation]) -> int:
        nonlocal groups
        revision = await commit(operations)
        groups += any(str(each.key).startswith("fragments/") and each.expected == 0 for each in operations)
        if groups == 1 and between is not None:
            groups += 1
            await between()
        return revision

    fragments = tuple(
        m.Fragment(namespace=namespace, run="r", cluster=cluster, epoch=5, revision=1) for cluster in CLUSTERS
    )
    run = m.Run(namespace=namespace, name="r", workflow="w", idempotency_key="k", submitted_at=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kinds, "commit", noted)
        return await runs.submit(run, messages.Planned(1, b"p", fragments, 2.0))


async def handed_out(kinds: Kinds, namespace: str) -> dict[str, m.DesiredState.ValueType]:
    found = {}
    for cluster in CLUSTERS:
        stored = await kinds.fragments.get(kinds.fragments.key(cluster, namespace, "r"))
        if stored is not None:
            found[cluster] = stored.value.desired
    return found


async def test_agents_that_accept_their_fragments_meanwhile_hold_nothing_up(
    kinds: Kinds, runs: Runs, namespace: str
) -> None:
    accepted = messages.FragmentAccepted("c00", 5, 3.0)
    run = await submitted(runs, namespace, kinds, lambda: runs.happened(namespace, "r", accepted))
    assert (run.state, run.handed_out_by) == (m.RUN_STATE_RUNNING, b"")
    assert run.fragments["c00"].state == m.FRAGMENT_STATE_RUNNING
    assert await handed_out(kinds, namespace) == dict.fromkeys(CLUSTERS, m.DESIRED_STATE_RUNNING)


@pytest.mark.parametrize("how", ["given up", "cancelled"])
async def test_nothing_is_handed_out_of_a_run_that_another_hub_has_ended(
    kinds: Kinds, runs: Runs, namespace: str, how: str
) -> None:
    other = Runs(kinds, b"other")
    event = messages.CancelRequested("enough", 3.0)
    run = await submitted(
        runs,
        namespace,
        kinds,
        lambda: other.give_up(namespace, "r", 3.0) if how == "given up" else other.happened(namespace, "r", event),
    )
    there = await handed_out(kinds, namespace)
    assert there == dict.fromkeys(CLUSTERS[:5], m.DESIRED_STATE_CANCELLED)
    assert run.state == m.RUN_STATE_STOPPING
    assert {name for name, part in run.fragments.items() if part.state == m.FRAGMENT_STATE_CANCELLED} == {*CLUSTERS[5:]}
    for cluster in there:
        status = m.FragmentStatus(
            namespace=namespace, run="r", cluster=cluster, epoch=5, state=m.FRAGMENT_STATE_CANCELLED
        )
        await runs.happened(namespace, "r", messages.FragmentEnded(status, 1, 9.0, ()))
    ended = await runs.get(namespace, "r")
    assert ended.state == (m.RUN_STATE_FAILED if how == "given up" else m.RUN_STATE_CANCELLED)
    assert ended.message == ("enough" if how == "cancelled" else ended.message)


async def test_a_run_of_a_hub_that_died_halfway_is_given_up_by_another(
    kinds: Kinds, runs: Runs, namespace: str
) -> None:
    class Killed(Exception):
        pass

    async def killed() -> None:
        raise Killed

    with pytest.raises(Killed):
        await submitted(Runs(kinds, b"first"), namespace, kinds, killed)
    left = await runs.get(namespace, "r")
    assert (left.state, left.handed_out_by) == (m.RUN_STATE_PENDING, b"first")
    given_up: asyncio.Future[m.Run] = asyncio.get_running_loop().create_future()

    class Second(Runs):
        async def give_up(self, namespace: str, name: str, at: float) -> m.Run:
            given_up.set_result(await super().give_up(namespace, name, at))
            return given_up.result()

    second = Second(kinds, b"second")
    board = Board(kinds, second)
    await board.load()
    giving_up = asyncio.create_task(give_up_halfway(board, second, LivingHubs(kinds, b"second"), patience=0.0))
    try:
        run = await asyncio.wait_for(given_up, 20)
    finally:
        giving_up.cancel()
    assert run.state == m.RUN_STATE_STOPPING
    assert run.message == "it was not handed out to the end, because its hub or the store was gone: submit it again"
    assert len(await handed_out(kinds, namespace)) == 5
    assert sum(part.state == m.FRAGMENT_STATE_CANCELLED for part in run.fragments.values()) == 7


def test_a_run_is_an_orphan_once_its_hub_was_gone_for_as_long_as_a_lease() -> None:
    run = m.Run(namespace="n", name="r", handed_out_by=b"first")
    orphans = Orphans(6.0)
    assert orphans.found([run], [b"first"], 0.0) == []
    assert orphans.found([run], [], 10.0) == []
    assert orphans.found([run], [b"first"], 13.0) == [], "it was started just now, and is known a moment later"
    assert orphans.found([run], [], 17.0) == []
    assert orphans.found([run], [], 23.0) == [("n", "r")]
    assert orphans.found([], [], 24.0) == []
