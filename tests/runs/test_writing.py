"""What happens to a run at once is written together, and nobody's event is lost over another's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds
from control_plane.patience import persistently
from control_plane.runs import messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import NoSuchRun, Refused, RunExists
from control_plane.runs.writing import EventOf
from control_plane.store.errors import Conflict, InvalidName

CLUSTERS = [f"c{number:02d}" for number in range(40)]


async def submitted(runs: Runs, namespace: str, name: str = "r", key: str = "k") -> m.Run:
    fragments = tuple(
        m.Fragment(namespace=namespace, run=name, cluster=cluster, epoch=5, revision=1) for cluster in CLUSTERS
    )
    run = m.Run(namespace=namespace, name=name, workflow="w", idempotency_key=key, submitted_at=1.0)
    return await runs.submit(run, messages.Planned(1, b"p", fragments, 2.0))


def status(run: m.Run, cluster: str, state: m.FragmentState.ValueType, *units: int) -> m.FragmentStatus:
    outputs = [m.RunOutput(name="o", unit=m.Unit(id=bytes([unit] * 16)), cluster=cluster) for unit in units]
    return m.FragmentStatus(
        namespace=run.namespace, run=run.name, cluster=cluster, epoch=5, state=state, outputs=outputs
    )


def same(event: messages.Event) -> EventOf:
    async def of(_: m.Run) -> messages.Event:
        return event

    return of


async def test_fragments_that_end_at_once_are_few_writes_and_all_their_outputs_count(
    kinds: Kinds, runs: Runs, namespace: str
) -> None:
    run = await submitted(runs, namespace)
    before = await kinds.revision()

    async def end(number: int, cluster: str) -> None:
        async def of(run: m.Run) -> messages.Event:
            told = tuple(await runs.outputs(run))
            return messages.FragmentEnded(status(run, cluster, m.FRAGMENT_STATE_SUCCEEDED, number), 1, 9.0, told)

        await runs.happen(namespace, run.name, of)

    await asyncio.gather(*(end(number, cluster) for number, cluster in enumerate(CLUSTERS)))
    stored = await runs.get(namespace, run.name)
    assert stored.state == m.RUN_STATE_SUCCEEDED
    assert {made.unit.id[0] for made in stored.outputs} == set(range(len(CLUSTERS)))
    assert await kinds.revision() - before <= 5
    wanted = await kinds.fragments.get(kinds.fragments.key(CLUSTERS[0], namespace, run.name))
    assert wanted is not None
    assert wanted.value.desired == m.DESIRED_STATE_FINISHED


async def test_a_conflict_over_what_one_brings_along_fails_that_one_alone(
    kinds: Kinds, runs: Runs, namespace: str
) -> None:
    run = await submitted(runs, namespace)
    agents = kinds.agents
    name = namespace.replace("test-", "agent-")
    revision = await agents.create(agents.key(name), s.AgentRecord(cluster=name))
    good = [agents.updating(agents.key(name), s.AgentRecord(received=7), revision)]
    bad = [agents.updating(agents.key("nobody"), s.AgentRecord(received=7), 12345)]
    results = await asyncio.gather(
        *(
            runs.happen(namespace, run.name, same(messages.FragmentAccepted(cluster, 5, 3.0)), also)
            for cluster, also in (("c00", good), ("c01", bad), ("c02", []))
        ),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["Outcome", "NotFound", "Outcome"]
    states = {name: part.state for name, part in (await runs.get(namespace, run.name)).fragments.items()}
    assert [states[cluster] for cluster in ("c00", "c01", "c02")] == [
        m.FRAGMENT_STATE_RUNNING,
        m.FRAGMENT_STATE_ASSIGNED,
        m.FRAGMENT_STATE_RUNNING,
    ]
    stored = await agents.get(agents.key(name))
    assert stored is not None
    assert stored.value.received == 7


async def test_one_that_is_refused_or_gives_up_holds_up_nobody(runs: Runs, namespace: str) -> None:
    run = await submitted(runs, namespace)
    started = asyncio.Event()

    async def slow(_: m.Run) -> messages.Event:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    hanging = asyncio.create_task(runs.happen(namespace, run.name, slow))
    await started.wait()
    others = [
        asyncio.create_task(runs.happen(namespace, run.name, same(event)))
        for event in (messages.SuspendRequested(), messages.CancelRequested("", 4.0), messages.ResumeRequested())
    ]
    await asyncio.sleep(0)
    hanging.cancel()
    results = await asyncio.gather(*others, return_exceptions=True)
    assert [type(result) for result in results[2:]] == [Refused]
    assert (await runs.get(namespace, run.name)).state == m.RUN_STATE_STOPPING


async def test_another_hub_may_write_the_same_run(kinds: Kinds, runs: Runs, namespace: str) -> None:
    other = Runs(kinds)
    run = await submitted(runs, namespace)
    await asyncio.gather(
        *(
            each.happen(namespace, run.name, same(messages.FragmentAccepted(cluster, 5, 3.0)))
            for number, cluster in enumerate(CLUSTERS)
            for each in [(runs, other)[number % 2]]
        )
    )
    stored = await runs.get(namespace, run.name)
    assert {part.state for part in stored.fragments.values()} == {m.FRAGMENT_STATE_RUNNING}


async def test_what_this_hub_remembers_of_a_run_never_outweighs_what_another_has_written(
    kinds: Kinds, runs: Runs, namespace: str
) -> None:
    """Also where by its memory there would be nothing to do."""
    other = Runs(kinds)
    run = await submitted(runs, namespace)
    agents = kinds.agents
    agent = agents.key(namespace.replace("test-", "agent-"))
    await other.happened(namespace, run.name, messages.SuspendRequested())
    assert (await runs.happened(namespace, run.name, messages.ResumeRequested())).state == m.RUN_STATE_RUNNING
    await other.happened(namespace, run.name, messages.CancelRequested("", 3.0))
    old = messages.FragmentAccepted("c00", 4, 3.0)  # of an epoch that is no more: only its number is noted
    numbered = [agents.creating(agent, s.AgentRecord(received=1))]
    with pytest.raises(Conflict):
        await runs.happen(namespace, run.name, same(old), [agents.updating(agent, s.AgentRecord(), 12345)])
    outcome = await runs.happen(namespace, run.name, same(old), numbered)
    assert outcome.run is not None
    assert outcome.run.state == m.RUN_STATE_STOPPING
    with pytest.raises(Refused):
        await runs.happened(namespace, run.name, messages.ResumeRequested())


async def test_runs_are_remembered_within_bounds(runs: Runs, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.runs.writing._REMEMBERED", 2)
    for number in range(4):
        await submitted(runs, namespace, f"r{number}", f"k{number}")
    for number in (3, 0, 1, 2, 3, 0):
        await runs.happened(namespace, f"r{number}", messages.FragmentAccepted(f"c{number:02d}", 5, 3.0))
    run = await runs.happened(namespace, "r0", messages.CancelRequested("", 4.0))
    assert run.fragments["c00"].state == m.FRAGMENT_STATE_RUNNING


async def test_a_name_is_taken_once_and_a_key_makes_one_run(runs: Runs, namespace: str) -> None:
    first = await submitted(runs, namespace)
    assert await submitted(runs, namespace, "other") == first
    with pytest.raises(RunExists):
        await submitted(runs, namespace, "r", "another key")


async def test_what_is_not_there_is_told_so(runs: Runs, namespace: str) -> None:
    outcome = await runs.happen(namespace, "nobody", same(messages.SuspendRequested()))
    assert (outcome.run, outcome.revision) == (None, 0)
    with pytest.raises(NoSuchRun):
        await runs.happened(namespace, "nobody", messages.SuspendRequested())
    with pytest.raises(InvalidName):
        await runs.happen(namespace, "../up", same(messages.SuspendRequested()))


async def test_a_deleted_run_leaves_only_what_its_agents_must_hear(kinds: Kinds, runs: Runs, namespace: str) -> None:
    run = await submitted(runs, namespace)
    with pytest.raises(Refused):
        await runs.delete(namespace, run.name)
    for cluster in CLUSTERS:
        event = messages.FragmentEnded(status(run, cluster, m.FRAGMENT_STATE_SUCCEEDED, 1), 1, 9.0, ())
        await runs.happen(namespace, run.name, same(event))
    await runs.delete(namespace, run.name)
    assert not (await kinds.outputs.list(namespace)).items
    assert not (await kinds.submissions.list(namespace)).items
    wanted = await kinds.fragments.get(kinds.fragments.key("c00", namespace, run.name))
    assert wanted is not None
    assert wanted.value.desired == m.DESIRED_STATE_FORGOTTEN


async def test_a_crash_between_the_pieces_is_mended(kinds: Kinds, runs: Runs, namespace: str) -> None:
    """What is wanted of fragments follows their run, also where it was not written in time."""
    run = await submitted(runs, namespace)
    stored = await kinds.runs.get(kinds.runs.key(namespace, run.name))
    assert stored is not None
    run.state, run.desired = m.RUN_STATE_SUSPENDED, m.DESIRED_STATE_SUSPENDED
    await kinds.runs.update(stored.key, run, stored.revision)
    await runs.mend()
    wanted = [
        each.value.desired
        for cluster in CLUSTERS
        if (each := await kinds.fragments.get(kinds.fragments.key(cluster, namespace, run.name)))
    ]
    assert wanted == [m.DESIRED_STATE_SUSPENDED] * len(CLUSTERS)


@pytest.mark.parametrize("what", ["submitted", "cancelled", "reserving"])
async def test_what_begins_while_a_hub_starts_is_not_mended(
    kinds: Kinds, runs: Runs, namespace: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Between the two readings of what there is a run may come, end, or order its slots."""
    fragment = m.Fragment(namespace=namespace, run="r", cluster="c00", epoch=5, revision=1)
    if what == "cancelled":
        await submitted(runs, namespace)
    if what == "reserving":
        run = m.Run(namespace=namespace, name="r", workflow="w", idempotency_key="k", submitted_at=1.0)
        await runs.submit(run, messages.Queued(1, b"p", "hold", ("c00",)))

    async def happens() -> None:
        match what:
            case "submitted":
                await submitted(runs, namespace)
            case "cancelled":
                await runs.happened(namespace, "r", messages.CancelRequested("", 4.0))
            case "reserving":
                await runs.happened(namespace, "r", messages.Reserving(1, 5, 1, b"p", (fragment,), {}, 10.0))

    waiting = [happens]
    for repository in (kinds.runs, kinds.fragments):
        read = repository.list

        async def list_all(*names: str, read: Any = read) -> Any:
            listing = await read(*names)
            if waiting:
                await waiting.pop()()
            return listing

        monkeypatch.setattr(repository, "list", list_all)
    await persistently(lambda: Runs(kinds).mend())
    wanted = await kinds.fragments.get(kinds.fragments.key("c00", namespace, "r"))
    assert wanted is not None
    assert wanted.value.desired == (await runs.get(namespace, "r")).desired


def test_a_conflict_names_its_key() -> None:
    assert Conflict("runs/a/b", 1, 2).key == "runs/a/b"
