"""Parquet is divided by row groups and joined again without being decoded; what comes of it others can read."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.records import thrift
from cluster_agent.data.split import SplitSpec
from tests.data.parts import merged, parts_of, split

TABLE = pa.table(
    {
        "id": pa.array(range(100), pa.int64()),
        "name": pa.array(
            [None if number % 7 == 0 else f"name {number % 5}" for number in range(100)]
        ).dictionary_encode(),
        "at": pa.array([number * 1_000_000 for number in range(100)], pa.timestamp("us", "UTC")),
        "tags": pa.array([["a", "b"][: number % 3] for number in range(100)], pa.list_(pa.string())),
        "place": pa.array([{"x": number / 3, "ok": number % 2 == 0} for number in range(100)]),
    }
).replace_schema_metadata({"made by": "a test"})
WRITERS: list[dict[str, Any]] = [
    {},
    {"compression": "zstd", "write_page_index": True, "data_page_version": "2.0"},
    {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False},
    {"compression": "snappy", "data_page_size": 64, "write_page_checksum": True},
]


def parquet_of(table: pa.Table, rows: int, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=rows, **options)
    return out.getvalue()


def table_of(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


@given(
    st.integers(1, 60),
    st.sampled_from(WRITERS),
    st.sampled_from(["size", "records", "count"]),
    st.integers(1, 130),
    st.integers(1, 10_000),
)
def test_parts_are_parquet_files_of_whole_row_groups_in_order(
    rows: int, options: dict[str, Any], measure: str, value: int, size: int
) -> None:
    content = parquet_of(TABLE, rows, **options)
    spec = SplitSpec(**{measure: size if measure == "size" else value}, format="parquet")  # type: ignore[arg-type]
    parts = split(content, spec)
    tables = [table_of(part) for part in parts]
    assert pa.concat_tables(tables).equals(table_of(content), check_metadata=True)
    for part, table in zip(parts, tables, strict=True):
        groups = pq.ParquetFile(io.BytesIO(part)).num_row_groups
        if measure == "size":
            assert len(part) <= size or groups == 1
        elif measure == "records":
            assert table.num_rows <= value or groups == 1
    if measure == "count":
        groups = -(-TABLE.num_rows // rows)
        assert len(parts) == groups if value >= groups else len(parts) <= value
    whole = merged(parts, "parquet")
    assert table_of(whole).equals(table_of(content), check_metadata=True)
    assert pq.ParquetFile(io.BytesIO(whole)).num_row_groups == pq.ParquetFile(io.BytesIO(content)).num_row_groups


def test_statistics_go_with_their_row_groups() -> None:
    parts = split(parquet_of(TABLE, 25), SplitSpec(records=25, format="parquet"))
    found = [pq.ParquetFile(io.BytesIO(part)).metadata.row_group(0).column(0).statistics for part in parts]
    assert [(each.min, each.max) for each in found] == [(0, 24), (25, 49), (50, 74), (75, 99)]


def test_large_parts_are_files() -> None:
    parts = parts_of(parquet_of(TABLE, 50), SplitSpec(count=2, format="parquet"), small=100)
    assert [part.path is not None for part, _ in parts] == [True, True]


def test_no_rows_make_no_parts_and_no_units_a_file_without_columns() -> None:
    assert split(parquet_of(TABLE.slice(0, 0), 10), SplitSpec(records=1, format="parquet")) == []
    assert table_of(merged([], "parquet")).num_columns == 0
    empty = merged([parquet_of(TABLE.slice(0, 0), 10)] * 2, "parquet")
    assert table_of(empty).equals(TABLE.slice(0, 0).cast(table_of(empty).schema))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (TABLE.rename_columns(["key", "name", "at", "tags", "place"]), "key stands where id does in the first"),
        (TABLE.set_column(0, "id", pa.array(range(100), pa.int32())), "column id has another type"),
        (TABLE.drop_columns(["place"]), "column place is in one of them only"),
    ],
)
def test_files_of_other_schemas_are_not_joined(other: pa.Table, words: str) -> None:
    with pytest.raises(WrongContentError, match=rf"unit 2 \(rows-1\): its schema is not that of the first: {words}"):
        merged([parquet_of(TABLE, 50), parquet_of(other, 50)], "parquet")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,name\n1,a\n", "at byte 0: not a Parquet file: it does not begin with PAR1"),
        (b"", "at byte 0: not a Parquet file"),
        (parquet_of(TABLE, 50)[:-100], "the Parquet file has no footer, so its end is missing"),
        (b"PAR1" + bytes(50) + (50).to_bytes(4, "little") + b"PAR1", "the footer of the Parquet file is damaged"),
    ],
)
def test_what_is_no_parquet_file_is_an_error(content: bytes, words: str) -> None:
    with pytest.raises(WrongContentError, match=words):
        split(content, SplitSpec(records=1, format="parquet"))
    with pytest.raises(WrongContentError, match=rf"unit 1 \(rows-0\): .*{words}"):
        merged([content], "parquet")


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_footer_is_an_error_and_nothing_worse(at: int, value: int) -> None:
    content = bytearray(parquet_of(TABLE, 50))
    content[-9 - at] = value
    with contextlib.suppress(WrongContentError):
        split(bytes(content), SplitSpec(records=1, format="parquet"))


def test_a_footer_is_written_as_it_was_read() -> None:
    for options in WRITERS:
        content = parquet_of(TABLE, 10, **options)
        length = int.from_bytes(content[-8:-4], "little")
        footer = content[-8 - length : -8]
        assert thrift.write(thrift.Reader(footer).struct()) == footer
