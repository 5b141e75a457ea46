"""Bundles: the same code is the same bytes, what comes out is what went in, and an archive can do no harm."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflow import bundle
from workflow.bundle import BundleError, pack, unpack

file_names = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."} | bundle.SKIPPED and not name.endswith(".pyc") and len(name.encode()) < 200
)
trees = st.recursive(
    st.tuples(st.binary(max_size=200), st.booleans()),
    lambda inner: st.dictionaries(file_names, inner, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))
own_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def write(tree: object, at: Path) -> None:
    if isinstance(tree, dict):
        at.mkdir()
        for name, inner in tree.items():
            write(inner, at / name)
    else:
        content, executable = tree  # type: ignore[misc]
        at.write_bytes(content)
        at.chmod(0o700 if executable else 0o600)


def tree_at(at: Path) -> object:
    if at.is_dir():
        return {inner.name: tree_at(inner) for inner in at.iterdir()}
    return at.read_bytes(), bool(at.stat().st_mode & 0o100)


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for header, content in members:
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return zstandard.compress(raw.getvalue())


def refused(archive: bytes, directory: Path, most_bytes: int = bundle.MOST_BYTES) -> str:
    """The words in which an archive is refused; nothing of it is left behind."""
    file = directory / "archive"
    file.write_bytes(archive)
    before = sorted(directory.rglob("*"))
    with pytest.raises(BundleError) as error:
        unpack(file, directory / "target", most_bytes)
    assert sorted(directory.rglob("*")) == before
    return str(error.value)


@own_directory
@given(trees)
def test_what_is_unpacked_is_what_was_packed(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    here = tmp_path_factory.mktemp("tree")
    write(tree, here / "code")
    (here / "archive").write_bytes(pack(here / "code"))
    unpack(here / "archive", here / "target")
    assert tree_at(here / "target") == tree
    assert pack(here / "target") == (here / "archive").read_bytes()


def test_the_same_files_give_the_same_bytes_whenever_and_however_they_were_written(tmp_path: Path) -> None:
    for name, order in (("one", ["a", "b", "c"]), ("other", ["c", "a", "b"])):
        (tmp_path / name / "sub").mkdir(parents=True)
        for file in order:
            (tmp_path / name / "sub" / file).write_text(file)
    os.utime(tmp_path / "other" / "sub" / "a", (1, 1))
    (tmp_path / "other" / "sub" / "a").chmod(0o600)
    (tmp_path / "other" / "sub" / "__pycache__").mkdir()
    (tmp_path / "other" / "sub" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (tmp_path / "other" / ".git").mkdir()
    assert pack(tmp_path / "one") == pack(tmp_path / "other")


def test_modes_are_plain_whatever_they_were(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for name, mode in (("script", 0o4711), ("data", 0o666)):
        (tmp_path / "code" / name).write_text(name)
        (tmp_path / "code" / name).chmod(mode)
    (tmp_path / "archive").write_bytes(pack(tmp_path / "code"))
    unpack(tmp_path / "archive", tmp_path / "target")
    modes = {name: (tmp_path / "target" / name).stat().st_mode & 0o7777 for name in ("script", "data")}
    assert modes == {"script": 0o755, "data": 0o644}


def test_what_a_bundle_cannot_hold_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a directory"):
        pack(tmp_path / "missing")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="is a link"):
        pack(tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="neither a file nor a directory"):
        pack(tmp_path)


def test_a_bundle_has_a_bound_both_ways(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").write_bytes(b"x" * 600)
    (tmp_path / "code" / "b").write_bytes(b"x" * 600)
    archive = pack(tmp_path / "code", most_bytes=1200)
    with pytest.raises(BundleError, match="at b"):
        pack(tmp_path / "code", most_bytes=1199)
    assert "more than 1199 bytes" in refused(archive, tmp_path, most_bytes=1199)


def test_a_small_archive_of_very_much_is_stopped_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_FILES", 10)
    header = tarfile.TarInfo("a")
    header.pax_headers = {"comment": "x" * 5_000_000}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header)
    assert "larger than a bundle may be" in refused(zstandard.compress(raw.getvalue()), tmp_path, most_bytes=1000)


@pytest.mark.parametrize("name", ["/etc/cron", "../out", "a/../../out", "a\\b", "", "."])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    refused(archive_of((tarfile.TarInfo("fine"), b"x"), (tarfile.TarInfo(name), b"x")), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("link")
    header.type = kind
    header.linkname = "/etc/passwd"
    assert "neither a file nor a directory" in refused(archive_of((header, b"")), tmp_path)


def test_a_file_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    twice = archive_of((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a"), b"2"))
    assert "twice" in refused(twice, tmp_path)
    below = archive_of((tarfile.TarInfo("a"), b"1"), (tarfile.TarInfo("a/b"), b"2"))
    assert "damaged" in refused(below, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda archive: b"",
        lambda archive: b"not an archive",
        lambda archive: archive[: len(archive) // 2],
        lambda archive: zstandard.compress(b""),
        lambda archive: zstandard.compress(b"x" * 2000),
    ],
)
def test_a_damaged_archive_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").write_bytes(os.urandom(5000))
    assert "damaged" in refused(damage(pack(tmp_path / "code")), tmp_path)


@own_directory
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6))
def test_whatever_is_changed_in_an_archive_it_stays_below_its_target(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    here = tmp_path_factory.mktemp("archive")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name in ("a", "b/c"):
            header = tarfile.TarInfo(name)
            header.size = 5
            archive.addfile(header, io.BytesIO(b"12345"))
    content = bytearray(raw.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    (here / "archive").write_bytes(zstandard.compress(bytes(content)))
    with suppress(BundleError):
        unpack(here / "archive", here / "target")
    assert {path.name for path in here.iterdir()} <= {"archive", "target"}


def test_a_target_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").write_text("new")
    (tmp_path / "archive").write_bytes(pack(tmp_path / "code"))
    (tmp_path / "target").mkdir()
    unpack(tmp_path / "archive", tmp_path / "target")
    assert (tmp_path / "target" / "a").read_text() == "new"
    (tmp_path / "target" / "a").write_text("old")
    unpack(tmp_path / "archive", tmp_path / "target")
    assert (tmp_path / "target" / "a").read_text() == "old"
