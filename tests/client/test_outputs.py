"""Downloads: straight from a data server, checked, continued where they broke off, never half a file under its name."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fake_hub import RUN, FakeHub

from bdw_fed.client import Profile, SyncClient
from bdw_fed.client.errors import DownloadFailed, Expired, NotFound
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model
from wire.digests import bytes_digest
from wire.directories import pack
from wire.identity import Identity, Role, server_name, ssl_server_context

CONTENT = bytes(range(256)) * 4096


class DataServer(http.server.ThreadingHTTPServer):
    """A node's data server with one unit; it breaks off as often as `breaks` says."""

    daemon_threads = True
    content = CONTENT
    breaks = 0
    doubted = False  # somebody has asked to look at it first

    def __init__(self, hub: FakeHub, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.identity = Identity(Role.NODE, "edge1/n1")
        credentials = hub.authority.issue(self.identity, directory)
        self.socket = ssl_server_context(credentials).wrap_socket(self.socket, server_side=True)
        self.asked: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up is not news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: DataServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.doubted |= self.headers.get("Cache-Control", "") == "no-cache"
        self.server.asked.append((self.path, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        part = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            part = part[: len(part) // 2]
        self.wfile.write(part)

    def log_message(self, format: str, *arguments: object) -> None:
        """Be quiet."""


@pytest.fixture
def data(hub: FakeHub, tmp_path: Path) -> Iterator[DataServer]:
    server = DataServer(hub, tmp_path / "node")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.located = [located(server, "table", CONTENT)]
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def located(server: DataServer, name: str, content: bytes) -> pb.OutputsResponse.Located:
    unit = model.Unit(id=b"\x01" * 16, digest=bytes_digest(content), size=len(content), name="made.csv")
    output = model.RunOutput(name=name, file="table.csv", unit=unit, cluster="edge1", node="n1")
    return pb.OutputsResponse.Located(
        output=output, addresses=[server.address], server_name=server_name(server.identity)
    )


@pytest.fixture
def client(hub: FakeHub) -> Iterator[SyncClient]:
    with SyncClient(Profile(hub.address, hub.user)) as client:
        yield client


def test_an_output_is_saved_under_its_name_and_not_fetched_twice(
    client: SyncClient, data: DataServer, tmp_path: Path
) -> None:
    (saved,) = client.download(RUN, tmp_path / "out")
    assert saved.path == tmp_path / "out" / "table.csv"
    assert saved.path.read_bytes() == CONTENT
    assert data.asked == [(f"/v1/default/{RUN}/{'01' * 16}", "")]
    (again,) = client.download(RUN, tmp_path / "out")
    assert (again.received, len(data.asked)) == (0, 1)


def test_a_download_continues_where_it_broke_off(client: SyncClient, data: DataServer, tmp_path: Path) -> None:
    data.breaks = 1
    (saved,) = client.download(RUN, tmp_path)
    assert saved.path.read_bytes() == CONTENT
    assert [asked for _, asked in data.asked] == ["", f"bytes={len(CONTENT) // 2}-"]
    assert saved.received == len(CONTENT)


def test_wrong_bytes_never_get_the_name(client: SyncClient, data: DataServer, tmp_path: Path) -> None:
    data.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadFailed, match="not those that the run made"):
        client.download(RUN, tmp_path, patience=0)
    assert list(tmp_path.glob("*.csv")) == []
    data.content = CONTENT
    assert client.download(RUN, tmp_path)[0].path.read_bytes() == CONTENT


def test_whoever_got_wrong_bytes_has_the_node_look_before_it_gives_them_out_again(
    client: SyncClient, data: DataServer, tmp_path: Path
) -> None:
    data.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadFailed):
        client.download(RUN, tmp_path, patience=0.0)
    assert not data.doubted
    with pytest.raises(DownloadFailed):
        client.download(RUN, tmp_path, patience=0.2)
    assert data.doubted


def test_an_output_that_is_lost_is_named_and_all_others_are_saved(
    client: SyncClient, hub: FakeHub, data: DataServer, tmp_path: Path
) -> None:
    lost, there = located(data, "lost", b"other"), hub.located[0]
    lost.output.lost, lost.output.node, lost.output.file = "its bytes were damaged", "", "lost.csv"
    del lost.addresses[:]
    hub.located = [lost, there]
    with pytest.raises(DownloadFailed, match="output lost is lost: its bytes were damaged; resubmit the run to have"):
        client.download(RUN, tmp_path, patience=20.0)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".csv"] == ["table.csv"]


@pytest.mark.usefixtures("data")
def test_an_output_that_only_a_bucket_has_for_now_is_not_called_lost(
    client: SyncClient, hub: FakeHub, tmp_path: Path
) -> None:
    hub.located[0].output.node = ""
    del hub.located[0].addresses[:]
    with pytest.raises(DownloadFailed, match=r"lies in the bucket of edge1, and none of its nodes .* try again once"):
        client.download(RUN, tmp_path, patience=0.0)


def test_a_server_that_is_another_node_is_not_believed(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    hub.located[0].server_name = server_name(Identity(Role.NODE, "edge1/n2"))
    with pytest.raises(DownloadFailed, match=r"edge1/n1.*somebody else answers there"):
        client.download(RUN, tmp_path, patience=0)
    assert data.asked == []


def test_a_file_name_from_outside_stays_in_the_directory(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    hub.located[0].output.file = "../../escape.csv"
    (saved,) = client.download(RUN, tmp_path / "out")
    assert saved.path == tmp_path / "out" / "escape.csv"


def test_an_output_of_several_units_becomes_numbered_files(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    hub.located = [located(data, "table", CONTENT), located(data, "table", CONTENT)]
    saved = client.download(RUN, tmp_path)
    assert [item.path.name for item in saved] == ["table-00000.csv", "table-00001.csv"]


@pytest.mark.parametrize("names", [(), ("small", "large"), ("large",)])
def test_outputs_of_one_file_name_are_all_saved_and_under_the_same_names_however_many_are_asked_for(
    names: tuple[str, ...], client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    hub.located = [located(data, name, CONTENT) for name in ("small", "large", "large")]
    for each in hub.located:
        each.output.file = "piece.csv"
    saved = client.download(RUN, tmp_path / "out", names=names)
    expected = ["small-piece.csv", "large-piece-00000.csv", "large-piece-00001.csv"]
    assert [item.path.name for item in saved] == [
        name for name in expected if not names or name.partition("-")[0] in names
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {item.path.name for item in saved}


def test_an_unknown_output_is_refused_with_the_known_ones(client: SyncClient, data: DataServer, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no output chart \(it has: table\)"):
        client.download(RUN, tmp_path, names=["chart"])


def test_an_output_that_is_kept_no_longer_is_told_as_that_and_the_others_can_be_had(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    hub.located.append(located(data, "raw", CONTENT))
    hub.located[1].kept_until, hub.located[1].expired = 1_700_000_000.0, True
    with pytest.raises(Expired, match=r"raw was kept until 2023-.*name those that are there still: table.*resubmit"):
        client.download(RUN, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is begun"
    with pytest.raises(Expired):
        client.download(RUN, tmp_path, names=["raw"])
    assert [saved.name for saved in client.download(RUN, tmp_path, names=["table"])] == ["table"]


def offered_as_directory(data: DataServer, hub: FakeHub, place: Path, files: Mapping[str, str]) -> None:
    """The run's output is a directory with these files."""
    for name, text in files.items():
        (place / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "made" / name).write_text(text)
    pack(place / "made", place / "made.tar")
    data.content = (place / "made.tar").read_bytes()
    item = located(data, "model", data.content)
    item.output.file, item.output.directory = "model", True
    hub.located = [item]


def files_below(directory: Path) -> dict[str, str]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_text() for path in found}


def test_an_output_that_is_a_directory_is_saved_as_one_and_not_fetched_twice(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    files = {"weights": "1 2 3", "words/a.txt": "a"}
    offered_as_directory(data, hub, tmp_path / "node-has", files)
    (saved,) = client.download(RUN, tmp_path / "out")
    assert saved.path == tmp_path / "out" / "model"
    assert files_below(tmp_path / "out") == {f"model/{name}": text for name, text in files.items()}
    assert client.download(RUN, tmp_path / "out")[0].received == 0
    (saved.path / "weights").write_text("4")
    (saved.path / "more").write_text("5")
    assert client.download(RUN, tmp_path / "out")[0].received == len(data.content)
    assert files_below(saved.path) == files
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_a_directory_takes_the_place_of_a_file_of_its_name(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    offered_as_directory(data, hub, tmp_path / "node-has", {"weights": "1"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model").write_text("a file")
    client.download(RUN, tmp_path / "out")
    assert files_below(tmp_path / "out") == {"model/weights": "1"}


def test_what_is_no_directory_after_all_leaves_what_was_there(
    client: SyncClient, data: DataServer, hub: FakeHub, tmp_path: Path
) -> None:
    data.content = CONTENT
    hub.located[0].output.directory = True
    (tmp_path / "out" / "table.csv").mkdir(parents=True)
    with pytest.raises(DownloadFailed, match=r"output table can't be made a directory here: it is no directory's"):
        client.download(RUN, tmp_path / "out")
    assert (tmp_path / "out" / "table.csv").is_dir()
    assert not list((tmp_path / "out").glob(".*.new"))
