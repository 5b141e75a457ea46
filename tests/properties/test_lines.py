"""Two lines of a run side by side: whichever counts is whole, and of the other nothing is left."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.cache.records import Recalled, Reused
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.stored import Record
from cluster_agent.coordinator.tasks.records import Closed, Committed
from tests.coordinator.federation import RUN, RUNNING, Agent, Faults
from tests.coordinator.workflows import Use, fragments
from tests.properties.test_replacing import Replacing, without
from tests.properties.worlds import World
from tests.settings import few
from wire.lines import line_name

SUCCEEDED, FORGOTTEN = model_pb2.FRAGMENT_STATE_SUCCEEDED, model_pb2.DESIRED_STATE_FORGOTTEN
LINE = RunKey(RUN.namespace, line_name(RUN.run, 2))


class TwoLines(Replacing):
    """At one moment a cluster is lost and a line begun without it; so many steps later `winner` is what counts."""

    def __init__(self, seed: int, moment: int, later: int, winner: RunKey, faults: Faults | None = None) -> None:
        self.later = later
        self.winner = winner
        self.decide_at = 0
        self.decided = False
        self.second: dict[str, Use] = {}
        self.done_of: set[tuple[RunKey, str, bytes]] = set()
        self.executed_in: dict[RunKey, set[tuple[str, bytes]]] = {RUN: set(), LINE: set()}
        self.contents: dict[bytes, list[list[bytes]]] = {}  # that a task was executed on
        self.consumed_of: Counter[tuple[RunKey, str, bytes]] = Counter()
        self.closed_of: Counter[tuple[RunKey, str]] = Counter()
        super().__init__(seed, [moment], faults)

    def step(self) -> bool:
        if self.epoch > 1 and not self.decided and self.steps_taken >= self.decide_at:
            self.decide()
        if super().step():
            return True
        if self.epoch > 1 and not self.decided:
            self.decide()
            return True
        return False

    def replace(self) -> None:
        self.epoch += 1
        self.replaced = True
        left = [cluster for cluster in self.agents if cluster not in self.lost]
        self.second = {name: without(step, self.lost, left[0]) for name, step in self.uses.items()}
        new = fragments(self.second.values(), self.parts, left, run=LINE.run, epoch=self.epoch)
        for cluster in left:
            self.tell(cluster, messages.FragmentAssigned(new[cluster], RUNNING))
        self.decide_at = self.steps_taken + self.later

    def decide(self) -> None:
        """The hub's one conditional write, and its word to everybody that nothing of the other line is wanted."""
        self.decided = True
        loser = LINE if self.winner == RUN else RUN
        for cluster in self.agents:
            if loser == RUN or cluster not in self.lost:
                self.tell(cluster, messages.DesiredChanged(loser, FORGOTTEN))

    def tell(self, cluster: str, event: messages.Event) -> None:
        """In order, sooner or later."""
        earlier = max((step for step, who, _ in self.told_late if who == cluster), default=0)
        at = max(earlier, self.steps_taken + self.random.choice((0, 3, 50, 400)))
        self.told_late.append((at, cluster, event))
        self.told_late.sort(key=lambda each: each[0])

    def observe(self, agent: Agent, record: Record) -> None:
        if not isinstance(record, Committed | Recalled | Reused | Closed):
            World.observe(self, agent, record)
            return
        live = agent.core._book.lives.get(record.run)
        if live is None:
            return  # in the same batch came the word that the line is none of ours
        if isinstance(record, Closed):
            step = live.graph.steps[record.step]
            if step.counts:
                self.closed_of[record.run, step.name] += 1
            return
        task = live.run.tasks[record.task]
        contents = [live.run.units[unit].digest for units in live.inputs(task) for unit in units]
        key = (record.run, agent.cluster, record.task)
        if isinstance(record, Committed):
            self.contents.setdefault(record.task, []).append(contents)
            if key in self.done_of:
                return  # made again
            self.executed_in[record.run].add(key[1:])
        else:
            assert record.run == LINE
            assert key not in self.done_of
            assert contents in self.contents[record.task], "a result of other inputs is taken for this one"
        self.done_of.add(key)
        for edge, units in zip(live.graph.steps[task.step].inputs, task.inputs, strict=True):
            for unit in units:
                self.consumed_of[record.run, edge.id, unit] += 1

    def check_lines(self) -> None:
        """The line that counts is whole and has everything once, and of the other there is nothing."""
        uses = self.uses if self.winner == RUN else self.second
        for cluster, agent in self.agents.items():
            taking_part = self.winner == RUN or cluster not in self.lost
            assert agent.core.runs() == ([self.winner] if taking_part else []), cluster
            agent.rebuilt(check=True)
            for node in agent.nodes.values():
                assert {run for run, _ in node.store} <= {self.winner}, "units of the other line are left"
            if taking_part:
                assert agent.state(self.winner) == SUCCEEDED, f"{cluster}: {self.story()}"
                run = agent.core._book.lives[self.winner].run
                for _, result in run.outputs:
                    unit = run.units[result]
                    stores = [agent.nodes[name].store for name in unit.copies]
                    assert stores, "a result has no bytes"
                    assert all(store.get((self.winner, result)) == unit.digest for store in stores)
            for each in agent.core._book.nodes.values():
                assert not each.tasks and not each.used_cpus, "a slot leaked"
        counted = {key: count for key, count in self.consumed_of.items() if key[0] == self.winner}
        assert {key: count for key, count in counted.items() if count != 1} == {}
        closed = {step: count for (line, step), count in self.closed_of.items() if line == self.winner}
        assert closed == dict.fromkeys(uses, 1)

    def finish(self) -> None:
        """Once the run is forgotten nothing remains, on whichever cluster."""
        for desired in (model_pb2.DESIRED_STATE_FINISHED, FORGOTTEN):
            self.want(desired, self.winner)
            self.run()
        for agent in self.agents.values():
            assert agent.core.inventory() == []
            assert not any(node.store or node.running for node in agent.nodes.values())


def two_lines(seed: int, moment: int, later: int, winner: RunKey, faults: Faults | None = None) -> None:
    world = TwoLines(seed, moment, later, winner, faults)
    if world.lost:  # there is more than one cluster
        world.run(most=80_000)
        world.check_lines()
        world.finish()


seeds, moments, winners = st.integers(0, 2**32), st.integers(0, 900), st.sampled_from((RUN, LINE))


@few
@given(seeds, moments, moments, winners)
def test_of_two_lines_one_is_whole_and_the_other_is_gone(seed: int, moment: int, later: int, winner: RunKey) -> None:
    two_lines(seed, moment, later, winner)


@few
@given(seeds, moments, moments, winners)
def test_so_it_is_while_everything_goes_wrong(seed: int, moment: int, later: int, winner: RunKey) -> None:
    faults = Faults.everything()
    two_lines(seed, moment, later, winner, faults)
