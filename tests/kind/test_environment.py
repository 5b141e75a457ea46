"""What a topology becomes on kind, and how the network between clusters is disturbed: before anything is made."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from bdw_fed.embedded.topologies import check
from bdw_fed.kind.environment import (
    Environment,
    agent_place,
    as_made,
    environment_of,
    fitted,
    kind_config,
)
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.network import drop_script, limit_script, rates_of
from bdw_fed.kind.preparing import DEFAULT

TOPOLOGY = """\
kind: Topology
metadata: {name: t}
spec:
  zones: [{name: a, tier: edge}, {name: c, tier: cloud}]
  clusters:
    - name: edge
      zone: a
      nodes: [{name: n1, cpus: 4, memory: 4Gi, labels: {disk: ssd}}, {name: n2, cpus: 2, memory: 8Gi}]
    - {name: centre, zone: c, runtime: kubernetes}
  links: [{between: [a, c], bandwidth: 100Mbit, dial: a}]
  datasets: [{name: d, parts: [{at: edge, path: x/d.csv}]}]
"""


@pytest.fixture
def environment() -> Environment:
    return environment_of(check(TOPOLOGY, "t.yaml")[0])


def test_the_built_in_topology_has_two_edges_with_the_data_of_the_airports_and_the_hub_in_the_cloud() -> None:
    built_in = environment_of(check(DEFAULT.read_text(), str(DEFAULT))[0])
    assert [member.name for member in built_in.members] == ["edge1", "edge2", "cloud1"]
    assert built_in.hub == "cloud1"
    flights = {
        name: {file.split("/")[2] for file in built_in.member(name).files if file.startswith("flights/")}
        for name in ("edge1", "edge2")
    }
    assert flights == {"edge1": {"edge-ewr"}, "edge2": {"edge-jfk", "edge-lga"}}
    for name in ("edge1", "edge2"):
        units = [file for file in built_in.member(name).files if file.startswith(f"thesis-chain/data/{name}/")]
        assert len(units) == 2
    assert not built_in.member("cloud1").files
    assert all(member.workers == 1 for member in built_in.members)


def test_workers_are_pods_where_the_topology_says_kubernetes_as_the_built_in_one_does(environment: Environment) -> None:
    built_in = environment_of(check(DEFAULT.read_text(), str(DEFAULT))[0])
    assert all(agent_place(built_in, member, "i:1").pods for member in built_in.members)
    assert agent_place(environment, environment.member("centre"), "i:1").pods
    assert not agent_place(environment, environment.member("edge"), "i:1").pods


def test_the_relay_is_beside_the_hub_at_an_address_that_all_clusters_know() -> None:
    text = TOPOLOGY.replace("dial: a}", "dial: none}") + '  relays: [{name: r1, address: "r1.example.org:7447"}]\n'
    environment = environment_of(check(text, "t.yaml")[0])
    assert environment.relay == "r1"
    (relay,) = yaml.safe_load(as_made(text, environment))["spec"]["relays"]
    assert relay == {"name": "r1", "address": "centre-control-plane:30447"}
    more = text.replace("relays: [", 'relays: [{name: r0, address: "r0:1"}, ')
    with pytest.raises(KindError, match="one relay, beside the hub, and these are r0, r1"):
        environment_of(check(more, "t.yaml")[0])


def test_every_declared_node_is_a_worker_and_a_cluster_without_nodes_gets_one(environment: Environment) -> None:
    assert environment.member("edge").nodes == ("edge-worker", "edge-worker2")
    assert environment.member("centre").nodes == ("centre-worker",)


def test_a_cluster_that_only_dials_has_no_door_open(environment: Environment) -> None:
    edge = agent_place(environment, environment.member("edge"), "i:1")
    centre = agent_place(environment, environment.member("centre"), "i:1")
    assert edge.advertise_peers == ""
    assert centre.advertise_peers == "centre-control-plane:30445"
    assert edge.hub == centre.hub == "centre-control-plane:30443"


def test_nodes_of_one_cluster_all_get_what_the_smallest_has(environment: Environment) -> None:
    place = agent_place(environment, environment.member("edge"), "i:1")
    assert (place.cpus, place.memory) == (2.0, 4 << 30)


def test_the_applied_topology_is_the_author_s_with_the_nodes_that_there_are(environment: Environment) -> None:
    (made,) = check(as_made(TOPOLOGY, environment), "made.yaml")
    edge, centre = made.spec.clusters
    assert [(node.name, node.cpus, dict(node.labels)) for node in edge.nodes] == [
        ("edge-worker", 2.0, {"disk": "ssd"}),
        ("edge-worker2", 2.0, {}),
    ]
    assert [node.name for node in centre.nodes] == ["centre-worker"]
    assert edge.runtime.kind == "process"
    assert centre.runtime.kubernetes
    assert (centre.runtime.kubernetes.context, centre.runtime.kubernetes.namespace) == ("kind-centre", "bdw-fed")
    (original,) = check(TOPOLOGY, "t.yaml")
    assert made.spec.links == original.spec.links
    assert made.spec.datasets == original.spec.datasets


CPUS = 16  # more than enough


def test_with_less_memory_there_are_fewer_workers_and_at_last_none(environment: Environment) -> None:
    assert fitted(environment, environment.bytes_needed, CPUS) == environment
    one_less = fitted(environment, environment.bytes_needed - 1, CPUS)
    assert one_less
    assert [member.workers for member in one_less.members] == [1, 1]
    none = fitted(environment, one_less.bytes_needed - 1, CPUS)
    assert none
    assert [member.nodes for member in none.members] == [("edge-control-plane",), ("centre-control-plane",)]
    assert fitted(environment, none.bytes_needed - 1, CPUS) is None


@pytest.mark.parametrize("cpus", [1, 2, 4, 16])
def test_as_many_workers_fit_onto_a_node_as_it_is_declared_to_take_whatever_the_machine_has(
    cpus: int, environment: Environment
) -> None:
    made = fitted(environment, environment.bytes_needed, cpus)
    assert made
    for member in made.members:
        place = agent_place(made, member, "i:1")
        assert place.cpus == environment.member(member.name).cpus
        assert place.cpus * place.cpu_requests <= max(cpus - 0.75, 0.25)
        assert place.cpu_requests == 1.0 or cpus - 0.75 < place.cpus


def test_only_the_hub_is_reachable_from_this_machine_and_only_by_its_loopback(environment: Environment) -> None:
    member = dataclasses.replace(environment.member("edge"), workers=3)
    content = kind_config(member, 17_500)
    assert [node["role"] for node in content["nodes"]] == ["control-plane", *["worker"] * 3]
    (mapping,) = content["nodes"][0]["extraPortMappings"]
    assert mapping == {"containerPort": 30443, "hostPort": 17_500, "listenAddress": "127.0.0.1"}
    assert "extraPortMappings" not in yaml.safe_dump(kind_config(member, None))


def test_a_cut_names_every_node_of_the_other_cluster_and_may_be_made_twice() -> None:
    script = drop_script("edge2", ["10.0.0.1", "10.0.0.2"])
    for address in ("10.0.0.1", "10.0.0.2"):
        (line,) = [line for line in script.splitlines() if f"-s {address} " in line]
        assert line.startswith("iptables -w -t raw -C")
        assert "|| iptables -w -t raw -I" in line


def test_a_limit_holds_towards_that_cluster_alone() -> None:
    links = {"a b": 6_250_000.0, "b c": 1e6}
    assert rates_of("a", links) == {"b": 6_250_000.0}
    assert rates_of("b", links) == {"a": 6_250_000.0, "c": 1e6}
    script = limit_script(rates_of("a", links), {"b": ["10.0.0.1"]})
    assert "classid 1:2 htb rate 50000000bit" in script
    assert "match ip dst 10.0.0.1/32 flowid 1:2" in script
    assert "htb default 1\n" in script


def test_without_limits_the_device_is_as_it_was() -> None:
    assert "add" not in limit_script({}, {})
