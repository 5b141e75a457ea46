"""What is compressed is split as its content is, and never taken for whole where its end is missing."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from unittest import mock

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records import blocks
from cluster_agent.data.split import SplitSpec
from tests.data.parts import merged, split

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
KINDS = st.sampled_from(sorted(COMPRESSORS))
CONTENT = b"".join(b"%d,some text of line %d\n" % (number, number * number) for number in range(2000))
SPECS = st.builds(
    lambda kind, value, header, form: SplitSpec(**{kind: value}, header=header, format=form),
    st.sampled_from(["size", "lines", "count"]),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(["text", "csv"]),
)


@given(
    st.lists(st.lists(st.sampled_from([b"a", b"b,c", b'"d\n"', b""]), max_size=6), max_size=4),
    KINDS,
    SPECS,
    st.integers(1, 50),
)
def test_its_parts_are_those_of_its_content(
    streams: list[list[bytes]], kind: str, spec: SplitSpec, at_once: int
) -> None:
    contents = [b"".join(line + b"\n" for line in lines) for lines in streams]
    compressed = b"".join(map(COMPRESSORS[kind], contents))
    with mock.patch.multiple(blocks, _COMPRESSED_BYTES=at_once, _LEAST_COMPRESSED_BYTES=at_once):
        assert split(compressed, spec) == split(b"".join(contents), spec)


@pytest.mark.parametrize("kind", sorted(COMPRESSORS))
@pytest.mark.parametrize("cut", [3, 25, -1])
def test_a_truncated_file_is_an_error_that_names_where_it_ends(kind: str, cut: int) -> None:
    compressed = COMPRESSORS[kind](CONTENT)[:cut]
    if cut == 3:
        compressed = COMPRESSORS[kind](b"") + COMPRESSORS[kind](CONTENT)[:7]
    with pytest.raises(WrongContentError, match=f"at byte {len(compressed)} of the file: it ends within its {kind}"):
        split(compressed, SplitSpec(lines=10))
    with pytest.raises(WrongContentError, match=rf"unit 1 \(rows-0\): at byte {len(compressed)} of the file"):
        merged([compressed], "csv")


@pytest.mark.parametrize("kind", sorted(COMPRESSORS))
def test_a_damaged_file_is_an_error(kind: str) -> None:
    whole = COMPRESSORS[kind](CONTENT)
    for damaged in (whole[:50] + bytes(8) + whole[58:], whole + b"what is this", whole[:-5] + bytes(5)):
        with pytest.raises(WrongContentError, match="get or make the file anew"):
            split(damaged, SplitSpec(lines=10))


def test_zeros_behind_a_gzip_stream_are_padding() -> None:
    assert split(gzip.compress(CONTENT) + bytes(1000), SplitSpec(count=1)) == [CONTENT]


def test_what_grows_a_thousandfold_comes_in_blocks_that_fit_into_memory() -> None:
    seen = []
    real = blocks.Block

    def noted(base: int, data: bytes, size: int) -> blocks.Block:
        seen.append(size)
        return real(base, data, size)

    zeros = zstandard.ZstdCompressor().compress(bytes(40 << 20))
    with mock.patch.object(blocks, "Block", noted):
        parts = split(zeros, SplitSpec(size=10 << 20))
    assert [len(part) for part in parts] == [40 << 20], "there is no newline in it"
    assert max(seen) <= 16 << 20


def test_bytes_are_taken_as_they_are() -> None:
    compressed = gzip.compress(CONTENT)
    assert b"".join(split(compressed, SplitSpec(count=3, format="bytes"))) == compressed


def test_units_that_are_compressed_are_merged_as_their_content() -> None:
    assert merged([gzip.compress(b"a\n1\n"), b"a\n2\n"], "csv") == b"a\n1\n2\n"
    packed = [gzip.compress(b"1\n"), gzip.compress(b"2\n")]
    assert merged(packed, "concat") == b"".join(packed)
