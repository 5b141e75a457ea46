"""Ids are the same wherever they are made again, and never the same for different things."""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from wire.digests import ContentHasher, bytes_digest, content_digest, source_task_id, task_id, unit_id, unit_ids
from wire.inventory import inventory_digest

NAMES = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=6)
INPUTS = st.lists(st.tuples(NAMES, st.lists(st.binary(min_size=16, max_size=16), max_size=3)), max_size=3)
TASKS = st.tuples(NAMES, NAMES, NAMES, INPUTS)


@given(one=TASKS, other=TASKS)
def test_different_tasks_have_different_ids(
    one: tuple[str, str, str, list[tuple[str, list[bytes]]]], other: tuple[str, str, str, list[tuple[str, list[bytes]]]]
) -> None:
    assert (task_id(*one) == task_id(*other)) == (one == other)


def test_tasks_sources_and_units_never_share_an_id() -> None:
    ids = {task_id("n", "r", "s", []), source_task_id("n", "r", "s", 0), unit_id(b"n", "r", 0), unit_id(b"n", "r", 1)}
    assert len(ids) == 4
    assert all(len(one) == 16 for one in ids)


def test_ids_do_not_change_between_versions() -> None:
    """Logs and stores hold these ids: another value here means that an upgrade would lose its way."""
    assert task_id("ns", "run", "clean", [("rows", [bytes(16)])]).hex() == "05b6990d13cf965c4cc67b35dc7a8fe3"
    assert source_task_id("ns", "run", "inputs.flights", 2).hex() == "ad4a4a97030b42d8e3d1ecc001543fce"
    assert unit_id(bytes(16), "rows", 7).hex() == "9b585c4641eed8d1021ab3eb05af4334"


@given(content=st.binary(max_size=5000), cut=st.integers(0, 5000))
def test_a_content_digest_is_blake3_however_the_bytes_come(content: bytes, cut: int) -> None:
    hasher = ContentHasher()
    hasher.update(content[:cut])
    hasher.update(content[cut:])
    assert hasher.digest() == bytes_digest(content) == blake3(content).digest()


def test_small_and_large_files_are_digested_alike(tmp_path: Path) -> None:
    for size in (0, 1, 3 << 20, 65 << 20):
        path = tmp_path / str(size)
        path.write_bytes(b"x" * size)
        assert content_digest(path) == blake3(b"x" * size).digest()


def test_an_inventory_does_not_depend_on_order_but_on_all_else() -> None:
    one, other = ("ns", "a", 1, 1), ("ns", "b", 1, 1)
    assert inventory_digest([one, other]) == inventory_digest([other, one])
    assert inventory_digest([one]) != inventory_digest([("ns", "a", 2, 1)]) != inventory_digest([("ns", "a", 1, 2)])


def test_many_units_of_a_port_are_named_as_each_alone() -> None:
    name = unit_ids(b"t" * 16, "rows")
    for index in (0, 1, 1 << 40):
        assert name(index) == unit_id(b"t" * 16, "rows", index)
