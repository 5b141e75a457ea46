"""A link that nothing can cross is told when the topology is applied, and one that a relay serves is not."""

from __future__ import annotations

import pytest

from topology.checks import check_topology, topology_warnings
from topology.model import Topology

RELAYED = {"name": "r1", "address": "relay.example.org:7447"}


def topology(dial: str, *relays: dict[str, object]) -> Topology:
    spec = {
        "zones": [{"name": "here", "tier": "edge"}, {"name": "there", "tier": "cloud"}],
        "clusters": [
            {"name": "one", "zone": "here", "nodes": [{"name": "n1"}]},
            {"name": "other", "zone": "there", "nodes": [{"name": "n1"}]},
        ],
        "links": [{"between": ["here", "there"], "bandwidth": "10Mbit", "dial": dial}],
        "relays": list(relays),
    }
    return Topology.model_validate({"metadata": {"name": "t"}, "spec": spec})


@pytest.mark.parametrize("relays", [[], [{**RELAYED, "zones": ["here"]}]])
def test_a_link_that_nothing_can_cross_is_told(relays: list[dict[str, object]]) -> None:
    told = topology("none", *relays)
    assert check_topology(told) == []
    (warning,) = topology_warnings(told)
    assert (warning.field, warning.severity) == ("spec.links[0].dial", "warning")
    assert "neither here nor there opens connections, and no relay serves both" in warning.message
    assert "relays" in warning.remedy


@pytest.mark.parametrize("relays", [[RELAYED], [{**RELAYED, "zones": ["there", "here"]}]])
def test_one_that_a_relay_serves_is_not(relays: list[dict[str, object]]) -> None:
    assert topology_warnings(topology("none", *relays)) == []


def test_nor_one_that_somebody_can_dial() -> None:
    assert topology_warnings(topology("here")) == []
