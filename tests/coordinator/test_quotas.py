"""What a quota holds back, what it must not, and when clusters know together that nothing can move any more."""

from __future__ import annotations

from random import Random

from bdw_fed.v1 import model_pb2, peer_pb2
from cluster_agent.coordinator import messages
from cluster_agent.coordinator.book import Policy
from tests.coordinator.desk import RUN, Desk, outputs, unit_ids
from tests.coordinator.federation import Faults, Federation, made
from tests.coordinator.test_crossing import offer, word
from tests.coordinator.workflows import EACH, GATHER, Use, output, source, split
from tests.fixtures import words

PART = 100
PATIENT = Policy(stuck_after=1e9)
HASTY = Policy(stuck_after=2.0)


def federation(clusters: dict[str, dict[str, float]], quota: int, policy: Policy = PATIENT) -> Federation:
    found = Federation(Random(1), clusters, Faults(), policy=policy)
    found.run_policy = model_pb2.Policy(quota=quota)
    found.size = PART
    for agent in found.agents.values():
        for node in agent.nodes.values():
            node.cuts = True
    found.introduce()
    return found


def submit(federation: Federation, parts: int, keepers: list[str], cpus: float = 1.0, *, gather: bool = False) -> None:
    """A file on edge1 is split, and each part is kept as it is, by whichever of the clusters; or all are gathered."""
    data = source("data", ["edge1"])
    cut = split(data)
    keep = Use("keep", keepers, {"rows": (f"{cut.name}.out", EACH)}, cpus=cpus)
    steps = [data, cut, keep]
    if gather:
        steps.append(Use("report", ["edge1"], {"parts": ("keep.out", GATHER)}, cpus=cpus))
    federation.units_in = {cut.name: parts}
    federation.submit([*steps, output(steps[-1])], {data.name: {"edge1": 1}})


def most_stored(federation: Federation) -> int:
    """To the end; the most that was counted on any cluster."""
    most = 0

    def look() -> bool:
        nonlocal most
        lives = [agent.core._book.lives.get(RUN) for agent in federation.agents.values()]
        most = max(most, *(live.stored for live in lives if live is not None), 0)
        return False

    federation.run(until=look, most=100_000)
    return most


def test_a_split_that_waits_leaves_the_whole_node_to_those_that_read_its_parts() -> None:
    made = federation({"edge1": {"n1": 1.0}}, 1_000)
    submit(made, 8, ["edge1"], cpus=1.0, gather=True)
    made.run(most=100_000)
    made.check_succeeded()


def test_results_that_are_kept_take_of_the_quota_though_their_inputs_go() -> None:
    """A split fills its window again, so what its parts give back is not there for their readers."""
    made = federation({"edge1": {"n1": 2.0}}, 500, HASTY)
    submit(made, 40, ["edge1"])
    assert most_stored(made) <= 500 + 2 * PART
    made.check_failed()
    assert "policy.quota of its workflow" in made.failures[0].message


def test_what_one_cluster_has_no_room_for_is_done_on_another_that_has() -> None:
    made = federation({"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}}, 1_000, HASTY)
    submit(made, 14, ["edge1", "cloud"])
    assert most_stored(made) <= 1_000 + 2 * PART
    made.check_succeeded()


def test_clusters_that_are_all_at_their_quota_find_out_together_and_the_run_fails() -> None:
    made = federation({"edge1": {"n1": 2.0}, "cloud": {"n1": 2.0}}, 500, HASTY)
    submit(made, 40, ["edge1", "cloud"])
    assert most_stored(made) <= 500 + 2 * PART
    made.check_failed()
    assert "policy.quota of its workflow" in made.failures[0].message


def test_a_part_that_was_read_while_its_node_was_away_is_freed_though_its_split_goes_on() -> None:
    data = source("data", ["edge1"])
    cut = split(data)
    keep = Use("keep", ["edge1"], {"rows": (f"{cut.name}.out", EACH)})
    desk = Desk([data, cut, keep, output(keep)], {data.name: {"edge1": 1}}, run_policy=model_pb2.Policy(quota=10_000))
    (splitting,) = desk.read(data.name).starts
    part = made(splitting.key.task, "out", 0, PART)
    said = desk.do(messages.NodeSaid("n1", words.produced(RUN, splitting.key.task, 1, (part,))))
    (reading,) = said.starts
    desk.lose()
    desk.done(reading)
    here = [*unit_ids(splitting, "rows"), part.unit.id, outputs(reading)[0].unit.id]
    said = desk.join(running=[splitting], units=here)
    assert part.unit.id in said.freed()


def test_a_task_that_has_met_a_full_disk_is_not_taken_to_write_that_much_where_a_quota_is_in_question() -> None:
    data = source("data", ["edge1"])
    keep = Use("keep", ["edge1"], {"rows": (f"{data.name}.out", EACH)})
    quota = model_pb2.Policy(quota=10_000_000)
    desk = Desk([data, keep, output(keep)], {data.name: {"edge1": 1}}, run_policy=quota)
    desk.do(messages.DiskTold("n1", 1 << 40, 1 << 41))
    (task,) = desk.read(data.name).starts
    desk.failed(task, kind="full")
    (again,) = [start for _ in range(60) for start in desk.at(desk.now + 1.0).starts]
    assert again.key.task == task.key.task


def test_a_grant_that_answers_what_was_accepted_before_the_offer_was_withdrawn_and_made_again_counts() -> None:
    """Meanwhile there is no room for the unit: it waits for its answer, and must not do so for ever."""
    there = source("flights", ["cloud"])
    clean = Use("clean0", ["edge1"], {"rows": (f"{there.name}.out", EACH)})
    steps, parts = [there, clean, output(clean)], {there.name: {"cloud": 3}}
    desk = Desk(steps, parts, clusters=["edge1", "cloud"], run_policy=model_pb2.Policy(quota=2_200))
    first, second, third = (offer(desk, index=index) for index in range(3))
    assert len(desk.peer("cloud", offer=first).to_peers("accept")) == 1
    desk.peer("cloud", withdraw=peer_pb2.Withdraw(**word(first)))  # type: ignore[arg-type]
    assert len(desk.peer("cloud", offer=second).to_peers("accept")) == 1
    assert desk.peer("cloud", offer=third).to_peers("accept") == []
    assert desk.peer("cloud", offer=first).to_peers("accept") == []
    said = desk.peer("cloud", grant=peer_pb2.Grant(**word(first)))  # type: ignore[arg-type]
    assert len(said.to_nodes("fetch")) == 1
    desk.fetched(first.unit.id)
    (task,) = desk.peer("cloud", withdraw=peer_pb2.Withdraw(**word(second))).starts  # type: ignore[arg-type]
    said = desk.done(task, size=10)
    assert len(said.to_peers("released")) == 1
    assert [message.accept.unit for _, message in said.to_peers("accept")] == [third.unit.id]
