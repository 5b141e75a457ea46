"""A run that begins again without a cluster: one line of history counts, whenever it happens and whoever comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.book import Policy
from cluster_agent.coordinator.cache.records import Recalled, Reused
from cluster_agent.coordinator.runs.records import FragmentTaken
from cluster_agent.coordinator.state import DONE
from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.records import Closed, Committed
from cluster_agent.orders.messages import Output
from tests.coordinator.federation import RUN, RUNNING, Agent, Faults, consumed_by, made
from tests.coordinator.workflows import EACH, GATHER, Use, fragments, output, source
from tests.fixtures import words
from tests.properties.graphs import Parts, random_dag
from tests.properties.worlds import World
from tests.settings import few

SUCCEEDED = model_pb2.FRAGMENT_STATE_SUCCEEDED


class Replacing(World):
    """The clusters in `lost` are replaced one after the other, at these numbers of steps; each may be told late."""

    chain = False  # rather than a random graph
    patience = 5.0
    dag = staticmethod(random_dag)

    def __init__(self, seed: int, moments: Sequence[int], faults: Faults | None = None, varying: float = 0.5) -> None:
        self.moments = list(moments)
        self.epoch = 1
        self.lost: list[str] = []
        self.consumed_in: Counter[tuple[int, str, bytes]] = Counter()
        self.closed_in: Counter[tuple[int, str]] = Counter()
        self.executed: dict[tuple[str, bytes], int] = {}  # the epoch in which a cluster has executed a task first
        self.read: dict[bytes, list[list[bytes]]] = {}  # contents that a task was executed on, by whomever
        self.reached: set[bytes] = set()  # tasks of lost clusters whose units others had heard of, all of them
        self.repeated: list[bytes] = []  # of these: executed elsewhere, though it was not known to be needed
        self.counted: set[tuple[int, str, bytes]] = set()  # done in an epoch by a cluster: from then on made again
        self.again: list[bytes] = []
        self.taken: dict[str, int] = {}  # cluster -> epoch of the fragment that it has
        self.told_late: list[tuple[int, str, messages.Event]] = []  # step at which the hub reaches a cluster
        super().__init__(seed, faults, grow=self.grown, audited=0.05, policy=Policy(recall_patience=self.patience))
        self.varying = varying

    def grown(self, random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
        """No data lies only on a cluster that will be lost."""
        self.run_policy = model_pb2.Policy(replace=True)
        if self.chain:
            return self.chained(random, clusters)
        self.lost = random.sample(list(clusters), min(len(self.moments), len(clusters) - 1))
        steps, parts = self.dag(random, clusters)
        return steps, {
            step: {place: 0 if place in self.lost else count for place, count in places.items()}
            for step, places in parts.items()
        }

    def chained(self, random: Random, clusters: Sequence[str]) -> tuple[list[Use], Parts]:
        """Each step on another cluster; the one before the last is lost."""
        where = random.sample(list(clusters), len(clusters))
        self.lost = [where[-1]] if len(where) > 1 else []
        data = source("data", where[:1])
        steps = [data]
        for number, cluster in enumerate(where):
            steps.append(Use(f"each{number}", [cluster], {"rows": (f"{steps[-1].name}.out", EACH)}))
        last = Use("gather", where[:1], {"rows": (f"{steps[-1].name}.out", GATHER)})
        return [*steps, last, output(last)], {data.name: {where[0]: random.randint(2, 8)}}

    def step(self) -> bool:
        if self.epoch <= len(self.lost) and self.steps_taken >= self.moments[self.epoch - 1]:
            self.replace()
        for due in [each for each in self.told_late if each[0] <= self.steps_taken]:
            self.told_late.remove(due)
            self.agents[due[1]].hub.append(due[2])
        if super().step():
            return True
        if self.epoch <= len(self.lost):
            self.replace()
            return True
        if self.told_late:
            self.told_late = [(0, cluster, event) for _, cluster, event in self.told_late]
            return True
        return False

    def replace(self) -> None:
        """The hub's one conditional write, and what it tells everybody, who hears it sooner or later."""
        gone = self.lost[: self.epoch]
        self.epoch += 1
        self.replaced = True
        left = [cluster for cluster in self.agents if cluster not in gone]
        self.uses = {name: without(step, gone, left[0]) for name, step in self.uses.items()}
        self.reached |= self.told_of(self.agents[gone[-1]], [self.agents[cluster] for cluster in left])
        new = fragments(self.uses.values(), self.parts, left, epoch=self.epoch, policy=self.run_policy)
        told: dict[str, messages.Event] = {
            cluster: messages.FragmentAssigned(new[cluster], RUNNING) for cluster in left
        }
        told[gone[-1]] = messages.DesiredChanged(RUN, model_pb2.DESIRED_STATE_FORGOTTEN)
        for cluster, event in told.items():
            earlier = max((step for step, who, _ in self.told_late if who == cluster), default=0)
            self.told_late.append(
                (max(earlier, self.steps_taken + self.random.choice((0, 3, 50, 400))), cluster, event)
            )
        self.told_late.sort(key=lambda each: each[0])

    def told_of(self, lost: Agent, left: Sequence[Agent]) -> set[bytes]:
        """Tasks that the lost cluster has done, and of which somebody else has logged all that they made."""
        live = lost.core._book.lives.get(RUN)
        if live is None:
            return set()
        lives = [agent.core._book.lives[RUN] for agent in left if RUN in agent.core._book.lives]
        heard = {task for there in lives for task, known in there.run.makers.items() if not known.lacking}
        return {task.id for task in live.run.tasks.values() if task.state == DONE and task.outputs and task.id in heard}

    def observe(self, agent: Agent, record: Record) -> None:
        if isinstance(record, FragmentTaken):
            self.taken[agent.cluster] = model_pb2.Fragment.FromString(record.fragment).epoch
        if not isinstance(record, Committed | Recalled | Reused | Closed):
            super().observe(agent, record)
            return
        live = agent.core._book.lives.get(record.run)
        epoch = self.taken[agent.cluster]
        if live is None or epoch < live.graph.epoch:
            return  # in the same batch came a newer fragment, or the word that the run is none of ours
        if isinstance(record, Closed):
            step = live.graph.steps[record.step]
            if step.counts:
                self.closed_in[epoch, step.name] += 1
            return
        task = live.run.tasks[record.task]
        contents = [live.run.units[unit].digest for units in live.inputs(task) for unit in units]
        key = (epoch, agent.cluster, record.task)
        if isinstance(record, Committed):
            self.read.setdefault(record.task, []).append(contents)
            first = self.executed.setdefault((agent.cluster, record.task), epoch)
            if key in self.counted:
                return  # made again
            if first < epoch:
                self.again.append(record.task)
            if record.task in self.reached and epoch == self.epoch:
                self.repeated.append(record.task)
        else:
            assert key not in self.counted
            changed = any(
                live.run.units[unit].generation for units in live.inputs(task) for unit in units
            )  # since then
            assert changed or contents in self.read[record.task], "a result of other inputs is taken for this one"
        self.results[agent.cluster, record.task] = "done"
        self.counted.add(key)
        for edge, unit in consumed_by(live.graph.steps[task.step], task):
            self.consumed_in[epoch, edge, unit] += 1

    def check_replaced(self) -> None:
        """The newest line is whole, has everything once, and of the others nothing is left."""
        left = [agent for cluster, agent in self.agents.items() if cluster not in self.lost]
        for agent in left:
            assert agent.state() == SUCCEEDED, f"{agent.cluster}: {self.story()}"
            assert self.ended[agent.cluster, self.epoch] == SUCCEEDED
            agent.rebuilt(check=True)
            live = agent.core._book.lives[RUN]
            assert not live.run.bare
            for _, result in live.run.outputs:
                unit = live.run.units[result]
                stores = [agent.nodes[name].store for name in unit.copies]
                assert stores, "a result has no bytes"
                assert all(store.get((RUN, result)) == unit.digest for store in stores)
        counted = {key: count for key, count in self.consumed_in.items() if key[0] == self.epoch}
        assert {key: count for key, count in counted.items() if count != 1} == {}
        closed = {step: count for (epoch, step), count in self.closed_in.items() if epoch == self.epoch}
        assert closed == dict.fromkeys(self.uses, 1)
        for cluster in self.lost:
            assert self.agents[cluster].core.inventory() == []
        for agent in self.agents.values():
            for node in agent.core._book.nodes.values():
                assert not node.tasks and not node.used_cpus, "a slot leaked"

    def finish(self) -> None:
        """Once the run is forgotten nothing remains, on whichever cluster."""
        self.want(model_pb2.DESIRED_STATE_FINISHED)
        self.run()
        for agent in self.agents.values():
            kept = {unit for key in agent.core.runs() for _, unit in agent.core._book.lives[key].run.outputs}
            assert not {unit for node in agent.nodes.values() for _, unit in node.store} - kept
        self.want(model_pb2.DESIRED_STATE_FORGOTTEN)
        self.run()
        for agent in self.agents.values():
            assert agent.core.inventory() == []
            assert not any(node.store or node.running for node in agent.nodes.values())


