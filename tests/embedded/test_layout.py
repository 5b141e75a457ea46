"""What a topology becomes on this machine: processes, ports, certificates, sizes of its data."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from bdw_fed.embedded import certificates, linux
from bdw_fed.embedded.datasets import with_sizes
from bdw_fed.embedded.errors import EmbeddedError
from bdw_fed.embedded.layout import Layout, NodeShape, lay_out, ports_of
from bdw_fed.embedded.ports import choose_ports, is_free
from bdw_fed.embedded.topologies import choose
from wire.errors import ProblemError
from wire.identity import Credentials, Identity


def a_layout(state: Path, kept: dict[str, int] | None = None) -> Layout:
    return lay_out(
        state,
        clusters=["edge", "cloud"],
        nodes=[NodeShape("edge", "n1", 2, 1 << 30, 0), NodeShape("edge", "n2", 2, 1 << 30, 0)],
        data_root=state,
        durability="process",
        topology="digest",
        heartbeat=1.0,
        stop_seconds=8.0,
        kept_ports=kept or {},
    )


def test_every_process_has_a_place_and_ports_of_its_own(tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    assert [process.name for process in layout.processes] == [
        "etcd",
        "hub",
        "agent-edge",
        "agent-cloud",
        "node-edge.n1",
        "node-edge.n2",
    ]
    ports = ports_of(layout)
    assert sorted(ports) == sorted(
        [
            "etcd.clients",
            "hub.api",
            "hub.join",
            "agent-edge.nodes",
            "agent-edge.peers",
            "agent-cloud.nodes",
            "agent-cloud.peers",
            "node-edge.n1.data",
            "node-edge.n2.data",
        ]
    )
    assert len(set(ports.values())) == len(ports)
    assert len({process.state for process in layout.processes}) == len(layout.processes)
    assert Layout.from_json(layout.to_json()) == layout
    assert ports_of(a_layout(tmp_path, ports)) == ports


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = choose_ports([str(number) for number in range(50)], {})
    assert all(is_free(port) for port in ports.values())
    assert max(ports.values()) < max(outgoing, 32_000)


def test_each_certificate_says_who_it_is_for_and_etcd_trusts_the_hub_alone(tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    certificates.issue_all(layout)

    def loaded(name: str) -> x509.Certificate:
        credentials = Credentials.load(tmp_path / "credentials" / name)
        return x509.load_pem_x509_certificate(credentials.certificate.read_bytes())

    def identity(name: str) -> Identity:
        names = loaded(name).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return Identity.parse(names.get_values_for_type(x509.UniformResourceIdentifier)[0])

    assert str(identity("hub")) == "hub hub"
    assert str(identity("agent-edge")) == "agent edge"
    assert str(identity("node-edge.n2")) == "node edge/n2"
    assert str(identity("user-local")) == "user local"
    by_issuer: dict[bytes, set[str]] = {}
    for folder in (tmp_path / "credentials").iterdir():
        authority = Credentials.load(folder).ca.read_bytes()
        by_issuer.setdefault(authority, set()).add(folder.name)
    assert {"etcd", "etcd-client"} in by_issuer.values()
    before = loaded("hub")
    certificates.issue_all(layout)
    assert loaded("hub") == before
    assert before.not_valid_after_utc > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=60)


def test_the_hub_keeps_every_certificate_whose_holder_does_not_ask_for_the_next(tmp_path: Path) -> None:
    layout = a_layout(tmp_path)
    certificates.issue_all(layout)
    ask = {process.name for process in layout.processes if process.role != "etcd"}
    kept = {each.directory.name for each in certificates.kept_by_hub(layout)}
    assert kept == {folder.name for folder in (tmp_path / "credentials").iterdir()} - ask


TOPOLOGY = """\
kind: Topology
metadata: {name: here}
spec:
  zones: [{name: z, tier: edge}]
  clusters: [{name: c, zone: z, nodes: [{name: n1, cpus: 2, memory: 1Gi}]}]
  datasets:
    - {name: d, parts: [{at: c, path: a.csv}, {at: c, path: b.csv, size: 5}, {at: c, path: gone.csv}]}
    - {name: e, replicas: [{at: c, path: folder}]}
