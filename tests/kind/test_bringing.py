"""Making and deleting clusters with docker and kind played by scripts: what is there stays, what failed goes on.

The scripts keep the clusters as files in a directory, write down what they were asked, and fail where a file says so.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bdw_fed.kind.bringing import plan
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.preparing import DEFAULT, Wishes, prepare
from bdw_fed.kind.removing import down
from bdw_fed.kind.state import read_state
from bdw_fed.kind.steps import carry_out
from wire.errors import ProblemError

KIND = """#!/bin/sh
echo "kind $*" >> "$PLAYED/asked"
case "$1 $2" in
  "get clusters") ls "$PLAYED/clusters" ;;
  "create cluster") cat > /dev/null
    if [ -e "$PLAYED/fail-$4" ]; then echo "too many open files" >&2; exit 1; fi
    touch "$PLAYED/clusters/$4" ;;
  "delete cluster") rm -f "$PLAYED/clusters/$4" ;;
esac
"""
DOCKER = """#!/bin/sh
echo "docker $*" >> "$PLAYED/asked"
case "$1 $2" in
  "image inspect") echo sha256:0123456789abcdef ;;
  "exec "*) cat > /dev/null ;;
esac
"""


class Played:
    """The machine as the scripts have it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "clusters").mkdir(parents=True)
        (directory / "asked").touch()

    def has(self, *names: str) -> None:
        for name in names:
            (self.directory / "clusters" / name).touch()

    @property
    def clusters(self) -> set[str]:
        return {path.name for path in (self.directory / "clusters").iterdir()}

    def asked(self, words: str) -> list[str]:
        return [line for line in (self.directory / "asked").read_text().splitlines() if line.startswith(words)]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("kind", KIND), ("docker", DOCKER), ("kubectl", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    return Played(tmp_path / "played")


@pytest.fixture
def wishes(tmp_path: Path) -> Wishes:
    for airport in ("ewr", "jfk", "lga"):
        place = tmp_path / "data-root" / "flights" / "data" / f"edge-{airport}"
        place.mkdir(parents=True)
        for name in ("flights.csv", "weather.csv"):
            (place / name).write_text("a\n")
    for edge in ("edge1", "edge2"):
        place = tmp_path / "data-root" / "thesis-chain" / "data" / edge
        place.mkdir(parents=True)
        for number in range(2):
            (place / f"1MB-{number}.bin").write_bytes(b"x")
    return Wishes(topology=None, data=tmp_path / "data-root", node_image="node:1", image="ours:1")


def do_clusters(directory: Path, wishes: Wishes) -> None:
    """The steps until there are clusters with our image and their data on them."""
    steps = plan(prepare(directory, wishes), wishes)
    wanted = [step for step in steps if step.name.split()[0] in ("our", "cluster", "images", "data")]
    for _ in carry_out(wanted, at_once=1):
        pass


def test_each_cluster_is_made_once_however_often_it_is_asked_for(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    do_clusters(tmp_path / "state", wishes)
    assert played.clusters == {"edge1", "edge2", "cloud1"}
    do_clusters(tmp_path / "state", wishes)
    assert len(played.asked("kind create")) == 3
    assert all("--image node:1" in line for line in played.asked("kind create"))
    assert len(played.asked("kind load")) == 3


def test_images_that_steps_name_are_packed_once_and_loaded_onto_the_nodes_that_work_when_they_have_changed(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    wishes = replace(wishes, load=("mine:1",))
    archive = tmp_path / "state" / "images.tar"
    nodes = {f"{cluster} --nodes {cluster}-worker" for cluster in ("edge1", "edge2", "cloud1")}
    for identity in ("0123456789abcdef", "0123456789abcdef", "fedcba9876543210"):
        (tmp_path / "bin" / "docker").write_text(DOCKER.replace("0123456789abcdef", identity))
        do_clusters(tmp_path / "state", wishes)
    assert played.asked("docker save") == [
        f"docker save --output {archive} bdw-fed:{short} mine:1 python:3.11-slim"
        for short in ("0123456789ab", "fedcba987654")
    ]
    loads = played.asked("kind load image-archive")
    assert {line.split("--name ")[1] for line in loads[:3]} == {line.split("--name ")[1] for line in loads[3:]} == nodes


def test_an_image_that_is_not_on_this_machine_is_left_to_the_nodes(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    (tmp_path / "bin" / "docker").write_text(DOCKER.replace("echo sha", '[ "$5" != mine:1 ] && echo sha'))
    wishes = replace(wishes, load=("mine:1",))
    said = {step.name: step.do() for step in plan(prepare(tmp_path / "state", wishes), wishes)[:5]}
    assert said["images packed"].endswith("not on this machine, so nodes pull it: mine:1")
    assert "mine:1" not in played.asked("docker save")[0]


def test_a_cluster_that_somebody_has_deleted_is_made_and_loaded_again(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    do_clusters(tmp_path / "state", wishes)
    (played.directory / "clusters" / "edge2").unlink()
    do_clusters(tmp_path / "state", wishes)
    assert len([line for line in played.asked("kind create") if "--name edge2 " in line]) == 2
    assert len([line for line in played.asked("kind load") if "--name edge2 " in line]) == 2
    assert len(played.asked("kind load")) == 4


def test_a_relay_is_brought_up_after_the_hub_and_before_the_topology_is_applied(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    topology = tmp_path / "relayed.yaml"
    topology.write_text(DEFAULT.read_text() + '  relays: [{name: r1, address: "r1.example.org:7447"}]\n')
    wishes = replace(wishes, topology=topology)
    steps = {step.name: step for step in plan(prepare(tmp_path / "state", wishes), wishes)}
    assert steps["relay on cloud1"].needs == ("hub and etcd on cloud1",)
    assert "relay on cloud1" in steps["topology"].needs
    steps["our image"].do()
    steps["manifests"].do()
    assert (tmp_path / "state" / "relays" / "r1" / "relay" / "cert.pem").is_file()
    plain = plan(prepare(tmp_path / "other", replace(wishes, topology=None)), replace(wishes, topology=None))
    assert not any(step.name.startswith("relay") for step in plain)


def test_nodes_have_the_places_that_the_topology_names_with_their_credentials(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    runtime, bucket = "name: edge1, zone: edge1, runtime: kubernetes", "{objects: {bucket: b, credentials: s3}}"
    topology = tmp_path / "stored.yaml"
    topology.write_text(DEFAULT.read_text().replace(runtime, f"{runtime}, storage: {bucket}"))
    with pytest.raises(KindError, match="edge1 names the credentials s3: say with --storage-credentials"):
        prepare(tmp_path / "state", replace(wishes, topology=topology))
    (tmp_path / "given" / "s3").mkdir(parents=True)
    for name in ("access-key-id", "secret-access-key"):
        (tmp_path / "given" / "s3" / name).write_text("hush")
    wishes = replace(wishes, topology=topology, storage_credentials=tmp_path / "given")
    steps = {step.name: step for step in plan(prepare(tmp_path / "state", wishes), wishes)}
    steps["our image"].do()
    steps["manifests"].do()
    made = tmp_path / "state" / "clusters"
    assert (made / "edge1" / "storage" / "s3" / "secret-access-key").read_text() == "hush"
    assert not (made / "edge2" / "storage").exists()


def test_memory_that_pods_do_not_see_is_refused_before_any_cluster_is_made(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    runtime = "name: edge1, zone: edge1, runtime: kubernetes"
    topology = tmp_path / "stored.yaml"
    topology.write_text(DEFAULT.read_text().replace(runtime, f"{runtime}, storage: {{memory: 1GiB}}"))
    with pytest.raises(
        ProblemError, match="the workers of edge1 are pods, which don't see what their node keeps in memory"
    ):
        prepare(tmp_path / "state", replace(wishes, topology=topology))
    assert not played.clusters


def test_it_goes_on_where_it_failed(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    (played.directory / "fail-edge2").touch()
    with pytest.raises(KindError, match=r"(?s)too many open files.*max_user_instances"):
        do_clusters(tmp_path / "state", wishes)
    assert played.clusters == {"cloud1", "edge1"}
    (played.directory / "fail-edge2").unlink()
    do_clusters(tmp_path / "state", wishes)
    assert played.clusters == {"edge1", "edge2", "cloud1"}
    assert len([line for line in played.asked("kind create") if "--name edge1 " in line]) == 1


def test_a_cluster_that_was_half_made_when_we_died_is_made_anew(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    ground = prepare(tmp_path / "state", wishes)
    ground.state.cluster("edge1").begun = True  # as it is written before kind is told to make it
    ground.state.save()
    played.has("edge1")
    do_clusters(tmp_path / "state", wishes)
    first = [line for line in played.asked("kind ") if "edge1" in line][:2]
    assert [line.split()[1] for line in first] == ["delete", "create"]


def test_clusters_of_others_are_neither_used_nor_deleted(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    played.has("edge2", "theirs")
    with pytest.raises(KindError, match=r"edge2.*left alone"):
        prepare(tmp_path / "state", wishes)
    assert down(tmp_path / "state") == []
    assert played.clusters == {"edge2", "theirs"}


def test_one_that_somebody_made_after_we_had_planned_is_left_alone(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    prepare(tmp_path / "state", wishes)
    played.has("edge1")
    with pytest.raises(KindError, match=r"edge1.*left alone"):
        do_clusters(tmp_path / "state", wishes)
    assert down(tmp_path / "state") == ["cloud1"]
    assert played.clusters == {"edge1"}


def test_down_deletes_what_was_made_and_forgets_it(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    played.has("theirs")
    do_clusters(tmp_path / "state", wishes)
    assert down(tmp_path / "state") == ["edge1", "edge2", "cloud1"]
    assert played.clusters == {"theirs"}
    assert not list((tmp_path / "state").iterdir())
    assert down(tmp_path / "state") == []


def test_another_topology_needs_another_directory(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    do_clusters(tmp_path / "state", wishes)
    other = tmp_path / "other.yaml"
    other.write_text(DEFAULT.read_text().replace("name: examples", "name: other"))
    with pytest.raises(KindError, match="bdw-fed kind down"):
        prepare(tmp_path / "state", Wishes(other, wishes.data, "", ""))


def test_a_directory_with_other_things_is_not_used(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hub").mkdir()
    with pytest.raises(KindError, match="not empty"):
        prepare(tmp_path / "mine", wishes)
    assert down(tmp_path / "mine") == []
    assert (tmp_path / "mine" / "hub").is_dir()


def test_data_that_is_not_there_is_named_before_any_cluster_is_made(
    tmp_path: Path, played: Played, wishes: Wishes
) -> None:
    assert wishes.data
    (wishes.data / "flights" / "data" / "edge-lga" / "weather.csv").unlink()
    with pytest.raises(KindError, match=r"edge-lga/weather\.csv"):
        prepare(tmp_path / "state", wishes)
    assert not played.clusters


@pytest.mark.parametrize("program", ["docker", "kind", "kubectl"])
def test_a_missing_program_is_named_with_where_to_get_it(
    program: str, tmp_path: Path, played: Played, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    (folder / program).unlink()
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(KindError, match=f"{program} is not installed.*https://"):
        prepare(tmp_path / "state", wishes)


def test_without_a_docker_engine_that_is_said(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix://x.' >&2\nexit 1\n")
    with pytest.raises(KindError, match="start the Docker engine"):
        prepare(tmp_path / "state", wishes)


def test_what_is_kept_says_what_was_made(tmp_path: Path, played: Played, wishes: Wishes) -> None:
    do_clusters(tmp_path / "state", wishes)
    state = read_state(tmp_path / "state")
    assert [(cluster.name, cluster.whole, sorted(cluster.images)) for cluster in state.clusters] == [
        (name, True, ["bdw-fed:0123456789ab", "python:3.11-slim"]) for name in ("edge1", "edge2", "cloud1")
    ]
