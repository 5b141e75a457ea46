"""Splitting never cuts a line, loses none, and always cuts the same input in the same places."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.errors import ContentChangedError, WrongContentError
from cluster_agent.data.records import blocks
from cluster_agent.data.split import SplitSpec, make_parts
from tests.data.parts import parts_of, split

LINES = st.lists(
    st.text(st.characters(exclude_characters="\n"), max_size=12).map(lambda text: text.encode("utf-8", "replace"))
)
# What begins so is compressed, or no text.
OTHERS = (
    b"\x1f\x8b\x08",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\x28\xb5\x2f\xfd",
    *(bytes([0x50 + low]) + b"\x2a\x4d\x18" for low in range(16)),
)
CONTENTS = st.one_of(
    st.builds(
        lambda lines, end, last: end.join(lines) + (end if last else b""),
        LINES,
        st.sampled_from([b"\n", b"\r\n"]),
        st.booleans(),
    ),
    st.binary(max_size=200),
).filter(lambda content: not content.startswith(OTHERS))
SPECS = st.builds(
    lambda kind, value, header: SplitSpec(**{kind: value}, header=header),
    st.sampled_from(["size", "lines", "count"]),
    st.integers(1, 40),
    st.booleans(),
)


def head_of(content: bytes, spec: SplitSpec) -> bytes:
    return content[: content.find(b"\n") + 1 or len(content)] if spec.header else b""


@given(CONTENTS, SPECS, st.integers(1, 64))
def test_the_parts_bodies_put_together_are_the_input(content: bytes, spec: SplitSpec, block: int) -> None:
    head = head_of(content, spec)
    parts = split(content, spec, block=block)
    assert all(part.startswith(head) for part in parts)
    assert b"".join(part[len(head) :] for part in parts) == content[len(head) :]


@given(CONTENTS, SPECS)
def test_only_the_last_part_may_end_within_a_line_and_none_is_empty(content: bytes, spec: SplitSpec) -> None:
    head = head_of(content, spec)
    bodies = [part[len(head) :] for part in split(content, spec)]
    assert all(body.endswith(b"\n") for body in bodies[:-1])
    assert all(bodies)


@given(CONTENTS, SPECS)
def test_each_part_is_as_large_as_it_may_be_and_no_larger(content: bytes, spec: SplitSpec) -> None:
    head = head_of(content, spec)
    bodies = [part[len(head) :] for part in split(content, spec)]
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
    assert split(content, spec, block=one) == split(content, spec, block=other, small=small)


def test_small_parts_are_in_memory_and_large_ones_in_files() -> None:
    content = b"small\n" * 3 + b"l" * 20 + b"\n" + b"small\n"
    in_memory = [part.data is not None for part, _ in parts_of(content, SplitSpec(lines=1))]
    assert in_memory == [True, True, True, False, True]


def test_a_source_that_becomes_shorter_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for small in (-1, 100):
        source.write_bytes(b"a\nb\n" * 10)
        with mock.patch.object(blocks, "BLOCK_BYTES", 10):
            lists = make_parts(
                source, SplitSpec(lines=10), lambda: tmp_path, lambda: os.truncate(source, 30) or False, small
            )
            with pytest.raises(ContentChangedError, match="became shorter"):
                list(lists)


@pytest.mark.parametrize("kind", ["size", "lines", "count"])
@pytest.mark.parametrize("content", [b"", b"a,b", b"a,b\n", b"a,b\r\n"])
def test_nothing_and_a_header_alone_make_no_parts(kind: str, content: bytes) -> None:
    assert split(content, SplitSpec(**{kind: 3}, header=True)) == []


def test_stopping_leaves_no_part_half_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a\nbcd\ne\n")
    asked = iter([False, False, True])
    with mock.patch.object(blocks, "BLOCK_BYTES", 2):
        lists = make_parts(source, SplitSpec(lines=1), lambda: tmp_path, lambda: next(asked), -1)
        assert [[part.index for part in parts] for parts in lists] == [[0]]
    assert {path.name for path in tmp_path.iterdir()} == {"source", "0"}


@pytest.mark.parametrize("wrong", [{}, {"size": 1, "lines": 1}, {"count": -1}])
def test_a_split_says_one_thing(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        SplitSpec(**wrong)


@given(st.binary(max_size=300), st.sampled_from(["size", "count"]), st.integers(1, 40), st.integers(1, 64))
def test_bytes_are_cut_anywhere_and_none_is_lost(content: bytes, kind: str, value: int, block: int) -> None:
    spec = SplitSpec(**{kind: value}, format="bytes")  # type: ignore[arg-type]
    parts = split(content, spec, block=block)
    assert b"".join(parts) == content
    if kind == "size":
        assert all(len(part) == value for part in parts[:-1])
    else:
        assert len(parts) == min(value, len(content))
        assert not parts or max(map(len, parts)) - min(map(len, parts)) <= 1


def test_text_in_utf_16_is_refused_and_not_cut_within_characters() -> None:
    for form in ("text", "csv", "jsonl"):
        with pytest.raises(WrongContentError, match="UTF-16; convert it to UTF-8"):
            split("a\nb\n".encode("utf-16"), SplitSpec(lines=1, format=form))


def test_a_first_line_that_never_ends_is_no_header() -> None:
    with pytest.raises(WrongContentError, match="more than 16 MiB, so it is no header; leave out header: true"):
        split(b"x" * (18 << 20), SplitSpec(lines=1, header=True))
