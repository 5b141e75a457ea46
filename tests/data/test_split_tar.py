"""A tar is cut between its members, each part is an archive that others can read, and no member is lost."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.data.errors import WrongContentError
from cluster_agent.data.split import SplitSpec
from tests.data.parts import merged, parts_of, split

Entries = list[tuple[str, bytes]]
NAMES = st.one_of(
    st.text(st.sampled_from("abü/ "), min_size=1, max_size=8).filter(lambda name: bool(name.strip("/ "))),
    st.text(st.sampled_from("xy"), min_size=120, max_size=180),
)
ENTRIES = st.lists(st.tuples(NAMES, st.binary(max_size=1200)), max_size=6)
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


def tar_of(entries: Entries, form: int = tarfile.PAX_FORMAT, pax_headers: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, pax_headers=pax_headers or {}) as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def entries_of(content: bytes) -> Entries:
    found = []
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member)
            found.append((member.name, file.read() if file is not None else b""))
    return found


@given(
    ENTRIES,
    FORMATS,
    st.sampled_from([{"records": 1}, {"records": 2}, {"size": 3000}, {"count": 3}]),
    st.integers(1, 3000),
)
def test_parts_are_archives_of_whole_members_in_order(
    entries: Entries, form: int, measure: dict[str, int], block: int
) -> None:
    content = tar_of(entries, form)
    parts = split(content, SplitSpec(**measure, format="tar"), block=block)  # type: ignore[arg-type]
    assert all(part.endswith(bytes(1024)) and len(part) % 512 == 0 for part in parts)
    found = [entries_of(part) for part in parts]
    assert [entry for part in found for entry in part] == entries_of(content)
    if "records" in measure:
        assert all(len(part) == measure["records"] for part in found[:-1])
    elif "count" in measure:
        assert len(found) <= measure["count"]
    else:
        assert all(len(part) <= 3000 or len(found[number]) == 1 for number, part in enumerate(parts))
    assert entries_of(merged(parts, "tar", block=block)) == entries_of(content)


@given(ENTRIES, FORMATS, st.integers(1, 3000), st.booleans())
def test_unpacked_each_file_is_a_part_with_its_name(entries: Entries, form: int, block: int, compressed: bool) -> None:
    content = tar_of(entries, form)
    parts = parts_of(
        gzip.compress(content) if compressed else content, SplitSpec(members=True, format="tar"), block=block
    )
    expected = [(PurePosixPath(name).name, data) for name, data in entries_of(content)]
    assert [(part.name, data) for part, data in parts] == expected


def test_what_is_said_of_all_members_leads_each_part_and_is_merged_once() -> None:
    content = tar_of([("a", b"1"), ("b", b"2")], pax_headers={"comment": "c0ffee"})
    parts = split(content, SplitSpec(records=1, format="tar"), block=512)
    for part in parts:
        with tarfile.open(fileobj=io.BytesIO(part)) as archive:
            assert archive.pax_headers == {"comment": "c0ffee"}
    whole = merged(parts, "tar", block=512)
    assert whole == content.rstrip(b"\0") + bytes(len(whole) - len(content.rstrip(b"\0")))


def test_an_archive_of_nothing_makes_no_parts() -> None:
    for measure in ({"records": 1}, {"members": True}):
        assert split(tar_of([]), SplitSpec(**measure, format="tar")) == []  # type: ignore[arg-type]
    assert entries_of(merged([], "tar")) == []


def test_directories_are_passed_over_and_links_are_an_error() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/f", tarfile.REGTYPE), ("l", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "d/f" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member)
    with pytest.raises(WrongContentError, match=r"l is neither a file nor a directory.*--dereference"):
        split(out.getvalue(), SplitSpec(members=True, format="tar"))
    assert len(split(out.getvalue(), SplitSpec(records=1, format="tar"))) == 3


@pytest.mark.parametrize("cut", [100, 600, 1024 + 512, -1])
def test_a_truncated_archive_is_an_error(cut: int) -> None:
    content = tar_of([("a", b"x" * 600), ("b", b"y")]).rstrip(b"\0")[:cut]
    for measure in ({"records": 1}, {"members": True}, {"count": 2}):
        with pytest.raises(WrongContentError, match="ends without the empty blocks"):
            split(content, SplitSpec(**measure, format="tar"))  # type: ignore[arg-type]
    with pytest.raises(WrongContentError, match=r"unit 1 \(rows-0\): .*ends without the empty blocks"):
        merged([content], "tar")


def test_what_is_no_archive_is_an_error() -> None:
    with pytest.raises(WrongContentError, match="at byte 0: not a header of a tar member"):
        split(b"hello " * 200, SplitSpec(records=1, format="tar"))
