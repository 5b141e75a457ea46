"""`bdw-fed perf` measures what it says on a real federation; how much that is, is no test's business."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path

import pytest
import redis.asyncio as redis

from bdw_fed.cli.__main__ import run
from bdw_fed.perf import CASES, Case, PerfError, Result, Series, Target, sockets
from bdw_fed.perf import floor as floors
from bdw_fed.perf.base import Settings
from bdw_fed.perf.federation import Ended
from bdw_fed.perf.places import Places
from bdw_fed.perf.tiers import between_nodes, check_places
from bdw_fed.v1 import model_pb2
from cluster_agent.data.shared.config import RedisConfig, SharedConfig
from cluster_agent.data.shared.names import of_unit
from cluster_agent.data.shared.objects import ObjectStore
from cluster_agent.data.shared.redis import RedisStore
from tests.fixtures.ports import free_port
from tests.fixtures.shared import BUCKET, RedisServer, S3Server
from topology.storage import Objects, Redis, Storage


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a case makes lies here, and must be gone in the end."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "size"),
    [("chain", 4), ("fanout", 20), ("command", 10), ("dispatch", 3), ("split", 20), ("transfer", 2)],
)
def test_a_case_prints_what_the_peers_benchmark_reads(
    case: str, size: int, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["perf", case, "--json", "--size", str(size), "--repetitions", "2"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["case"], said["size"], said["durability"]) == (case, size, "process")
    assert len(said["samples_ms"]) == (2 * size if case == "dispatch" else 2)
    assert all(sample > 0 for sample in said["samples_ms"] + said["floor_ms"])
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_what_was_done_while_the_hub_was_away_is_counted_to_the_last_task(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bdw_fed.perf.catch_up._AWAY_SECONDS", 0.0)
    assert run(["perf", "catch-up", "--json", "--size", "105", "--repetitions", "2"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["size"], len(said["samples_ms"])) == (100, 2), "ten runs of ten"
    whole = said["others"]["all"]["samples_ms"]
    assert said["samples_ms"] == [pytest.approx(sample * 100, rel=0.01) for sample in whole]
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_a_pipeline_has_a_row_for_each_tier_beside_a_plain_read_and_leaves_nothing_in_shared_places(
    scratch: Path,
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = topology(
        tmp_path, {"redis": {"url": f"redis://127.0.0.1:{redis_server.port}"}, "objects": bucket(s3_server)}
    )
    named = ["--topology", str(file), "--cluster", "one", "--storage-credentials", str(s3_server.credentials.parent)]
    assert run(["perf", "pipeline", "--json", "--size", "9", "--repetitions", "2", *named]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["case"], said["size"], said["left_out"]) == ("pipeline", 9, [])
    rows = {"a GiB": {**said}, **said["others"]}
    assert list(rows) == [
        "a GiB",
        "journal",
        "memory",
        "disk",
        "disks 8 MiB",
        "disks 256 KiB",
        "redis",
        "object storage",
    ]
    for row in rows.values():
        assert len(row["samples_ms"]) == len(row["floor_ms"]) == 2
        median, read = statistics.median(row["samples_ms"]), statistics.median(row["floor_ms"])
        assert row["ratio"] == pytest.approx(median / read, rel=1e-2)
        assert row["mb_s"] == pytest.approx((1 << 30) / 1000 / median, rel=1e-2)
        assert row["units_s"] > 0
    assert "page cache" in rows["redis"]["floor"]
    assert kept(SharedConfig(redis_server.config("bdw-fed"), s3_server.config("bdw-fed"))) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_start_tells_both_of_its_times_to_people(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "start", "--repetitions", "1"]) == 0
    shown = capsys.readouterr().out
    assert "ready" in shown
    assert "first task" in shown
    assert list(scratch.iterdir()) == []


def topology(directory: Path, storage: dict[str, object]) -> Path:
    """A file with a cluster that has these places."""
    spec = {
        "zones": [{"name": "here", "tier": "cloud"}],
        "clusters": [{"name": "one", "zone": "here", "nodes": [{"name": "n1"}], "storage": storage}],
    }
    file = directory / "topology.yaml"
    file.write_text(json.dumps({"kind": "Topology", "metadata": {"name": "places"}, "spec": spec}))
    return file


def bucket(server: S3Server) -> dict[str, object]:
    """A server's bucket, as a topology names it."""
    return {"bucket": BUCKET, "endpoint": server.endpoint, "plain": True, "credentials": server.credentials.name}


