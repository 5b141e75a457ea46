"""Bundles on agents and nodes stay within bounds, and what is needed stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.bundles import BundleCache
from cluster_agent.bundles.surplus import Kept, surplus
from cluster_agent.node.bundles import Bundles
from wire.digests import bytes_digest
from workflow.bundle import pack

KEPT = st.builds(Kept, st.uuids().map(str), st.integers(0, 100), st.floats(0, 100))


@given(st.lists(KEPT, max_size=10, unique_by=lambda one: one.name), st.integers(0, 300), st.floats(0, 100), st.data())
def test_the_longest_unused_go_until_the_rest_fits(
    kept: list[Kept], most: int, before: float, data: st.DataObject
) -> None:
    in_use = data.draw(st.sets(st.sampled_from([one.name for one in kept]))) if kept else set()
    gone = surplus(kept, most, before, in_use)
    left = [one for one in kept if one.name not in gone]
    free = [one for one in left if one.name not in in_use and one.used < before]
    assert not set(gone) & in_use
    assert sum(one.size for one in left) <= most or not free
    removed = [one for one in kept if one.name in gone]
    assert all(one.used < before for one in removed)
    if removed:
        assert max(one.used for one in removed) <= min((one.used for one in free), default=100.0)
        last = next(one for one in removed if one.name == gone[-1])
        assert sum(one.size for one in left) + last.size > most, "no more than had to go"


def archives(tmp_path: Path, count: int) -> dict[bytes, bytes]:
    """Packed bundles of some ten kilobytes by digest."""
    found = {}
    for number in range(count):
        code = tmp_path / f"code{number}"
        code.mkdir()
        (code / "main.py").write_bytes(os.urandom(10_000))
        packed = pack(code)
        found[bytes_digest(packed)] = packed
    return found


async def test_a_node_removes_what_no_worker_uses(tmp_path: Path) -> None:
    packed = archives(tmp_path, 4)
    first, second, third, fourth = packed

    async def fetch(_namespace: str, digest: bytes) -> AsyncIterator[bytes]:
        yield packed[digest]

    bundles = Bundles(tmp_path / "bundles", fetch, lambda: {first}, most_bytes=25_000)
    for age, digest in enumerate((first, second)):
        os.utime(await bundles.get("default", digest), (age, age))
    await bundles.get("default", third)
    there = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert there == {first.hex(), third.hex()}, "the first is older, and in use"
    os.utime(tmp_path / "bundles" / third.hex(), (5, 5))
    assert (await bundles.get("default", fourth) / "main.py").exists()
    assert (await bundles.get("default", second) / "main.py").exists(), "what has gone comes again"
    await bundles.close()


async def test_an_agent_removes_what_nobody_asked_for_in_a_while(tmp_path: Path) -> None:
    packed = archives(tmp_path, 3)
    first, second, third = packed

    async def pull(_namespace: str, digest: bytes) -> AsyncIterator[bytes]:
        yield packed[digest]

    cache = BundleCache(tmp_path / "bundles", pull, most_bytes=15_000, resting=100.0)
    os.utime(await cache.get("default", first), (1, 1))
    await cache.get("default", second)
    assert {path.name for path in (tmp_path / "bundles").iterdir()} == {f"{second.hex()}.tar.zst"}
    await cache.get("default", third)
    assert len(list((tmp_path / "bundles").iterdir())) == 2, "both were asked for just now"
    await cache.close()


async def test_what_a_run_will_need_is_here_before_anybody_asks(tmp_path: Path) -> None:
    (digest, packed), *_ = archives(tmp_path, 1).items()
    pulls = []

    async def pull(_namespace: str, wanted: bytes) -> AsyncIterator[bytes]:
        pulls.append(wanted)
        yield packed

    cache = BundleCache(tmp_path / "bundles", pull)
    cache.expect("default", digest)
    cache.expect("default", digest)
    assert (await cache.get("default", digest)).read_bytes() == packed
    cache.expect("default", digest)
    assert pulls == [digest]
    await cache.close()
