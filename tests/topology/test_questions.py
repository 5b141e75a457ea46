"""What the planner and the coordinators are told about a topology."""

from __future__ import annotations

from math import inf

import pytest

from topology.model import Topology
from topology.questions import ZONE_BANDWIDTH, ZONE_LATENCY, Questions


@pytest.fixture
def nyc() -> Questions:
    return Questions(
        Topology.model_validate(
            {
                "metadata": {"name": "nyc"},
                "spec": {
                    "zones": [
                        {"name": "jfk", "tier": "edge"},
                        {"name": "lga", "tier": "edge"},
                        {"name": "hall", "tier": "fog"},
                        {"name": "cloud", "tier": "cloud"},
                    ],
                    "clusters": [
                        {"name": "jfk-1", "zone": "jfk"},
                        {"name": "jfk-2", "zone": "jfk"},
                        {"name": "lga-1", "zone": "lga"},
                        {"name": "hall-1", "zone": "hall"},
                        {"name": "cloud", "zone": "cloud"},
                    ],
                    "links": [
                        {
                            "between": ["jfk", "cloud"],
                            "bandwidth": "100Mbit",
                            "latency": "20ms",
                            "cost_per_gb": 0.09,
                            "dial": "jfk",
                        },
                        {"between": ["lga", "cloud"], "bandwidth": "8bit", "dial": "none", "distance": 0.5},
                        {"between": ["jfk", "hall"], "bandwidth": "1Gbit"},
                    ],
                    "datasets": [
                        {"name": "flights", "parts": [{"at": "jfk-1", "path": "f"}, {"at": "lga-1", "path": "f"}]},
                        {"name": "airlines", "replicas": [{"at": "jfk-1", "path": "a"}, {"at": "cloud", "path": "a"}]},
                    ],
                },
            }
        )
    )


def test_the_side_that_the_link_names_dials_and_the_other_does_not(nyc: Questions) -> None:
    assert nyc.can_dial("jfk-1", "cloud")
    assert not nyc.can_dial("cloud", "jfk-1")
    assert nyc.can_dial("jfk-1", "hall-1") and nyc.can_dial("hall-1", "jfk-1")


def test_clusters_of_one_zone_can_dial_each_other(nyc: Questions) -> None:
    assert nyc.same_zone("jfk-1", "jfk-2")
    assert nyc.can_dial("jfk-1", "jfk-2") and nyc.can_dial("jfk-1", "jfk-1")


def test_where_neither_side_dials_data_gets_through_by_a_relay(nyc: Questions) -> None:
    assert nyc.reachable("lga-1", "cloud")
    assert not nyc.can_dial("lga-1", "cloud") and not nyc.can_dial("cloud", "lga-1")
    assert nyc.needs_relay("lga-1", "cloud")
    assert not nyc.needs_relay("jfk-1", "cloud") and not nyc.needs_relay("jfk-1", "lga-1")


def test_a_relay_connects_those_that_cannot_dial_each_other_where_both_can_dial_it(nyc: Questions) -> None:
    assert nyc.relays("lga-1", "cloud") == ()
    assert not nyc.connectable("lga-1", "cloud") and nyc.connectable("jfk-1", "cloud")
    relays = [
        {"name": "in-lga", "address": "lga:7447", "zones": ["lga", "hall"]},
        {"name": "r1", "address": "r1:7447", "zones": ["lga", "cloud"]},
        {"name": "r2", "address": "r2:7447"},
    ]
    spec = nyc.topology.spec.model_dump(by_alias=True, exclude_unset=True)
    with_relays = Questions(Topology.model_validate({"metadata": {"name": "nyc"}, "spec": {**spec, "relays": relays}}))
    assert [relay.name for relay in with_relays.relays("lga-1", "cloud")] == ["r1", "r2"], "in the order of the file"
    assert with_relays.relays("cloud", "lga-1") == with_relays.relays("lga-1", "cloud")
    assert with_relays.connectable("lga-1", "cloud")
    assert with_relays.relays("jfk-1", "cloud") == (), "who can be dialled needs none"
    assert not with_relays.connectable("jfk-1", "lga-1"), "a relay is no link"


def test_zones_without_a_link_cannot_reach_each_other_by_no_way_round(nyc: Questions) -> None:
    assert nyc.link("jfk-1", "lga-1") is None
    assert not nyc.reachable("jfk-1", "lga-1") and not nyc.can_dial("jfk-1", "lga-1")
    assert nyc.distance("jfk-1", "lga-1") == inf
    assert nyc.transfer_seconds("jfk-1", "lga-1", 1) == inf
    assert nyc.transfer_cost("jfk-1", "lga-1", 1) == inf


def test_distance_is_declared_or_else_the_latency_in_milliseconds(nyc: Questions) -> None:
    assert nyc.distance("jfk-1", "cloud") == pytest.approx(20.0)
    assert nyc.distance("lga-1", "cloud") == 0.5
    assert nyc.distance("jfk-1", "hall-1") == 1.0
    assert nyc.distance("jfk-1", "jfk-2") == 0.0


def test_a_transfer_takes_latency_and_bytes_over_bandwidth(nyc: Questions) -> None:
    assert nyc.transfer_seconds("cloud", "jfk-1", 12.5e6) == pytest.approx(1.02)
    assert nyc.transfer_seconds("jfk-1", "jfk-2", ZONE_BANDWIDTH) == pytest.approx(1 + ZONE_LATENCY)
    assert nyc.transfer_seconds("cloud", "cloud", 1e12) == 0.0


def test_only_what_crosses_a_link_costs(nyc: Questions) -> None:
    assert nyc.transfer_cost("jfk-1", "cloud", 2e9) == pytest.approx(0.18)
    assert nyc.transfer_cost("jfk-1", "jfk-2", 2e9) == 0.0


def test_tiers_are_those_of_the_zones(nyc: Questions) -> None:
    assert nyc.clusters_of_tier("edge") == ("jfk-1", "jfk-2", "lga-1")
    assert nyc.clusters_of_tier("fog") == ("hall-1",)
    assert nyc.tier("cloud") == "cloud"


def test_each_part_is_one_place_and_replicas_are_one_part_in_many_places(nyc: Questions) -> None:
    assert [[part.at for part in places] for places in nyc.dataset_parts("flights")] == [["jfk-1"], ["lga-1"]]
    assert [[part.at for part in places] for places in nyc.dataset_parts("airlines")] == [["jfk-1", "cloud"]]
    assert nyc.dataset_clusters("airlines") == {"jfk-1", "cloud"}


def test_a_name_that_is_not_there_is_an_error(nyc: Questions) -> None:
    with pytest.raises(KeyError):
        nyc.distance("jfk-1", "nowhere")