def kept(config: SharedConfig) -> list[str]:
    """The names of all that lies in these places, below their prefixes."""

    async def listed() -> list[str]:
        found: list[str] = []
        if config.redis is not None:
            async with redis.Redis(port=config.redis.address[1]) as client:
                found += [key.decode() async for key in client.scan_iter(f"{config.redis.prefix}*")]
        if config.objects is not None:
            found += [name async for name in ObjectStore(config.objects).names("")]
        return found

    return asyncio.run(listed())


async def leave(config: RedisConfig, run: str) -> None:
    """A unit of a run in a Redis."""
    store = RedisStore(config)
    await store.put(of_unit("default", run, "one", bytes(16)), b"left")
    await store.close()


def test_what_runs_have_left_in_a_place_is_deleted_in_the_end(redis_server: RedisServer) -> None:
    """A daemon that is stopped leaves that to its next start, which there is none of."""
    config = SharedConfig(redis_server.config("ours"))
    assert config.redis is not None
    url = config.redis.url
    with Places(Storage(redis=Redis(url=url, prefix="ours")), None, "one") as places:
        assert kept(config) == [], "asking whether it is there leaves nothing"
        assert places.storage.redis is not None
        places.runs = ["run-1"]
        asyncio.run(leave(RedisConfig(url, prefix=places.storage.redis.prefix), "run-1"))
        assert [name.partition("/perf-")[0] for name in kept(config)] == ["ours", "ours"]
    assert kept(config) == []


def test_a_tier_that_takes_a_server_is_left_out_where_none_is_named_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiers, left_out = between_nodes(Storage())
    assert [tier.name for tier in tiers] == ["disks 8 MiB", "disks 256 KiB"]
    assert [line.partition(":")[0] for line in left_out] == ["redis", "object storage"]
    tiers, left_out = between_nodes(Storage(objects=Objects(bucket="cold")))
    assert [tier.name for tier in tiers] == ["disks 8 MiB", "disks 256 KiB", "object storage"]
    assert len(left_out) == 1
    assert "redis: it takes a Redis in the storage of a cluster, see --topology" in left_out[0]


@pytest.mark.usefixtures("own_cases")
def test_what_was_left_out_is_shown_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "quick"]) == 0
    assert "left out, a third: it takes more" in capsys.readouterr().out


def test_a_place_that_is_away_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    places = Places(Storage(redis=Redis(url=f"redis://127.0.0.1:{free_port()}")), None, "one")
    with pytest.raises(PerfError, match="what --topology names can't be measured: redis://"), places:
        pytest.fail("it was measured")


def test_units_that_came_another_way_than_by_the_place_make_no_row() -> None:
    [*_, tier] = between_nodes(Storage(redis=Redis(url="redis://127.0.0.1")))[0]

    def ended(*sources: str) -> Ended:
        told = [json.dumps({"from": source}) for source in sources]
        fetched = [model_pb2.Event(type="io.bdw-fed.unit.fetched", data_json=data) for data in told]
        return Ended(model_pb2.Run(name="run-1"), fetched)

    check_places(ended("shared", "shared"), tier)
    with pytest.raises(PerfError, match="of the last 2 units that crossed in run run-1, 1 are from the node"):
        check_places(ended("shared", "one"), tier)
    with pytest.raises(PerfError, match="of the last 0 units"):
        check_places(ended(), tier)


@pytest.mark.parametrize("options", [["--topology", "t.yaml"], ["--cluster", "one"]])
def test_whose_storage_is_meant_takes_a_file_and_a_cluster(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["perf", "pipeline", *options]) == 2
    assert "expected both" in capsys.readouterr().err


def test_places_are_not_named_in_vain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "chain", "--topology", str(topology(tmp_path, {})), "--cluster", "one"]) == 2
    assert "only pipeline measures what it names" in capsys.readouterr().err
    assert run(["perf", "pipeline", "--topology", str(topology(tmp_path, {})), "--cluster", "two"]) != 0
    assert "there is no cluster two" in capsys.readouterr().err


def test_rates_are_those_of_the_median() -> None:
    series = Series("a GiB", "", [500.0, 2000.0, 1000.0], of=1 << 30, unit=1 << 20)
    assert series.megabytes == pytest.approx(1073.741824)
    assert series.units == pytest.approx(1024)
    assert Series("a GiB", "", [1.0], of=1 << 30).units is None
    assert Series("a step", "", [1.0]).megabytes is None


