"""The cache: what was executed once is not executed again, for whichever run, as long as it may be believed."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import federation_pb2, model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.records import Committed
from cluster_agent.orders.messages import Output, UnitInfo
from simulator.audit import audit
from tests.coordinator.federation import Agent, Faults, Federation
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, source
from tests.fixtures import words
from wire.digests import bytes_digest, source_task_id, unit_id
from wire.lines import CACHE

Parts = dict[str, dict[str, int]]
RUNNING = model_pb2.DESIRED_STATE_RUNNING
FINISHED = model_pb2.DESIRED_STATE_FINISHED
FORGOTTEN = model_pb2.DESIRED_STATE_FORGOTTEN
SUCCEEDED = model_pb2.FRAGMENT_STATE_SUCCEEDED
DAY = 86_400.0


def cached(key: bytes = b"k", *, age: float = 0.0, fresh: bool = False) -> model_pb2.Step:
    return model_pb2.Step(cache=model_pb2.Caching(key=key, age=age, fresh=fresh))


class Contents(Federation):
    """Contents follow from contents: a source's from its part, a task's from its step and what it reads."""

    def __init__(
        self,
        clusters: Iterable[str] = ("edge",),
        *,
        faults: Faults | None = None,
        seed: int = 1,
        policy: Policy | None = None,
    ) -> None:
        names = {cluster: {"n1": 2.0, "n2": 2.0} for cluster in clusters}
        super().__init__(Random(seed), names, faults or Faults(), policy or Policy())
        self.executed: list[tuple[str, str]] = []  # run and step
        self.introduce()

    def starting(self) -> bool:
        """Time does not pass as long as anything else can happen, where nothing goes wrong."""
        return self.faults == Faults() or super().starting()

    def seconds(self, task: words.Task) -> float:
        return 10.0

    def outputs_of(self, task: words.Task) -> tuple[Output, ...]:
        read = b"".join(sorted(unit.digest for port in task.inputs for unit in port.units))
        return tuple(
            Output(
                port.name,
                0,
                UnitInfo(
                    unit_id(task.key.task, port.name, 0),
                    bytes_digest(task.start.definition.encode() + read),
                    self.size,
                    name="out.csv",
                ),
            )
            for port in task.start.outputs
        )

    def observe(self, agent: Agent, record: Record) -> None:
        if isinstance(record, Committed):
            live = agent.core._book.lives[record.run]
            self.executed.append((record.run.run, live.graph.steps[live.run.tasks[record.task].step].name))

    def submitted(self, run: str, steps: list[Use], parts: Parts, namespace: str = "default") -> None:
        told = fragments(steps, parts, self.agents, run=run, policy=self.run_policy)
        for cluster, fragment in told.items():
            proto = model_pb2.Fragment.FromString(fragment)
            proto.namespace = namespace
            self.agents[cluster].hub.append(messages.FragmentAssigned(proto.SerializeToString(), RUNNING))

    def ran(self, run: str, steps: list[Use], parts: Parts, namespace: str = "default") -> list[str]:
        """The steps of the tasks that were executed; the run is over, and forgotten, at the end."""
        self.executed = []
        self.submitted(run, steps, parts, namespace)
        self.run()
        key = RunKey(namespace, run)
        for agent in self.agents.values():
            assert agent.state(key) == SUCCEEDED, self.story()
            audit(agent.core)
            agent.rebuilt(check=True)
        self.results = {}
        for desired in (FINISHED, FORGOTTEN):
            self.want(desired, key)
            self.run()
        for agent in self.agents.values():
            for node in agent.nodes.values():
                assert {run.run for run, _ in node.store} <= {CACHE}, "a run that is forgotten has left a unit"
        return [step for name, step in self.executed if name == run]

    def cached(self) -> int:
        """How many results are in the tables."""
        return sum(len(agent.core._book.state.cached) for agent in self.agents.values())


# ------------------------------------------------------------------------------------------------------- workflows


def chain(
    run: str, more: model_pb2.Step | None = None, *, where: str = "edge", data: str = "data", parts: int = 3
) -> tuple[list[Use], Parts]:
    """A cached step for each part, and one that is not cached."""
    rows = source(data, [where])
    clean = Use("clean", [where], {"rows": (f"{rows.name}.out", EACH)}, more=more or cached())
    report = Use("report", [where], {"parts": ("clean.out", GATHER)})
    return [rows, clean, report, output(report)], {rows.name: {where: parts}}


@pytest.fixture(autouse=True)
def _contents_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset's part has the same contents in each run: they follow from its place, not from ids."""
    from tests.coordinator import federation

    def made(maker: bytes, port: str, index: int, size: int, varied: bytes = b"") -> Output:
        step, number = PLACES[maker]
        return Output(
            port, index, UnitInfo(unit_id(maker, port, index), bytes_digest(f"{step}/{number}".encode()), size)
        )

    monkeypatch.setattr(federation, "made", made)


