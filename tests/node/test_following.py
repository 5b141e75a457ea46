"""A node goes on with a chain by itself, as far as it was told to; and what it did survives it and its agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.orders.messages import Hold, Order, Orders
from tests.fixtures import words
from tests.node.cluster import NAMESPACE, Cluster, cluster, content, given, order, python, source, wait_until
from tests.node.steps import bundle
from wire.digests import source_task_id, task_id, unit_id


class Chain:
    """Steps s0, s1, … that add one, each following the one before; `alike`: all are uses of one step."""

    def __init__(
        self,
        edge: Cluster,
        tmp_path: Path,
        unit: model_pb2.Unit,
        length: int,
        *,
        alike: bool = False,
        **parameters: str,
    ) -> None:
        function = "steps:count" if alike else "steps:heavy" if parameters else "steps:add_one"
        self.steps = [
            order(
                f"s{number}",
                python(function, bundle(edge, tmp_path)),
                inputs=[given("unit", unit, kind="")],
                outputs=["unit"],
                parameters=parameters,
            )
            for number in range(length)
        ]
        for step in self.steps if alike else ():
            step.start.definition = "alike@1"
        self.tasks = [task_id(NAMESPACE, "run1", "s0", [("unit", [unit.id])])]
        for number in range(1, length):
            made = unit_id(self.tasks[-1], "unit", 0)
            self.tasks.append(task_id(NAMESPACE, "run1", f"s{number}", [("unit", [made])]))
        self._unit = unit

    def begin(self, edge: Cluster, attempt: int = 1) -> None:
        """Order the first of them."""
        number, follow = 0, ()
        for step in reversed(self.steps):
            number, said = edge.agent.speaker.work(step, follow)
            edge.agent.order(said)
            follow = (("unit", number),)
        edge.agent.order([Orders(number, (Order(self.tasks[0], attempt, self.steps[0].order.inputs),))])

    def key(self, number: int) -> node_pb2.TaskKey:
        return node_pb2.TaskKey(namespace=NAMESPACE, run="run1", task=self.tasks[number], attempt=1)


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_chain_is_executed_without_a_further_order(tmp_path: Path, durability: str) -> None:
    async with cluster(tmp_path, durability=durability) as edge:
        node = await edge.start()
        chain = Chain(edge, tmp_path, await source(edge, "a", b"0"), 10)
        chain.begin(edge)
        last = await edge.agent.result(chain.key(9))
        assert content(node, last.outputs[0].unit) == b"10"
        assert [result.task for result in edge.agent.results] == chain.tasks, "told in their order"
        assert [result.followed for result in edge.agent.results] == [True] * 9 + [False]


async def test_a_second_attempt_is_not_gone_on_with(edge: Cluster, tmp_path: Path) -> None:
    """The coordinator decides where the next task goes; the works that it names say so."""
    await edge.start()
    chain = Chain(edge, tmp_path, await source(edge, "a", b"0"), 2)
    number, said = edge.agent.speaker.work(chain.steps[0])
    edge.agent.order([*said, Orders(number, (Order(chain.tasks[0], 2, chain.steps[0].order.inputs),))])
    await edge.agent.hear("finished")
    assert [result.followed for result in edge.agent.results] == [False]


async def test_a_run_that_is_held_is_not_gone_on_with_until_it_is_let_go(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    unit = await source(edge, "a", b"0")
    chain = Chain(edge, tmp_path, unit, 3)
    edge.agent.order([Hold(NAMESPACE, "run1", True)])
    chain.begin(edge)
    await edge.agent.result(chain.key(0))
    assert not edge.agent.results[0].followed
    edge.agent.order([Hold(NAMESPACE, "run1", False)])
    other = Chain(edge, tmp_path, await source(edge, "b", b"5"), 3)
    other.begin(edge)
    await edge.agent.result(other.key(2))
    assert [result.followed for result in edge.agent.results] == [False, True, True, False]


@pytest.mark.parametrize("resources", [{"cpus": 4}, {"cpus": 1, "memory": 4 << 30}])
async def test_a_step_that_the_node_is_too_small_for_is_left_to_a_larger_one(
    edge: Cluster, tmp_path: Path, resources: dict[str, int]
) -> None:
    """It has 2 processors and 2 GiB; the coordinator knows which nodes have more."""
    await edge.start()
    chain = Chain(edge, tmp_path, await source(edge, "a", b"0"), 3)
    chain.steps[2].start.resources.CopyFrom(model_pb2.Resources(**resources))
    chain.begin(edge)
    await edge.agent.result(chain.key(1))
    (edge.data_root / "one").write_bytes(b"0")
    number, said = edge.agent.speaker.work(chain.steps[2])
    edge.agent.order(said)
    where = {"namespace": NAMESPACE, "run": "run1", "step": "inputs.x", "index": 7}
    edge.agent.say(open=node_pb2.OpenSource(**where, path="one", follow=number))
    assert not (await edge.agent.hear("source", lambda told: told.index == 7)).followed
    assert [result.followed for result in edge.agent.results] == [True, False]


async def test_a_part_of_data_is_gone_on_with_if_it_is_one_unit_and_the_run_is_not_held(
    edge: Cluster, tmp_path: Path
) -> None:
    node = await edge.start()
    for name in ("one", "many/a", "many/b", "held"):
        (edge.data_root / name).parent.mkdir(exist_ok=True)
        (edge.data_root / name).write_bytes(b"0")
    step = order(
        "s0", python("steps:add_one", bundle(edge, tmp_path)), inputs=[given("unit", kind="")], outputs=["unit"]
    )
    number, said = edge.agent.speaker.work(step)
    edge.agent.order(said)
    followed = []
    for index, path in enumerate(("one", "many", "held")):
        edge.agent.order([Hold(NAMESPACE, "run1", path == "held")])
        where = {"namespace": NAMESPACE, "run": "run1", "step": "inputs.x", "index": index}
        edge.agent.say(open=node_pb2.OpenSource(**where, path=path, follow=number))
        opened = await edge.agent.hear("source", lambda told, index=index: told.index == index)
        followed.append((opened.asked, opened.followed))
    assert followed == [(True, True), (True, False), (True, False)]
    task = task_id(
        NAMESPACE, "run1", "s0", [("unit", [unit_id(source_task_id(NAMESPACE, "run1", "inputs.x", 0), "out", 0)])]
    )
    result = await edge.agent.result(node_pb2.TaskKey(namespace=NAMESPACE, run="run1", task=task, attempt=1))
    assert content(node, result.outputs[0].unit) == b"1"
    assert len(edge.agent.results) == 1


async def test_it_goes_on_while_the_agent_is_away_and_tells_all_when_it_is_back(edge: Cluster, tmp_path: Path) -> None:
    await edge.start()
    gate = tmp_path / "gate"
    unit = await source(edge, "a", b"7")
    chain = Chain(edge, tmp_path, unit, 4, waits_at="7", gate=str(gate))
    chain.begin(edge)
    await edge.agent.hear("started")
    edge.agent.acknowledges = False
    edge.agent.hang_up()
    gate.touch()
    await edge.agent.hear("hello", after=1)
    await wait_until(lambda: {result.task for result in edge.agent.results} == set(chain.tasks))


async def test_a_daemon_that_is_started_again_tells_what_was_not_heard_and_holds_its_units(
    edge: Cluster, tmp_path: Path
) -> None:
    node = await edge.start()
    edge.agent.acknowledges = False
    chain = Chain(edge, tmp_path, await source(edge, "a", b"0"), 5)
    chain.begin(edge)
    await edge.agent.result(chain.key(4))
    told = {result.task: result for result in edge.agent.results}
    await node.end()
    edge.agent.results.clear()
    again = await edge.start()
    hello = edge.agent.all("hello")[-1]
    assert {result.task: result for result in edge.agent.results} == told
    assert {key.task for key in hello.running} == set(chain.tasks)
    assert {result.outputs[0].unit.id for result in told.values()} <= {key.unit for key in hello.units}
    last = told[chain.tasks[4]].outputs[0].unit
    assert content(again, last) == b"5"
    edge.agent.order(words.acks(hello.running))
    edge.agent.hang_up()
    assert not (await edge.agent.hear("hello", after=2)).running
