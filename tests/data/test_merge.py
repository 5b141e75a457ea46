"""Merging in stages, as a tree does on each cluster and then once more, gives what merging at once gives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.split import SplitSpec
from tests.data.parts import merged, split
from tests.data.test_split_parquet import TABLE, WRITERS, parquet_of

LINES = st.lists(st.text("ab \"'é", max_size=5), max_size=4)


def in_stages(contents: Sequence[bytes], form: str, clusters: Sequence[int]) -> bytes:
    """Merged on each cluster, then over these, which are in the order of the first that each has."""
    by_cluster: dict[int, list[bytes]] = {}
    for cluster, content in zip(clusters, contents, strict=True):
        by_cluster.setdefault(cluster, []).append(content)
    return merged([merged(part, form) for part in by_cluster.values()], form)


def in_order(contents: Sequence[bytes], clusters: Sequence[int]) -> list[bytes]:
    """The contents, those of each cluster behind one another."""
    first = {cluster: clusters.index(cluster) for cluster in clusters}
    ranked = sorted(range(len(contents)), key=lambda number: (first[clusters[number]], number))
    return [contents[number] for number in ranked]


def tar_of(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    text = "".join(f"{line}\n" for line in draw(LINES)).encode()
    return text[:-1] if text and draw(st.booleans()) else text


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """CSV with a header, or nothing at all."""
    rows = [f"{number},x\r\n" for number in draw(st.lists(st.integers(0, 9), max_size=3))]
    text = ("id,name\r\n" + "".join(rows)).encode()
    return draw(st.sampled_from([text, text.removesuffix(b"\r\n"), b""]))


@st.composite
def parquets(draw: st.DrawFn) -> bytes:
    begin, count = draw(st.integers(0, 90)), draw(st.integers(0, 10))
    return parquet_of(TABLE.slice(begin, count), draw(st.integers(1, 10)), **draw(st.sampled_from(WRITERS[:1])))


UNITS = {
    "concat": lines(),
    "jsonl": lines(),
    "csv": tables(),
    "parquet": parquets(),
    "tar": st.builds(tar_of, st.sampled_from("ab"), st.binary(max_size=700)),
}


@pytest.mark.parametrize("form", sorted(UNITS))
@given(st.data())
def test_merging_the_units_of_each_cluster_and_then_these_is_merging_them_all(form: str, data: st.DataObject) -> None:
    units = data.draw(st.lists(UNITS[form], min_size=1, max_size=6))
    clusters = data.draw(st.lists(st.integers(0, 2), min_size=len(units), max_size=len(units)))
    staged, once = in_stages(units, form, clusters), merged(in_order(units, clusters), form)
    if form == "csv":  # a row without an end gets one as it is first seen in the merge
        staged, once = (content.replace(b"\r\n", b"\n") for content in (staged, once))
    assert staged == once


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 5), st.data())
def test_what_was_split_and_stayed_in_its_place_is_whole_again(
    numbers: list[int], records: int, data: st.DataObject
) -> None:
    """Pieces that lie next to each other where their parts did: then the order is that of the data, too."""
    content = b"id\n" + b"".join(b"%d\n" % number for number in numbers)
    pieces = split(content, SplitSpec(records=records, header=True, format="csv"))
    clusters = sorted(data.draw(st.lists(st.integers(0, 2), min_size=len(pieces), max_size=len(pieces))))
    assert in_stages(pieces, "csv", clusters) == content


def test_row_groups_of_all_clusters_are_in_one_table() -> None:
    pieces = split(parquet_of(TABLE, 7), SplitSpec(records=7, format="parquet"))
    clusters = [number % 3 for number in range(len(pieces))]
    whole = pq.read_table(io.BytesIO(in_stages(pieces, "parquet", clusters)))
    assert whole.sort_by("id").equals(TABLE)
