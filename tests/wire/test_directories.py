"""A directory that is packed and unpacked is the same directory, and an archive can do no harm."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.settings import examples
from wire.digests import content_digest
from wire.directories import DirectoryError, pack, unpack

Tree = dict[str, "bytes | tuple[bytes, bool] | Tree"]

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
FILES = st.tuples(st.binary(max_size=2000), st.booleans())
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(NAMES, FILES, max_size=4),
    lambda below: st.dictionaries(NAMES, st.one_of(FILES, below), max_size=4),
    max_leaves=12,
)


def plant(tree: Tree, directory: Path) -> None:
    directory.mkdir()
    for name in sorted(tree, reverse=True):  # in another order than they are packed
        found = tree[name]
        if isinstance(found, dict):
            plant(found, directory / name)
        else:
            content, executable = found if isinstance(found, tuple) else (found, False)
            (directory / name).write_bytes(content)
            (directory / name).chmod(0o750 if executable else 0o640)


def found_in(directory: Path) -> Tree:
    return {
        path.name: found_in(path) if path.is_dir() else (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in directory.iterdir()
    }


def packed(directory: Path, archive: Path) -> Path:
    pack(directory, archive)
    return archive


def opened(archive: Path, target: Path, *, writable: bool = False) -> Path:
    with archive.open("rb") as file:
        unpack(file, target, writable=writable)
    return target


def tar_of(place: Path, *members: tarfile.TarInfo) -> Path:
    """An archive as another program could have made it; what each file holds is its name."""
    with tarfile.open(place, "w") as tar:
        for member in members:
            content = member.name.encode() if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return place


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@given(TREES)
def test_what_is_unpacked_is_what_was_packed_and_is_packed_into_the_same_bytes(tree: Tree) -> None:
    with TemporaryDirectory() as made:
        place = Path(made)
        plant(tree, place / "written")
        first = packed(place / "written", place / "first.tar")
        read = opened(first, place / "read")
        assert found_in(read) == tree
        os.utime(read, (0, 0))
        assert content_digest(packed(read, place / "second.tar")) == content_digest(first)


def test_what_is_read_cannot_be_written_to_and_what_is_saved_can(tmp_path: Path) -> None:
    plant({"run.sh": (b"#!", True), "below": {"rows.csv": b"1"}}, tmp_path / "written")
    archive = packed(tmp_path / "written", tmp_path / "a.tar")

    def rights(directory: Path) -> list[int]:
        return [(directory / name).stat().st_mode & 0o777 for name in ("run.sh", "below/rows.csv")]

    assert rights(opened(archive, tmp_path / "read")) == [0o555, 0o444]
    assert rights(opened(archive, tmp_path / "saved", writable=True)) == [0o755, 0o644]


def _a_link(directory: Path) -> None:
    (directory / "below").mkdir()
    (directory / "below" / "there").symlink_to("/etc/passwd")


def _a_link_to_a_directory(directory: Path) -> None:
    (directory / "there").symlink_to("/etc")


def _a_pipe(directory: Path) -> None:
    os.mkfifo(directory / "pipe")


def _a_name_in_latin_1(directory: Path) -> None:
    (Path(os.fsdecode(os.fsencode(directory) + b"/caf\xe9"))).write_text("")


def _too_many_within_each_other(directory: Path) -> None:
    (directory / "/".join(["d"] * 101)).mkdir(parents=True)


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (_a_link, r"below/there is a link, .*put the file itself there"),
        (_a_link_to_a_directory, "there is a link"),
        (_a_pipe, "pipe is neither a file nor a directory"),
        (_a_name_in_latin_1, r"'caf\\udce9' is not a name in UTF-8"),
        (_too_many_within_each_other, "more than 100 directories deep"),
    ],
)
def test_what_cannot_be_the_same_elsewhere_is_refused_by_name(
    tmp_path: Path, put: Callable[[Path], None], told: str
) -> None:
    (tmp_path / "written").mkdir()
    put(tmp_path / "written")
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DirectoryError, match=told):
        pack(tmp_path / "written", tmp_path / "a.tar")
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "a/..", ".."])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    archive = tar_of(tmp_path / "a.tar", member(name))
    with pytest.raises(DirectoryError, match="leads out of the directory"):
        opened(archive, tmp_path / "read")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([member("a", tarfile.SYMTYPE, "/etc"), member("a/b")], "'a' in it is neither a file nor a directory"),
        ([member("b"), member("a", tarfile.LNKTYPE, "b")], "'a' in it is neither"),
        ([member("a", tarfile.FIFOTYPE)], "'a' in it is neither"),
        ([member("a"), member("a")], "'a' stands in it twice"),
        ([member("a"), member("./a")], "'a' stands in it twice"),
        ([member("a"), member("a", tarfile.DIRTYPE)], "'a' stands in it twice"),
        ([member("a"), member("a/b")], "'a' stands in it twice"),
        ([member("")], "stands in it twice"),
    ],
)
def test_an_archive_becomes_files_and_directories_and_nothing_else(
    tmp_path: Path, members: list[tarfile.TarInfo], told: str
) -> None:
    archive = tar_of(tmp_path / "a.tar", *members)
    with pytest.raises(DirectoryError, match=told):
        opened(archive, tmp_path / "read")


def test_an_archive_of_another_program_is_one_too(tmp_path: Path) -> None:
    members = [member("./", tarfile.DIRTYPE), member("./b/c"), member("a"), member("b", tarfile.DIRTYPE)]
    read = opened(tar_of(tmp_path / "a.tar", *members), tmp_path / "read")
    assert found_in(read) == {"a": (b"a", False), "b": {"c": (b"./b/c", False)}}


@given(st.binary(max_size=3000))
@settings(max_examples=examples(50))
def test_whatever_is_no_archive_is_told_so(content: bytes) -> None:
    with TemporaryDirectory() as made:
        try:
            unpack(io.BytesIO(content), Path(made) / "read")
        except DirectoryError as error:
            assert str(error)
        else:
            assert not any((Path(made) / "read").iterdir())


def test_a_damaged_archive_is_told_so(tmp_path: Path) -> None:
    plant({"a": b"1" * 5000, "b": b"2" * 5000}, tmp_path / "written")
    whole = packed(tmp_path / "written", tmp_path / "a.tar").read_bytes()
    for cut in (100, 700, 4000, 7000):
        with pytest.raises(DirectoryError, match="damaged"):
            unpack(io.BytesIO(whole[:cut]), tmp_path / str(cut))
