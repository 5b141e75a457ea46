"""The flights example is planned as its page says: single flights stay at the airports, only sums cross."""

from __future__ import annotations

import pytest

from bdw_fed.v1 import model_pb2 as m
from control_plane.planner.base import Measured
from control_plane.planner.core import Planned, plan
from tests.planner.conftest import Case

EDGES = {"edge-ewr", "edge-jfk", "edge-lga"}


@pytest.fixture
def planned(flights: Case) -> Planned:
    return plan(flights.request())


def step(planned: Planned, name: str) -> m.Step:
    return next(step for step in planned.steps if step.name == name)


def test_the_graph_has_sources_splits_and_outputs_as_steps_in_topological_order(planned: Planned) -> None:
    names = [each.name for each in planned.steps]
    assert set(names) == {
        "inputs.flights",
        "inputs.weather",
        "clean.rows.split",
        "clean",
        "join",
        "aggregate",
        "merge",
        "report",
        "outputs.report",
        "outputs.chart",
    }
    for each in planned.steps:
        for port in each.inputs:
            assert names.index(port.from_step) < names.index(each.name)
    assert step(planned, "clean.rows.split").execution.split.split == m.Split(size=1 << 20, header=True)
    assert step(planned, "outputs.report").execution.output.file == "report.csv"
    assert step(planned, "aggregate").parameters_json == '{"late_minutes": 15}'
    assert step(planned, "clean").execution.bundle == b"\1" * 32
    assert [step(planned, name).inputs[0].format for name in ("clean.rows.split", "outputs.chart")] == ["csv", "svg"]


def test_what_pairs_by_cluster_or_is_to_stay_is_pinned_with_all_that_leads_to_it(planned: Planned) -> None:
    pinned = {each.name for each in planned.steps if each.pinned}
    built_in = {each.name for each in planned.steps if not each.definition}
    assert pinned - built_in == {"clean", "join", "aggregate"}
    assert built_in <= pinned


def test_edge_steps_stay_at_the_edges_with_a_reason_and_shares_as_the_data(planned: Planned) -> None:
    plans = {each.step: each for each in planned.plan.steps}
    for name in ("clean", "join", "aggregate"):
        assert [(list(verdict.clusters), verdict.filter) for verdict in plans[name].filtered] == [(["cloud"], "tier")]
        assert plans[name].filtered[0].reason == "is of tier cloud, not edge"
        assert {share.cluster for share in plans[name].shares} == EDGES
    shares = {share.cluster: share.share for share in plans["clean"].shares}
    assert shares["edge-ewr"] == pytest.approx(10 / 27)
    assert plans["clean"].counter == "edge-ewr"
    assert step(planned, "clean").successor == "edge-jfk"


def test_what_gathers_runs_on_one_cluster_that_counts_it(planned: Planned) -> None:
    merge = step(planned, "merge")
    assert [(share.cluster, share.share) for share in merge.executors] == [("cloud", 1.0)]
    assert (merge.counter, merge.successor) == ("cloud", "")
    assert step(planned, "outputs.report").executors == merge.executors


def test_every_cluster_gets_the_whole_graph_and_its_own_sources(planned: Planned) -> None:
    assert set(planned.fragments) == {*EDGES, "cloud"}
    for cluster, fragment in planned.fragments.items():
        assert list(fragment.steps) == planned.steps
        assert fragment.epochs == dict.fromkeys([*EDGES, "cloud"], 5)
        assert (fragment.cluster, fragment.epoch, fragment.durability) == (cluster, 5, "process")
        assert fragment.policy.lost_after == 300
    assert not planned.fragments["cloud"].sources
    assert [(part.step, part.index, part.path) for part in planned.fragments["edge-jfk"].sources] == [
        ("inputs.flights", 1, "data/edge-jfk/flights.csv"),
        ("inputs.weather", 1, "data/edge-jfk/weather.csv"),
    ]


def test_without_measurements_what_moves_is_an_upper_bound_and_says_so(planned: Planned) -> None:
    moved = list(planned.plan.transfers)
    assert {transfer.edge for transfer in moved} == {"merge.parts"}
    assert all(transfer.upper_bound for transfer in moved)
    assert any("upper bounds" in warning for warning in planned.plan.warnings)
    raw = planned.plan.alternatives[0]
    assert raw.name == "ship all raw data to cloud"
    assert raw.bytes == 28_500_000
    assert raw.cost == pytest.approx(28_500_000 * 0.09 / 1e9)
    assert raw.seconds == pytest.approx(0.02 + 10_500_000 / 12.5e6)
    assert sum(transfer.bytes for transfer in moved) == 27_000_000 < raw.bytes


def test_with_measurements_the_bytes_saved_show(flights: Case) -> None:
    measured = {
        "clean-flights@1": Measured(0.9, 0.5),
        "join-weather@1": Measured(1.2, 0.5),
        "sum-delays@1": Measured(0.001, 0.1),
    }
    planned = plan(flights.request(measured=measured))
    moved = sum(transfer.bytes for transfer in planned.plan.transfers)
    assert moved == pytest.approx(27_000_000 * 0.9 * 1.2 * 0.001)
    assert moved < planned.plan.alternatives[0].bytes / 500
    assert not any(transfer.upper_bound for transfer in planned.plan.transfers)
    assert planned.plan.expected_seconds > 1.0


def test_a_cluster_with_data_that_is_away_is_waited_for_with_a_warning(flights: Case) -> None:
    planned = plan(flights.request({"edge-lga": "unknown"}))
    assert "edge-lga" in planned.fragments
    assert any(warning.startswith("edge-lga is unknown: ") for warning in planned.plan.warnings)


def test_the_same_request_gives_the_same_plan(flights: Case, planned: Planned) -> None:
    again = plan(flights.request())
    assert again.plan == planned.plan
    assert again.fragments == planned.fragments
