"""Splitting never cuts a line, loses none, and always cuts the same input in the same places."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data import split
from cluster_agent.data.errors import ContentChangedError
from cluster_agent.data.split import Part, SplitSpec, make_parts
from wire.digests import bytes_digest

LINES = st.lists(
    st.text(st.characters(exclude_characters="\n"), max_size=12).map(lambda text: text.encode("utf-8", "replace"))
)
CONTENTS = st.one_of(
    st.builds(
        lambda lines, end, last: end.join(lines) + (end if last else b""),
        LINES,
        st.sampled_from([b"\n", b"\r\n"]),
        st.booleans(),
    ),
    st.binary(max_size=200),
)
SPECS = st.builds(
    lambda kind, value, header: SplitSpec(**{kind: value}, header=header),
    st.sampled_from(["size", "lines", "count"]),
    st.integers(1, 40),
    st.booleans(),
)


def parts_of(
    content: bytes, spec: SplitSpec, *, block: int = split.BLOCK_BYTES, small: int = 15
) -> list[tuple[Part, bytes]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(split, "BLOCK_BYTES", block),
        mock.patch.object(split, "_COPY_BYTES", block),
        mock.patch.object(split, "_FEW", block % 5),
    ):
        source = Path(folder) / "source"
        source.write_bytes(content)
        lists = make_parts(source, spec, Path(folder), lambda: False, small)
        return [(part, bytes_of(part)) for part in itertools.chain.from_iterable(lists)]


def bytes_of(part: Part) -> bytes:
    if part.data is None:
        assert part.path is not None
        return part.path.read_bytes()
    return part.data


def head_of(content: bytes, spec: SplitSpec) -> bytes:
    return content[: content.find(b"\n") + 1 or len(content)] if spec.header else b""


@given(CONTENTS, SPECS, st.integers(1, 64))
def test_the_parts_bodies_put_together_are_the_input(content: bytes, spec: SplitSpec, block: int) -> None:
    head = head_of(content, spec)
    parts = parts_of(content, spec, block=block)
    assert all(data.startswith(head) for _, data in parts)
    assert b"".join(data[len(head) :] for _, data in parts) == content[len(head) :]
    assert [part.index for part, _ in parts] == list(range(len(parts)))
    assert all((part.size, part.digest) == (len(data), bytes_digest(data)) for part, data in parts)


@given(CONTENTS, SPECS)
def test_only_the_last_part_may_end_within_a_line_and_none_is_empty(content: bytes, spec: SplitSpec) -> None:
    head = head_of(content, spec)
    bodies = [data[len(head) :] for _, data in parts_of(content, spec)]
    assert all(body.endswith(b"\n") for body in bodies[:-1])
    assert all(bodies)


@given(CONTENTS, SPECS)
def test_each_part_is_as_large_as_it_may_be_and_no_larger(content: bytes, spec: SplitSpec) -> None:
    head = head_of(content, spec)
    bodies = [data[len(head) :] for _, data in parts_of(content, spec)]
    if spec.lines:
        assert all(body.count(b"\n") == spec.lines for body in bodies[:-1])
        assert all(body[:-1].count(b"\n") < spec.lines for body in bodies)
    elif spec.count:
        assert len(bodies) <= spec.count
    else:
        for body in bodies:
            assert len(head) + len(body) <= spec.size or body.find(b"\n") in (-1, len(body) - 1)
        for body, following in itertools.pairwise(bodies):
            next_line = following[: following.find(b"\n") + 1 or len(following)]
            assert len(head) + len(body) + len(next_line) > spec.size


@given(CONTENTS, SPECS, st.integers(1, 64), st.integers(1, 64), st.integers(-1, 60))
def test_how_it_is_read_and_what_is_small_does_not_matter(
    content: bytes, spec: SplitSpec, one: int, other: int, small: int
) -> None:
    first = [data for _, data in parts_of(content, spec, block=one)]
    assert first == [data for _, data in parts_of(content, spec, block=other, small=small)]


def test_small_parts_are_in_memory_and_large_ones_in_files() -> None:
    content = b"small\n" * 3 + b"l" * 20 + b"\n" + b"small\n"
    in_memory = [part.data is not None for part, _ in parts_of(content, SplitSpec(lines=1))]
    assert in_memory == [True, True, True, False, True]


def test_a_source_that_becomes_shorter_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for small in (-1, 100):
        source.write_bytes(b"a\nb\n" * 10)
        lists = make_parts(source, SplitSpec(lines=10), tmp_path, lambda: os.truncate(source, 30) or False, small)
        with pytest.raises(ContentChangedError, match="became shorter"):
            list(lists)


@pytest.mark.parametrize("kind", ["size", "lines", "count"])
@pytest.mark.parametrize("content", [b"", b"a,b", b"a,b\n", b"a,b\r\n"])
def test_nothing_and_a_header_alone_make_no_parts(kind: str, content: bytes) -> None:
    assert parts_of(content, SplitSpec(**{kind: 3}, header=True)) == []


def test_stopping_leaves_no_part_half_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a\nb\nc\n")
    asked = iter([False, False, True])
    lists = make_parts(source, SplitSpec(lines=1), tmp_path, lambda: next(asked), -1)
    assert [[part.index for part in parts] for parts in lists] == [[0]]


@pytest.mark.parametrize("wrong", [{}, {"size": 1, "lines": 1}, {"count": -1}])
def test_a_split_says_one_thing(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        SplitSpec(**wrong)
