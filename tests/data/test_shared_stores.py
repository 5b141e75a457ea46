"""A shared place keeps what it was given until that is deleted, or says that it has not got it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster_agent.data.errors import BadNameError
from cluster_agent.data.shared import names
from cluster_agent.data.shared.base import SharedStore
from cluster_agent.data.shared.config import ObjectsConfig, RedisConfig
from cluster_agent.data.shared.errors import MissingError, SharedStoreError, WrongStorageError
from cluster_agent.data.shared.objects import ObjectStore
from cluster_agent.data.shared.redis import RedisStore
from tests.fixtures.shared import RedisServer, S3Server, redis_in

UNIT, OTHER = bytes(range(16)), bytes(16)
NAME = names.of_unit("default", "run-1", "edge1", UNIT)


@contextlib.asynccontextmanager
async def closing(store: SharedStore) -> AsyncIterator[SharedStore]:
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["redis", "objects"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[SharedStore]:
    made: SharedStore
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        made = RedisStore(redis.config())
    else:
        s3: S3Server = request.getfixturevalue("s3_server")
        made = ObjectStore(s3.config())
    async with closing(made) as opened:
        yield opened


async def listed(store: SharedStore, prefix: str) -> set[str]:
    return {name async for name in store.names(prefix)}


async def test_what_was_put_is_read_until_it_is_deleted(store: SharedStore, tmp_path: Path) -> None:
    await store.put(NAME, b"first")
    await store.put(NAME, b"second")
    assert await store.read(NAME) == b"second", "the newest content is what the name means"
    await store.get(NAME, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"second"
    await store.delete([NAME, names.of_unit("default", "run-1", "edge1", OTHER)])
    with pytest.raises(MissingError):
        await store.read(NAME)
    with pytest.raises(MissingError):
        await store.get(NAME, tmp_path / "again")
    assert not await listed(store, names.directory(NAME))


async def test_a_file_comes_back_as_it_was(store: SharedStore, tmp_path: Path) -> None:
    size = min(store.most, 20 << 20)  # several parts of an object
    data = hashlib.shake_128(b"seed").digest(size)
    (tmp_path / "file").write_bytes(data)
    await store.put(NAME, tmp_path / "file")
    await store.get(NAME, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == data


async def test_an_empty_content_is_a_content(store: SharedStore) -> None:
    await store.put(NAME, b"")
    assert await store.read(NAME) == b""


async def test_many_are_asked_for_together(store: SharedStore) -> None:
    contents = {
        names.of_unit("default", "run-2", "edge1", bytes([number] * 16)): bytes([number]) for number in range(9)
    }
    await store.put_many(contents)
    missing = names.of_unit("default", "run-2", "edge1", b"\xff" * 16)
    assert await store.read_many([*contents, missing]) == [*contents.values(), None]


async def test_a_run_is_swept_and_no_other_that_begins_like_it(store: SharedStore) -> None:
    for run in ("run-1", "run-10"):
        for unit in (UNIT, OTHER):
            await store.put(names.of_unit("default", run, "edge1", unit), b"x")
    await store.put(names.of_unit("default", "run-1", "edge2", UNIT), b"x")
    await store.sweep(names.of_run("default", "run-1", "edge1"))
    assert not await listed(store, names.of_run("default", "run-1", "edge1"))
    assert len(await listed(store, names.of_run("default", "run-10", "edge1"))) == 2
    assert len(await listed(store, names.of_run("default", "run-1", "edge2"))) == 1


async def test_what_is_to_stay_of_a_run_is_not_swept(store: SharedStore) -> None:
    other = names.of_unit("default", "run-1", "edge1", OTHER)
    await store.put(NAME, b"x")
    await store.put(other, b"y")
    assert await store.sweep(names.of_run("default", "run-1", "edge1"), {other}), "it is there"
    assert await listed(store, names.of_run("default", "run-1", "edge1")) == {other}
    await store.delete([other])
    assert not await store.sweep(names.of_run("default", "run-1", "edge1"), {other})


async def test_a_content_gets_another_name_without_being_brought(store: SharedStore) -> None:
    await store.put(NAME, b"content")
    other = names.of_unit("default", "run-2", "edge1", OTHER)
    await store.copy(NAME, other)
    await store.delete([NAME])
    assert (await store.read(other), await store.size(other)) == (b"content", 7)
    with pytest.raises(MissingError):
        await store.size(NAME)
    with pytest.raises(MissingError):
        await store.copy(NAME, other)


async def test_names_are_told_as_they_were_made(store: SharedStore) -> None:
    await store.put(NAME, b"x")
    (found,) = await listed(store, names.of_run("default", "run-1", "edge1"))
    assert found == NAME and names.unit_in(found) == UNIT


async def test_two_with_another_prefix_do_not_see_each_other(redis_server: RedisServer, s3_server: S3Server) -> None:
    for one, two in (
        (RedisStore(redis_server.config("a")), RedisStore(redis_server.config("b"))),
        (ObjectStore(s3_server.config("a")), ObjectStore(s3_server.config("b"))),
    ):
        async with closing(one), closing(two):
            assert one.place != two.place
            await one.put(NAME, b"of one")
            await two.sweep(names.directory(NAME))
            assert await one.read(NAME) == b"of one"


async def test_redis_forgets_by_itself_what_nobody_deletes(redis_server: RedisServer) -> None:
    """A cluster that vanished leaves nothing behind for ever."""
    async with closing(RedisStore(redis_server.config())) as store:
        assert isinstance(store, RedisStore)
        await store.put(NAME, b"x")
        keys = await store._client.keys(f"{store._config.prefix}:*")
        assert len(keys) == 2
        for key in keys:
            assert 0 < await store._client.ttl(key) <= store._config.seconds


async def test_a_redis_that_is_full_or_away_says_so_and_is_used_again(tmp_path: Path) -> None:
    server = redis_in(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    server.start()
    try:
        async with closing(RedisStore(server.config())) as store:
            with pytest.raises(SharedStoreError, match="maxmemory"):
                for number in range(8):
                    await store.put(names.of_unit("default", "r", "c", bytes([number] * 16)), bytes(1 << 20))
            server.stop()
            with pytest.raises(SharedStoreError):
                await store.read(NAME)
            server.start()
            with pytest.raises(MissingError):
                await store.read(NAME)
    finally:
        server.stop()


async def test_a_redis_that_evicts_has_not_got_it(tmp_path: Path) -> None:
    server = redis_in(tmp_path, "--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    try:
        async with closing(RedisStore(server.config())) as store:
            there = [names.of_unit("default", "r", "c", bytes([number] * 16)) for number in range(12)]
            for name in there:
                await store.put(name, bytes(1 << 20))
            found = await store.read_many(there)
            assert None in found and any(found)
    finally:
        server.stop()


async def test_the_password_is_read_from_its_file_at_each_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_in(tmp_path, "--requirepass", "right")
    server.start()
    config = RedisConfig(server.config().url, credentials=tmp_path)
    try:
        async with closing(RedisStore(config)) as store:
            with pytest.raises(SharedStoreError, match=r"password: not there"):
                await store.put(NAME, b"x")
            (tmp_path / "password").write_text("wrong\n")
            with pytest.raises(SharedStoreError):
                await store.put(NAME, b"x")
            (tmp_path / "password").write_text("right\n")
            await store.put(NAME, b"x")
            assert await store.read(NAME) == b"x"
    finally:
        server.stop()
    assert not caplog.records, "the library has nothing to warn of"


async def test_a_bucket_that_can_not_be_used_says_why(tmp_path: Path, s3_server: S3Server) -> None:
    nobody = ObjectStore(
        ObjectsConfig("federation", "http://127.0.0.1:1", credentials=s3_server.credentials, plain=True)
    )
    with pytest.raises(SharedStoreError) as caught:
        await nobody.read(NAME)
    assert not isinstance(caught.value, MissingError)
    config = s3_server.config()
    broken = ObjectStore(ObjectsConfig(config.bucket, config.endpoint, credentials=tmp_path, plain=True))
    with pytest.raises(SharedStoreError, match="access-key-id: not there"):
        await broken.put(NAME, b"x")
    (tmp_path / "access-key-id").write_text("the-key")
    (tmp_path / "secret-access-key").write_text("wrong")
    forger = ObjectStore(ObjectsConfig(config.bucket, config.endpoint, credentials=tmp_path, plain=True))
    with pytest.raises(SharedStoreError, match="403"):
        await forger.put(NAME, b"x")
    other = ObjectStore(ObjectsConfig("none", config.endpoint, credentials=config.credentials, plain=True))
    with pytest.raises(SharedStoreError, match="NoSuchBucket") as caught:
        await other.put(NAME, b"x")
    assert not isinstance(caught.value, MissingError)


@pytest.mark.parametrize("content", ["rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_certificates_of_authorities_that_are_none_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(WrongStorageError, match=r"(?s)^storage\.objects: .*those in .*/ca\.pem: expected PEM"):
        ObjectStore(ObjectsConfig("b", "https://host", authority=tmp_path / "ca.pem"))


def test_a_machine_without_any_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an image of a container is that has nothing but Python."""
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(WrongStorageError, match="install the package ca-certificates"):
        ObjectStore(ObjectsConfig("b", "http://host", plain=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RedisConfig("http://host"), r"storage\.redis\.url: 'http://host' is not redis://"),
        (lambda: RedisConfig("redis://u:p@host"), "put them into files"),
        (lambda: RedisConfig("redis://host:port"), r"storage\.redis\.url"),
        (lambda: RedisConfig("redis://host/name"), "its database is a number"),
        (lambda: ObjectsConfig(""), r"storage\.objects\.bucket"),
        (lambda: ObjectsConfig("b", "http://host"), "without TLS"),
        (lambda: ObjectsConfig("b", "host:9000"), r"is not https://"),
        (lambda: ObjectsConfig("b", "https://host", prefix="/"), "so that all else in the bucket is safe"),
    ],
)
def test_what_cannot_be_meant_names_the_field(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(WrongStorageError, match=message):
        make()


def test_a_place_is_the_same_for_all_who_write_it_otherwise() -> None:
    assert RedisConfig("redis://Host").place == RedisConfig("redis://host:6379/0").place
    assert RedisConfig("redis://host/1").place != RedisConfig("redis://host/0").place
    one, two = (
        ObjectsConfig("b", "https://S3.example.com"),
        ObjectsConfig("b", "https://s3.example.com:443/", "bdw-fed/"),
    )
    assert one.place == two.place
    assert one.place != ObjectsConfig("b", "https://s3.example.com", "other").place


@pytest.mark.parametrize("name", ["", "..", "a/b", "a*", "a\n"])
def test_no_name_from_outside_leaves_its_directory(name: str) -> None:
    for make in (
        lambda: names.of_run(name, "r", "c"),
        lambda: names.of_run("n", name, "c"),
        lambda: names.of_run("n", "r", name),
    ):
        with pytest.raises(BadNameError):
            make()