@pytest.mark.parametrize("name", ["chain", "fanout", "command", "fsync", "pipeline"])
def test_a_floor_gives_a_sample_for_each_repetition(name: str, tmp_path: Path) -> None:
    samples = floors.measured_here(name, 10, 3, tmp_path)
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)


def test_a_floor_is_measured_by_a_process_of_its_own(tmp_path: Path) -> None:
    samples = floors.measured("fsync", 10, 3, tmp_path)
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)


@pytest.mark.parametrize("name", ["tls", "plain", "stores"])
def test_a_floor_between_two_processes_gives_a_sample_for_each_repetition(name: str, tmp_path: Path) -> None:
    samples = floors.measured(name, 2, 3, tmp_path, module=sockets.MODULE)
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)


def test_generated_rows_have_the_size_that_was_asked_for_and_no_two_parts_are_alike(tmp_path: Path) -> None:
    floors.write_csv(tmp_path / "rows.csv", 4)
    written = (tmp_path / "rows.csv").read_bytes()
    assert 3.9 * (1 << 20) < len(written) <= 4.1 * (1 << 20)
    parts = [written[start : start + (1 << 20)] for start in range(0, 3 << 20, 1 << 20)]
    assert len(set(parts)) == 3
    assert {line.count(b",") for line in written.splitlines()} == {9}


def test_what_can_t_be_measured_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "frobnicate"]) == 2
    assert "chain, fanout" in capsys.readouterr().err
    with pytest.raises(PerfError, match="--size takes"):
        CASES["chain"].checked(Settings(100_000, 5))


class Broken(Case):
    """Can't be measured."""

    name = "broken"
    size = 7
    counts = "nothings"

    def measure(self, settings: Settings) -> Result:
        raise PerfError(f"size {settings.size} is broken")


class Quick(Case):
    """Takes no time."""

    name = "quick"
    size = 5
    counts = "nothings"

    def measure(self, settings: Settings) -> Result:
        main = Series("a nothing", "from here to here", [1.0, 3.0], [Target(1.5)])
        other = Series("another", "too", [2.0], [Target(1.5, of_floor=True)], floor=[2.0])
        return Result(self.name, settings.size, settings.durability, 0.0, main, [other], ["a third: it takes more"])


@pytest.fixture
def own_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bdw_fed.perf.CASES", {"quick": Quick(), "broken": Broken()})


@pytest.mark.usefixtures("own_cases")
def test_several_cases_are_summed_up_and_one_that_fails_is_told_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "quick", "broken:8", "quick:9"]) == 1
    said = capsys.readouterr()
    assert "broken could not be measured: size 8 is broken" in said.err
    assert "1 of 3 cases could not be measured: broken" in said.err
    summary = [line.split() for line in said.out.splitlines() if line.startswith("quick ")]
    assert [(line[1], line[-2]) for line in summary] == [("5", "no"), ("5", "yes"), ("9", "no"), ("9", "yes")]
    assert run(["perf", "quick:9", "quick", "--size", "6", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["size"], second["size"]) == (9, 6)
    assert (first["target"], first["reached"], first["others"]["another"]["reached"]) == ("≤ 1.5 ms", False, True)


@pytest.mark.usefixtures("own_cases")
def test_a_size_that_is_none_is_told_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["perf", "quick", "quick:many"]) == 2
    assert "for example quick:5" in capsys.readouterr().err


def test_a_target_may_be_of_the_floor_or_of_the_slowest_samples() -> None:
    series = Series("a step", "", [1.0] * 98 + [30.0] * 2, [Target(1), Target(30, part=0.99)])
    assert series.target == "≤ 1 ms, P99 ≤ 30 ms"
    assert series.reached
    assert not Series("a step", "", series.samples, [Target(1), Target(29, part=0.99)]).reached
    assert Series("a step", "", [3.0], [Target(1.5, of_floor=True)], floor=[2.0]).reached
    assert Series("a step", "", [3.0]).reached is None


def test_a_percentile_is_a_sample() -> None:
    series = Series("a step", "", [float(number) for number in range(1, 101)])
    assert (series.percentile(0.5), series.percentile(0.99), series.percentile(1.0)) == (50.0, 99.0, 100.0)
    assert Series("a step", "", [4.0], floor=[1.0, 2.0, 3.0]).ratio == 2.0