def without(step: Use, gone: Sequence[str], other: str) -> Use:
    """The step as it is planned without some clusters."""
    fresh = copy(step)
    fresh.executors = [cluster for cluster in step.executors if cluster not in gone] or [other]
    if step.counter in gone:
        fresh.counter = fresh.executors[0]
    return fresh


class Chained(Replacing):
    chain = True


class Patient(Replacing):
    """Whoever is asked what a lost cluster has done answers in time."""

    patience = 1e6


class PatientlyChained(Patient):
    chain = True


class Widely(PatientlyChained):
    """The lost cluster's tasks make more units than go with an offer."""

    def outputs_of(self, task: words.Task) -> tuple[Output, ...]:
        if self.lost and task.step == f"each{len(self.agents) - 1}":
            return tuple(made(task.key.task, "out", index, self.size) for index in range(40))
        return super().outputs_of(task)


def replaced(
    seed: int,
    moments: Sequence[int],
    faults: Faults | None = None,
    varying: float = 0.5,
    kind: type[Replacing] = Replacing,
) -> Replacing:
    world = kind(seed, moments, faults, varying)
    world.run(most=60_000)
    world.check_replaced()
    return world


@few
@given(st.integers(0, 2**32), st.integers(0, 900))
def test_a_run_begins_again_without_a_lost_cluster_at_any_moment(seed: int, moment: int) -> None:
    replaced(seed, [moment]).finish()