"""


def test_sizes_are_measured_where_they_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x" * 1234)
    (tmp_path / "b.csv").write_bytes(b"x" * 99)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "c").write_bytes(b"x" * 7)
    datasets = yaml.safe_load(with_sizes(TOPOLOGY, tmp_path))["spec"]["datasets"]
    assert [part.get("size") for part in datasets[0]["parts"]] == [1234, 5, None]
    assert datasets[1]["replicas"][0]["size"] == 7
    assert with_sizes("kind: Workflow\nspec: [", tmp_path) == "kind: Workflow\nspec: ["
    assert with_sizes(TOPOLOGY, tmp_path / "elsewhere") == TOPOLOGY


def test_adding_sizes_leaves_every_line_where_it_was(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text("five!")
    text = """\
spec:
  # where it lies
  datasets:
  - name: d
    parts:
    - at: x
      path: a   # the first

    - path: b
      # and the second
      at: "\N{LATIN SMALL LETTER U WITH DIAERESIS}"
    - {at: z,
       path: c}
  - {name: e, replicas: [{at: x, path: a}, {at: y, path: gone}]}
  links: []"""
    sized = with_sizes(text, tmp_path)
    wanted = yaml.safe_load(text)
    for part in (*wanted["spec"]["datasets"][0]["parts"], wanted["spec"]["datasets"][1]["replicas"][0]):
        part["size"] = 5
    assert yaml.safe_load(sized) == wanted
    before, after = text.splitlines(), sized.splitlines()
    assert len(before) == len(after)
    assert [line for line, other in zip(before, after, strict=True) if line == other and line.strip()] == [
        "spec:",
        "  # where it lies",
        "  datasets:",
        "  - name: d",
        "    parts:",
        "  links: []",
    ]
    shared = text.replace("- at: x", "- &p\n      at: x").replace("{at: y, path: gone}", "*p")
    assert yaml.safe_load(with_sizes(shared, tmp_path))["spec"]["datasets"][1]["replicas"][1]["size"] == 5


def test_a_topology_is_chosen_with_its_nodes_and_the_directory_of_its_data(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY)
    chosen = choose(file, None)
    assert (chosen.name, chosen.clusters, chosen.data_root) == ("here", ("c",), tmp_path)
    assert chosen.nodes == (NodeShape("c", "n1", 2.0, 1 << 30, 0),)
    default = choose(None, tmp_path)
    assert len(default.clusters) == 3
    assert default.data_root == tmp_path


def test_clusters_of_kubernetes_are_not_played_by_processes(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY.replace("zone: z,", "zone: z, runtime: kubernetes,"))
    with pytest.raises(EmbeddedError, match=r"spec\.clusters\[0\]\.runtime: cluster c .*kind up"):
        choose(file, None)


def test_a_wrong_topology_is_told_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(TOPOLOGY.replace("tier: edge", "tier: sky"))
    with pytest.raises(ProblemError) as caught:
        choose(file, None)
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [(str(file), 4)]
    with pytest.raises(EmbeddedError, match="expected a YAML file"):
        choose(tmp_path / "missing.yaml", None)
    file.write_text(f"{TOPOLOGY}---\n{TOPOLOGY}")
    with pytest.raises(EmbeddedError, match="expected one document of kind Topology, found 2"):
        choose(file, None)


def test_a_process_is_known_by_its_start_and_not_by_its_pid_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    started = linux.start_time(child.pid)
    assert started is not None
    assert linux.is_running(child.pid, started)
    assert not linux.is_running(child.pid, started - 1)
    assert not linux.send_signal(child.pid, started - 1, signal.SIGKILL)
    memory = linux.memory_of(child.pid)
    assert memory is not None
    assert memory.resident >= memory.proportional > 0
    assert not linux.wait_for_end(child.pid, started, 0.05)
    assert linux.send_signal(child.pid, started, signal.SIGKILL)
    assert linux.wait_for_end(child.pid, started, 10)
    child.wait()
    assert linux.memory_of(child.pid) is None
    assert linux.is_running(os.getpid(), linux.start_time(os.getpid()) or 0)
