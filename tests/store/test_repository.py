"""Values behind revisions: nothing is overwritten that was not read, however many write at once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bdw_fed.v1 import model_pb2 as m
from control_plane.store.errors import AlreadyExists, Conflict, InvalidName, NotFound, TooLarge, Unreadable
from control_plane.store.etcd.errors import FenceLost
from control_plane.store.etcd.lease import Lease, revoke
from control_plane.store.etcd.lock import acquire
from control_plane.store.keys import Key, prefix_of
from control_plane.store.repository import EtcdRepository, Store

Runs = EtcdRepository[m.Run]


async def test_a_value_lives_from_create_to_delete(runs: Runs, namespace: str) -> None:
    key = runs.key(namespace, "a")
    assert await runs.get(key) is None
    created = await runs.create(key, m.Run(name="a", workflow="w1"))
    with pytest.raises(AlreadyExists, match=f"runs/{namespace}/a exists already, at revision {created}"):
        await runs.create(key, m.Run(name="other"))
    updated = await runs.update(key, m.Run(name="a", workflow="w2"), created)
    stored = await runs.get(key)
    assert stored is not None
    assert (stored.key, stored.value.workflow, stored.revision, stored.created) == (key, "w2", updated, created)
    with pytest.raises(Conflict) as conflict:
        await runs.update(key, m.Run(), created)
    assert (conflict.value.expected, conflict.value.current) == (created, updated)
    with pytest.raises(Conflict):
        await runs.delete(key, created)
    await runs.delete(key, updated)
    with pytest.raises(NotFound):
        await runs.update(key, m.Run(), updated)
    with pytest.raises(NotFound):
        await runs.delete(key, updated)


async def test_a_list_has_what_its_names_begin_with_and_no_neighbours(runs: Runs, namespace: str) -> None:
    for names in (("a", "1"), ("a", "2"), ("ab", "3")):
        await runs.create(runs.key(namespace, *names), m.Run(name=names[1]))
    listing = await runs.list(namespace, "a")
    assert [stored.key.names for stored in listing.items] == [(namespace, "a", "1"), (namespace, "a", "2")]
    assert [stored.value.name for stored in (await runs.list(namespace)).items] == ["1", "2", "3"]


async def test_many_mutations_at_once_all_count(runs: Runs, namespace: str) -> None:
    key = runs.key(namespace, "counted")
    await runs.create(key, m.Run())

    async def add(who: int) -> None:
        for n in range(5):

            def change(run: m.Run) -> m.Run:
                run.name += f"{who}.{n} "  # noqa: B023  (called before the next turn)
                return run

            await runs.mutate(key, change)

    await asyncio.gather(*(add(who) for who in range(8)))
    stored = await runs.get(key)
    assert stored is not None
    assert sorted(stored.value.name.split()) == sorted(f"{who}.{n}" for who in range(8) for n in range(5))


async def test_a_mutation_that_changes_nothing_writes_nothing(runs: Runs, namespace: str) -> None:
    key = runs.key(namespace, "a")
    revision = await runs.create(key, m.Run(name="a"))
    assert (await runs.mutate(key, lambda run: run)).revision == revision
    assert (await runs.mutate(key, lambda _: None)).revision == revision
    with pytest.raises(NotFound):
        await runs.mutate(runs.key(namespace, "none"), lambda run: run)


async def test_a_transaction_over_several_kinds_is_all_or_nothing(store: Store, runs: Runs, namespace: str) -> None:
    fragments = store.repository("fragments", m.Assignment)
    run, fragment = runs.key(namespace, "a"), fragments.key("edge1", namespace, "a")
    revision = await store.commit([runs.creating(run, m.Run(name="a")), fragments.creating(fragment, m.Assignment())])
    stored = await fragments.get(fragment)
    assert stored is not None
    assert stored.revision == revision
    with pytest.raises(Conflict) as conflict:
        await store.commit(
            [
                runs.updating(run, m.Run(name="b"), revision),
                fragments.unchanged(fragment, revision - 1),
                runs.creating(runs.key(namespace, "c"), m.Run()),
            ]
        )
    assert conflict.value.key == str(fragment)
    assert [stored.value.name for stored in (await runs.list(namespace)).items] == ["a"]
    with pytest.raises(AlreadyExists):
        await store.commit([runs.unchanged(run, 0), fragments.deleting(fragment, revision)])
    await store.commit([runs.unchanged(run, revision), fragments.deleting(fragment, revision)])
    assert await fragments.get(fragment) is None


async def test_what_is_too_large_is_refused_before_it_is_sent(store: Store, runs: Runs, namespace: str) -> None:
    key = runs.key(namespace, "a")
    with pytest.raises(TooLarge, match=f"runs/{namespace}/a would have .* blob store"):
        await runs.create(key, m.Run(name="x" * (256 << 10)))
    await runs.create(key, m.Run(name="x" * (255 << 10)))
    many = [runs.creating(runs.key(namespace, f"n{n}"), m.Run()) for n in range(129)]
    with pytest.raises(TooLarge, match="129 operations"):
        await store.commit(many)
    await store.commit(many[:128])
    large = [runs.creating(runs.key(namespace, f"l{n}"), m.Run(name="x" * (250 << 10))) for n in range(5)]
    with pytest.raises(TooLarge, match="blobs"):
        await store.commit(large)


async def test_writes_under_a_lock_end_with_it(store: Store, runs: Runs, namespace: str) -> None:
    key = runs.key(namespace, "a")
    lock = runs.key(namespace, "lock").raw
    async with asyncio.timeout(20), Lease(store.kv.client, 60) as lease, Lease(store.kv.client, 60) as other:
        held = await acquire(store.kv, lock, lease, b"one")
        revision = await store.commit([runs.creating(key, m.Run())], under=held)
        await revoke(store.kv.client, lease.id)
        next_held = await acquire(store.kv, lock, other, b"two")
        with pytest.raises(FenceLost):
            await store.commit([runs.updating(key, m.Run(name="late"), revision)], under=held)
        await store.commit([runs.updating(key, m.Run(name="new"), revision)], under=next_held)


async def test_a_key_bound_to_a_lease_goes_with_it(store: Store, runs: Runs, namespace: str) -> None:
    key = runs.key(namespace, "a")
    async with Lease(store.kv.client, 60) as lease:
        await runs.create(key, m.Run(), lease=lease.id)
    assert await runs.get(key) is None


async def test_a_value_that_is_no_message_is_named(store: Store, runs: Runs, namespace: str) -> None:
    await store.kv.put(runs.key(namespace, "a").raw, b"\xff\xff\xff")
    with pytest.raises(Unreadable, match=rf"runs/{namespace}/a at revision \d+ is not a bdw_fed\.v1\.Run"):
        await runs.list(namespace)


@given(st.lists(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", fullmatch=True), min_size=1, max_size=4))
def test_a_key_is_read_back_as_it_was_written(names: list[str]) -> None:
    key = Key("runs", tuple(names))
    assert Key.parse(key.raw) == key
    assert key.raw.startswith(prefix_of("runs", key.names[:-1]))


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", ".a", "a.", "-a", "a" * 64, "a\n", "a b", "é", "a\0"])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    for make in (lambda: Key("runs", (name,)), lambda: Key(name, ("a",)), lambda: prefix_of("runs", (name,))):
        with pytest.raises(InvalidName):
            make()


async def test_keys_of_another_kind_are_refused(runs: Runs) -> None:
    with pytest.raises(ValueError, match="not a key of kind runs"):
        await runs.get(Key("objects", ("a",)))
    with pytest.raises(ValueError, match="from 1 on"):
        await runs.update(runs.key("a"), m.Run(), 0)


async def test_a_look_sees_several_kinds_as_they_are_at_one_moment(
    store: Store, runs: EtcdRepository[m.Run], namespace: str
) -> None:
    plans = store.repository("plans", m.Plan)
    there, absent = runs.key(namespace, "there"), runs.key(namespace, "absent")
    for name in ("a", "b", "c"):
        await plans.create(plans.key(namespace, name), m.Plan(run=name))
    written = await runs.create(there, m.Run(name="there"))
    look = await store.look([there, absent], [("plans", namespace)], most=2)
    assert look.revision >= written
    found = runs.seen(look, there)
    assert found is not None
    assert (found.value.name, found.revision) == ("there", written)
    assert runs.seen(look, absent) is None
    assert [each.value.run for each in plans.seen_below(look, namespace)] == ["a", "b"]
    with pytest.raises(KeyError):
        runs.seen(look, runs.key(namespace, "not-looked-at"))