class _Places(dict[bytes, tuple[str, int]]):
    """Which part of which dataset an id of a source's opening stands for."""

    def learn(self, namespace: str, run: str, step: str, count: int) -> None:
        self.update({source_task_id(namespace, run, step, index): (step, index) for index in range(count)})


PLACES = _Places()
for _namespace in ("default", "other"):
    for _run in ("first", "second", "third"):
        for _step in ("inputs.data", "inputs.other"):
            PLACES.learn(_namespace, _run, _step, 10)


# ----------------------------------------------------------------------------------------------------- what is taken


def test_what_one_run_has_executed_the_next_one_takes_from_the_cache() -> None:
    world = Contents()
    assert world.ran("first", *chain("first")) == ["clean", "clean", "clean", "report"]
    assert world.ran("second", *chain("second")) == ["report"]


def test_a_second_run_with_one_input_more_executes_only_what_is_new() -> None:
    world = Contents()
    world.ran("first", *chain("first", parts=3))
    assert world.ran("second", *chain("second", parts=4)) == ["clean", "report"]


def test_a_whole_chain_of_cached_steps_is_taken_since_contents_lead_to_contents() -> None:
    def all_cached(run: str) -> tuple[list[Use], Parts]:
        steps, parts = chain(run)
        steps[2].more = cached(b"report")
        return steps, parts

    world = Contents()
    world.ran("first", *all_cached("first"))
    assert world.ran("second", *all_cached("second")) == []


def test_a_run_that_takes_nothing_from_the_cache_still_fills_it() -> None:
    world = Contents()
    assert len(world.ran("first", *chain("first", cached(fresh=True)))) == 4
    assert len(world.ran("second", *chain("second", cached(fresh=True)))) == 4
    assert world.ran("third", *chain("third")) == ["report"]


@pytest.mark.parametrize(
    "other",
    [chain("second", cached(b"other version or parameters")), chain("second", data="other")],
    ids=["another key", "another input"],
)
def test_another_step_or_another_input_is_another_result(other: tuple[list[Use], Parts]) -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    assert len(world.ran("second", *other)) == 4


def test_no_namespace_sees_what_another_one_has_executed() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    assert len(world.ran("second", *chain("second"), namespace="other")) == 4


def test_a_step_that_is_not_cached_is_always_executed() -> None:
    world = Contents()
    for run in ("first", "second"):
        assert len(world.ran(run, *chain(run, model_pb2.Step()))) == 4
    assert world.cached() == 0


def test_what_is_older_than_the_step_allows_is_executed_again_and_is_new_then() -> None:
    world = Contents()
    world.ran("first", *chain("first", cached(age=7 * DAY)))
    world.agents["edge"].hub.append(messages.ClockRead(world.now + 8 * DAY))
    assert len(world.ran("second", *chain("second", cached(age=7 * DAY)))) == 4
    assert world.ran("third", *chain("third", cached(age=7 * DAY))) == ["report"]


def test_what_was_taken_is_counted_apart_and_told() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    world.submitted("second", *chain("second"))
    world.run()
    agent = world.agents["edge"]
    status = agent.core.status(RunKey("default", "second"))
    (clean,) = [step for step in status.steps if step.step == "clean"]
    assert (clean.done, clean.cached, clean.busy_seconds) == (3, 3, 0.0)
    assert [event.type for event in agent.published if event.run.run == "second"].count("task.cached") == 3


# ------------------------------------------------------------------------------------------- what people see and clear


def kept(world: Contents, step: str = "", namespace: str = "default") -> list[tuple[str, int, int, int]]:
    """Steps with their results, bytes, and how often they were taken."""
    lines = world.agents["edge"].core.cached(namespace, step)
    assert all(line.cluster == "edge" and line.oldest <= line.newest for line in lines)
    return [(line.step, line.results, line.bytes, line.taken) for line in lines]


def cleared(world: Contents, step: str = "", age: float = 0.0, namespace: str = "default") -> dict[str, int]:
    """What the answer says: steps, and how many of their results were given up."""
    agent = world.agents["edge"]
    number = len(agent.answers) + 1
    agent.hub.append(messages.ClearAsked(number, namespace, step, age))
    world.run()
    agent.rebuilt(check=True)
    audit(agent.core)
    return {line.step: line.results for line in federation_pb2.CachedSteps.FromString(agent.answers[number]).steps}


def two_steps(run: str) -> tuple[list[Use], Parts]:
    steps, parts = chain(run)
    steps[2].more = cached(b"report")
    return steps, parts


