"""A blob is all there and right, or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.blobs.directory import DirectoryBlobs
from control_plane.blobs.errors import CorruptBlob, NoSuchBlob, TooLarge, WrongDigest
from wire.digests import bytes_digest

CONTENT = b"0123456789" * 100_000
DIGEST = bytes_digest(CONTENT)


async def pieces(content: bytes = CONTENT, size: int = 70_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(blobs: DirectoryBlobs, digest: bytes = DIGEST) -> bytes:
    async with blobs.get(digest) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_what_was_put_comes_back_however_often_it_is_put(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    assert await blobs.put(DIGEST, pieces()) == len(CONTENT)
    assert await blobs.put(DIGEST, pieces(size=1000)) == len(CONTENT)
    assert await read(DirectoryBlobs(tmp_path / "blobs")) == CONTENT
    assert [digest async for digest in blobs.digests()] == [DIGEST]
    assert await blobs.size(DIGEST) == len(CONTENT)
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700


async def test_content_that_is_not_what_it_claims_leaves_nothing_behind(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path, most_bytes=len(CONTENT))
    with pytest.raises(WrongDigest):
        await blobs.put(DIGEST, pieces(CONTENT[:-1]))
    with pytest.raises(TooLarge):
        await blobs.put(DIGEST, pieces(CONTENT + b"x"))
    assert list(tmp_path.iterdir()) == []
    assert await blobs.size(DIGEST) is None


async def test_a_sender_that_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await DirectoryBlobs(tmp_path).put(DIGEST, broken())
    assert list(tmp_path.iterdir()) == []


async def test_a_blob_that_the_disk_changed_is_not_passed_off_as_whole(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    await blobs.put(DIGEST, pieces())
    place = next(tmp_path.glob("*/*"))
    place.write_bytes(b"x" + CONTENT[1:])
    with pytest.raises(CorruptBlob):
        await read(blobs)


async def test_a_missing_blob_is_said_to_be_missing_and_may_be_deleted(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    await blobs.delete(DIGEST)
    with pytest.raises(NoSuchBlob):
        await read(blobs)
    with pytest.raises(ValueError, match="32 bytes"):
        await blobs.size(b"../../etc/passwd")


async def test_what_was_put_or_asked_for_of_late_is_not_deleted_for_its_age(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    assert not await blobs.touch(DIGEST)
    assert not await blobs.delete_older(DIGEST, 0.0)
    await blobs.put(DIGEST, pieces())
    assert not await blobs.delete_older(DIGEST, 3600.0)
    (file,) = (path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    os.utime(file, (1.0, 1.0))
    assert await blobs.touch(DIGEST)
    assert not await blobs.delete_older(DIGEST, 3600.0)
    assert await read(blobs) == CONTENT
    os.utime(file, (1.0, 1.0))
    assert await blobs.delete_older(DIGEST, 3600.0)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