@few
@given(st.integers(0, 2**32), st.integers(0, 900), st.integers(0, 900))
def test_a_run_begins_again_twice(seed: int, first: int, second: int) -> None:
    replaced(seed, sorted([first, second])).finish()


@few
@given(st.integers(0, 2**32), st.integers(0, 900))
def test_a_run_begins_again_while_everything_goes_wrong(seed: int, moment: int) -> None:
    faults = Faults.everything()
    replaced(seed, [moment], faults).finish()


@few
@given(st.integers(0, 2**32), st.integers(50, 500))
def test_what_was_freed_along_a_chain_of_clusters_is_made_again_for_whoever_takes_the_lost_place(
    seed: int, moment: int
) -> None:
    replaced(seed, [moment], Faults(node_restart=0.01, crash=0.02, repeats=0.1), kind=Chained).finish()


@few
@given(st.integers(0, 2**32), st.integers(0, 900))
def test_what_a_cluster_has_done_it_does_not_do_again(seed: int, moment: int) -> None:
    """But for what is made again because its bytes are gone and somebody needs them."""
    world = replaced(seed, [moment], varying=0.0)
    assert not world.again


@few
@given(st.integers(0, 2**32), st.integers(0, 900))
def test_what_a_lost_cluster_has_done_is_not_done_again_where_others_have_heard_of_it(seed: int, moment: int) -> None:
    """But for what is made again because its bytes are gone and somebody needs them."""
    assert not replaced(seed, [moment], varying=0.0, kind=Patient).repeated
    assert not replaced(seed, [moment], varying=0.0, kind=PatientlyChained).repeated


@pytest.mark.parametrize(("seed", "moment"), [(0, 400), (6, 900)])
def test_so_it_is_with_tasks_that_have_made_many_units(seed: int, moment: int) -> None:
    world = replaced(seed, [moment], varying=0.0, kind=Widely)
    assert world.reached
    assert not world.repeated