def test_what_is_kept_is_told_by_step_with_how_often_it_was_taken() -> None:
    world = Contents()
    world.ran("first", *two_steps("first"))
    assert kept(world) == [("clean@1", 3, 3 * world.size, 0), ("report@1", 1, world.size, 0)]
    world.ran("second", *two_steps("second"))
    world.ran("third", *two_steps("third"))
    assert kept(world) == [("clean@1", 3, 3 * world.size, 6), ("report@1", 1, world.size, 2)]
    assert kept(world, "clean") == kept(world, "clean@1") == kept(world)[:1]
    assert kept(world, "clean@2") == kept(world, "cle") == kept(world, namespace="other") == []


@pytest.mark.parametrize("step", ["clean", "clean@1"])
def test_what_is_cleared_of_a_step_is_executed_again_and_no_other(step: str) -> None:
    world = Contents()
    world.ran("first", *two_steps("first"))
    assert cleared(world, step) == {"clean@1": 3}
    assert cleared(world, step) == {}, "there is no more of it"
    assert kept(world) == [("report@1", 1, world.size, 0)]
    assert world.ran("second", *two_steps("second")) == ["clean", "clean", "clean"]


def test_only_what_was_executed_longer_ago_is_cleared_by_age() -> None:
    world = Contents()
    world.ran("first", *chain("first", parts=2))
    world.agents["edge"].hub.append(messages.ClockRead(world.now + 8 * DAY))
    world.ran("second", *chain("second", parts=3))
    assert cleared(world, age=9 * DAY) == {}
    assert cleared(world, age=7 * DAY) == {"clean@1": 2}
    assert world.ran("third", *chain("third", parts=3)) == ["clean", "clean", "report"]


def test_clearing_all_is_of_a_namespace_and_leaves_nothing_in_the_nodes() -> None:
    world = Contents()
    world.ran("first", *two_steps("first"))
    world.ran("second", *two_steps("second"), namespace="other")
    assert cleared(world) == {"clean@1": 3, "report@1": 1}
    assert kept(world) == []
    assert len(kept(world, namespace="other")) == 2
    assert cleared(world, namespace="other") == {"clean@1": 3, "report@1": 1}
    assert not any(node.store for node in world.agents["edge"].nodes.values())


def test_what_is_cleared_while_tasks_look_for_it_is_executed_and_does_not_come_back() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    world.executed = []
    world.submitted("second", *chain("second"))
    lives = world.agents["edge"].core._book.lives
    world.run(until=lambda: any(len(live.sought) == 3 for live in lives.values()))
    assert cleared(world) == {"clean@1": 3}
    assert world.agents["edge"].state(RunKey("default", "second")) == SUCCEEDED, world.story()
    assert [step for _, step in world.executed] == ["clean", "clean", "clean", "report"]
    assert kept(world) == [("clean@1", 3, 3 * world.size, 0)]


# ------------------------------------------------------------------------------------------- what can't be believed


def test_contents_that_their_node_has_not_got_any_more_are_made_again() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    for node in world.agents["edge"].nodes.values():
        node.store.clear()
    assert len(world.ran("second", *chain("second"))) == 4
    assert world.ran("third", *chain("third")) == ["report"]


def test_a_node_that_comes_back_without_its_store_is_believed() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    for node in world.agents["edge"].nodes.values():
        node.restart(store=False)
    world.run()
    assert world.cached() == 0
    assert len(world.ran("second", *chain("second"))) == 4


def test_what_a_node_has_kept_survives_it_and_the_agent() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    world.agents["edge"].crash()
    for node in world.agents["edge"].nodes.values():
        node.restart(store=True)
    world.run()
    assert world.ran("second", *chain("second")) == ["report"]


def test_a_node_that_goes_while_it_looks_is_not_waited_for() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    agent = world.agents["edge"]
    world.submitted("second", *chain("second"))
    asked = lambda: any(live.sought for live in agent.core._book.lives.values())  # noqa: E731
    world.run(until=asked)
    assert asked()
    for node in agent.nodes.values():
        node.disconnect()
    world.run()
    assert agent.state(RunKey("default", "second")) == SUCCEEDED


def test_contents_that_no_table_knows_are_freed() -> None:
    world = Contents()
    world.ran("first", *chain("first"))
    agent = world.agents["edge"]
    agent.core = agent.core.__class__("edge", world.policy)  # its log is lost
    agent.snapshot, agent.log = agent.core.snapshot(), []
    for node in agent.nodes.values():
        node.restart(store=True)
    world.tell_directory("edge")
    world.run()
    assert not any(node.store for node in agent.nodes.values())


# ------------------------------------------------------------------------------------------------------- its bounds


