"""CSV is cut between records, whatever stands within quotation marks, as Python's own csv module reads it."""

from __future__ import annotations

import csv
import io
import itertools
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records import ends
from cluster_agent.data.records.ends import Marked, Packed
from cluster_agent.data.split import SplitSpec
from tests.data.parts import merged, split

FIELDS = st.text(st.sampled_from('ab"\n\r,; é€😀'), max_size=9)
ROWS = st.lists(st.lists(FIELDS, min_size=2, max_size=3), max_size=8)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
SPECS = st.builds(
    lambda kind, value, header: SplitSpec(**{kind: value}, header=header, format="csv"),
    st.sampled_from(["size", "lines", "records", "count"]),
    st.integers(1, 60),
    st.booleans(),
)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """As a program writes CSV."""
    out = io.StringIO(newline="")
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(out, quoting=draw(QUOTING), lineterminator=ending, delimiter=draw(st.sampled_from(",;")))
    writer.writerows(draw(ROWS))
    text = out.getvalue()
    if draw(st.booleans()):
        text = text.removesuffix(ending)
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


def records_of(content: bytes) -> list[str]:
    """The records of a content as they are written, found by reading one character after another."""
    found, begin, inside = [], 0, False
    text = content.decode()
    for position, character in enumerate(text):
        inside ^= character == '"'
        if character == "\n" and not inside:
            found.append(text[begin : position + 1])
            begin = position + 1
    return found + ([text[begin:]] if begin < len(text) else [])


@given(contents(), SPECS, st.integers(1, 130), st.integers(-1, 80))
def test_parts_are_whole_records_in_order_and_the_header_leads_each(
    content: bytes, spec: SplitSpec, block: int, small: int
) -> None:
    records = records_of(content)
    header = records[:1] if spec.header else []
    parts = [records_of(part) for part in split(content, spec, block=block, small=small)]
    assert all(part[: len(header)] == header for part in parts)
    bodies = [part[len(header) :] for part in parts]
    assert all(bodies)
    assert list(itertools.chain.from_iterable(bodies)) == records[len(header) :]
    if spec.at_once:
        assert all(len(body) == spec.at_once for body in bodies[:-1])
    elif spec.count:
        assert len(bodies) <= spec.count
    else:
        for part, after in itertools.zip_longest(parts, bodies[1:]):
            size = len("".join(part).encode())
            assert size <= spec.size or len(part) == len(header) + 1, "one record alone may be larger"
            assert after is None or size + len(after[0].encode()) > spec.size, "and another did not fit"


@given(contents(), SPECS.filter(lambda spec: spec.header), st.integers(1, 130))
def test_merging_what_was_split_is_the_content(content: bytes, spec: SplitSpec, block: int) -> None:
    parts = split(content, spec, block=block)
    if parts:
        assert merged(parts, "csv", block=block) == content


@given(contents(), SPECS.filter(lambda spec: not spec.header))
def test_putting_parts_without_a_header_together_is_the_content(content: bytes, spec: SplitSpec) -> None:
    assert merged(split(content, spec), "concat") == content


def test_a_file_of_many_blocks_is_cut_as_in_one() -> None:
    content = b"id,text\n" + b"".join(b'%d,"a ""line""\nand, more"\n' % number for number in range(3000))
    whole = split(content, SplitSpec(size=4096, header=True, format="csv"), block=1 << 20)
    assert len(whole) > 15
    for block in (64, 100, 4097):
        assert split(content, SplitSpec(size=4096, header=True, format="csv"), block=block) == whole
    assert [next(csv.reader(io.StringIO(part.decode(), newline=""))) for part in whole] == [["id", "text"]] * len(whole)


def test_a_record_larger_than_many_blocks_is_one_part() -> None:
    large = b'1,"' + b"x\n" * 5000 + b'"\n'
    parts = split(b"0,a\n" + large + b"2,b\n", SplitSpec(size=100, format="csv"), block=64)
    assert parts == [b"0,a\n", large, b"2,b\n"]


@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'a,b\n1,"x\n2,y\n', "at byte 6: a field is quoted from here on and never closed"),
        (b'a,5" pipe\nb,c\nd,"e"\n', "at byte 3: a quotation mark in the middle of a field"),
        (b'a,b\n1,"x\ny"z",1\nc,d\n"e",f\n', "at byte 10: a quoted field that spans lines is closed here, and goes on"),
    ],
)
def test_quotes_that_belong_to_no_pair_are_an_error_and_not_a_wrong_cut(
    content: bytes, message: str, block: int
) -> None:
    with pytest.raises(WrongContentError) as raised:
        split(content, SplitSpec(records=1, format="csv"), block=block)
    assert str(raised.value).startswith(message)
    assert "format: text" in str(raised.value)


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
def test_quotes_within_a_line_disturb_nobody(block: int) -> None:
    content = b'size,"of "a" pipe"\n5 "inch",b\n\xef\xbb\xbf"x", "y"\n'
    assert len(split(content, SplitSpec(records=1, format="csv"), block=block)) == 3
    assert split(b'\xef\xbb\xbf"a\nb",c\n1,2\n', SplitSpec(records=1, format="csv"), block=block)[1] == b"1,2\n"


@given(
    st.lists(st.sampled_from(b"a\n"), min_size=1, max_size=60).map(bytes),
    st.integers(0, 1000),
    st.integers(-5, 70),
    st.integers(1, 6),
)
def test_ends_are_found_alike_in_bytes_and_in_bits(text: bytes, base: int, at: int, wanted: int) -> None:
    marked = Marked(base, base + len(text), text, b"\n")
    flags = bytes(byte == 10 for byte in text)
    bits = sum(flag << position for position, flag in enumerate(flags)).to_bytes(8, "little")
    with mock.patch.object(ends, "_WINDOW", 2):
        packed = Packed(base, base + len(text), bits, lambda: flags)
        assert packed.last(base + at) == marked.last(base + at)
        assert packed.first(base + at) == marked.first(base + at)
        assert packed.nth(base, wanted) == marked.nth(base, wanted)
