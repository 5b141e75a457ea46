"""What a file is cut as is told by its port or its name, and a part is called what it is."""

from __future__ import annotations

import pytest

from workflow.formats import plain_format, plain_name, split_format


@pytest.mark.parametrize(
    ("declared", "name", "form"),
    [
        ("csv", "", "csv"),
        ("2020.csv.gz", "", "csv"),
        ("", "flights.csv.gz", "csv"),
        ("", "EVENTS.NDJSON.ZST", "jsonl"),
        ("", "images.tgz", "tar"),
        ("", "table.parquet", "parquet"),
        ("gz", "rows.tsv.gz", "csv"),
        ("png", "what.ever", "text"),
        ("", "", "text"),
        ("text", "rows.csv", "text"),
    ],
)
def test_the_format_is_what_is_declared_else_what_the_name_says(declared: str, name: str, form: str) -> None:
    assert split_format(declared, name) == form


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.csv.gz", "a.csv"), ("a.tgz", "a.tar"), ("a.csv", "a.csv"), (".gz", ".gz"), ("a.zst", "a"), ("", "")],
)
def test_parts_are_named_as_what_they_are(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_format_that_is_nothing_but_compression_stays_unknown() -> None:
    assert [plain_format(written) for written in ("csv.gz", "csv", "gz", "", "tgz")] == ["csv", "csv", "", "", "tar"]