@pytest.mark.parametrize("policy", [Policy(cache_entries=2), Policy(cache_bytes=8 * 1000)], ids=["number", "bytes"])
def test_what_was_used_longest_ago_goes_first_and_its_bytes_with_it(policy: Policy) -> None:
    world = Contents(policy=policy)
    world.ran("first", *chain("first", parts=10))
    most = 2 if policy.cache_entries == 2 else 8
    assert world.cached() == most
    kept = [unit for node in world.agents["edge"].nodes.values() for _, unit in node.store]
    assert len(kept) == most
    assert len(world.ran("second", *chain("second", parts=10))) == 11 - most


def test_a_cache_of_nothing_keeps_nothing() -> None:
    world = Contents(policy=Policy(cache_entries=0))
    world.ran("first", *chain("first"))
    assert world.cached() == 0
    assert not any(node.store for node in world.agents["edge"].nodes.values())


# ------------------------------------------------------------------------------------------------------ over clusters


def moved(where: str) -> tuple[list[Use], Parts]:
    """The data lies on the edge, and the cached step is executed somewhere."""
    rows = source("data", ["edge"])
    clean = Use("clean", [where], {"rows": ("inputs.data.out", EACH)}, more=cached())
    clean.more.measured.add(cluster=where, mean_seconds=10.0, weight=1.0)
    return [rows, clean, output(clean)], {"inputs.data": {"edge": 3}}


def test_what_one_cluster_has_executed_another_one_takes_from_it() -> None:
    world = Contents(("edge", "cloud"))
    assert world.ran("first", *moved("cloud")) == ["clean"] * 3
    assert world.ran("second", *moved("edge")) == []
    assert world.ran("third", *moved("edge")) == []
    assert {len(agent.core._book.state.cached) for agent in world.agents.values()} == {3}


def test_nobody_waits_for_a_peer_that_does_not_answer() -> None:
    world = Contents(("edge", "cloud"))
    world.ran("first", *moved("cloud"))
    world.cut = {("edge", "cloud"), ("cloud", "edge")}
    world.submitted("second", *moved("edge"))
    edge = world.agents["edge"]
    began = world.now
    world.run(until=lambda: len([1 for run, _ in world.executed if run == "second"]) == 3)
    assert world.now - began <= 1.5, "a tenth of the ten seconds that a task takes"
    world.run()
    assert edge.state(RunKey("default", "second")) == SUCCEEDED


def test_contents_that_a_peer_has_lost_are_made_here() -> None:
    world = Contents(("edge", "cloud"))
    world.ran("first", *moved("cloud"))
    for node in world.agents["cloud"].nodes.values():
        node.store.clear()
    assert world.ran("second", *moved("edge")) == ["clean"] * 3


def test_where_no_other_cluster_can_be_dialled_nobody_is_asked() -> None:
    world = Contents(("edge", "cloud"))
    world.ran("first", *moved("cloud"))
    world.undialled = {("edge", "cloud"), ("cloud", "edge")}
    world.introduce()
    world.run()
    world.submitted("second", *moved("edge"))
    sought: list[str] = []
    while world.step():
        sought += [task.hex() for live in world.agents["edge"].core._book.lives.values() for task in live.sought]
    assert not sought


@given(st.integers(0, 2**32))
def test_whatever_goes_wrong_results_are_the_same_and_nothing_is_left(seed: int) -> None:
    """Agents and nodes die, streams break, words come twice and peers are cut off, while two runs share."""
    faults = Faults(crash=0.02, node_restart=0.02, stream_breaks=0.02, repeats=0.1, cut=0.02)
    world = Contents(("edge", "cloud"), faults=faults, seed=seed)
    world.replay_checks = 0.1
    world.submitted("first", *moved("cloud"))
    world.submitted("second", *moved("edge"))
    world.run()
    made = {}
    for run in ("first", "second"):
        for agent in world.agents.values():
            assert agent.state(RunKey("default", run)) == SUCCEEDED, world.story()
            audit(agent.core)
            agent.rebuilt(check=True)
            live = agent.core._book.lives[RunKey("default", run)]
            made.setdefault(run, []).extend(live.run.units[unit].digest for _, unit in live.run.outputs)
    assert sorted(made["first"]) == sorted(made["second"])
    assert len(made["first"]) == 3
    for run in ("first", "second"):
        for desired in (FINISHED, FORGOTTEN):
            world.want(desired, RunKey("default", run))
            world.run()
    for agent in world.agents.values():
        wanted = {unit for _, namespace, unit in agent.core._book.shelf.held}
        for node in agent.nodes.values():
            assert {unit for _, unit in node.store} <= wanted, "something is left that nobody knows"
