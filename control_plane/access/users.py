"""Who has which role: role bindings in the store, at hand in memory, and what follows from them.

A subject has one role in a namespace and one in all of them; the higher of those, over the caller's name and groups,
is what counts. What this hub has written holds at once, what another hub has as soon as the watch tells. While the
store is away, what was known last goes on to hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from control_plane.access.caller import CALLER, GROUP, OIDC, Caller, checked_subject
from control_plane.access.errors import NoSuchBinding
from control_plane.access.rules import Need, Role, place
from control_plane.kinds import Kinds, writing
from control_plane.patience import persistently
from control_plane.store.base import Deleted, Listing
from control_plane.store.keys import Key
from wire.digests import bytes_digest


class Users:
    """The role bindings. `admins` are certificates' names that are admins everywhere, whatever is bound.

    `changed` is called when one is another.
    """

    def __init__(self, kinds: Kinds, admins: Iterable[str]) -> None:
        self._kinds = kinds
        self._admins = frozenset(checked_subject(name) for name in admins)
        self._known: dict[Key, tuple[int, access_pb2.RoleBinding | None]] = {}
        self._roles: dict[tuple[str, str], Role] = {}
        self.changed: Callable[[], None] = lambda: None

    async def load(self) -> Listing[access_pb2.RoleBinding]:
        """Read all bindings. Returns what `keep` goes on from."""
        listing = await persistently(self._kinds.bindings.list, None)
        for stored in listing.items:
            self._learn(stored.key, stored.revision, stored.value)
        return listing

    async def keep(self, listing: Listing[access_pb2.RoleBinding]) -> None:
        """Follow the bindings in the store."""
        async with self._kinds.bindings.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    self._learn(event.key, event.revision, None if isinstance(event, Deleted) else event.value)

    def role(self, caller: Caller, namespace: str) -> Role:
        """The caller's role there; ROLE_UNSPECIFIED if they have none."""
        if caller.name in self._admins:
            return access_pb2.ROLE_ADMIN
        found: Role = access_pb2.ROLE_UNSPECIFIED
        for subject in caller.subjects:
            for where in {namespace, ""}:
                found = max(found, self._roles.get((subject, where), access_pb2.ROLE_UNSPECIFIED))
        return found

    def lacking(self, caller: Caller, needs: Iterable[Need]) -> Need | None:
        """The first need that the caller's roles don't meet; None if they meet all."""
        return next((need for need in needs if self.role(caller, need.namespace) < need.role), None)

    def shown(self, statuses: Mapping[str, cp.ClusterStatus]) -> dict[str, cp.ClusterStatus]:
        """Clusters' statuses as the caller of this call may see them: of runs only those in their namespaces."""
        caller = CALLER.get()
        found = {}
        for cluster, status in statuses.items():
            shown = found[cluster] = cp.ClusterStatus()
            shown.CopyFrom(status)
            held = [each for each in status.held if self.role(caller, each.namespace) >= access_pb2.ROLE_VIEWER]
            del shown.held[:]
            shown.held.extend(held)
        return found

    def bindings(self, namespace: str = "") -> list[access_pb2.RoleBinding]:
        """All bindings; with a namespace those that count there."""
        found = [binding for _, binding in self._known.values() if binding is not None]
        chosen = [each for each in found if not namespace or each.namespace in ("", namespace)]
        return sorted(chosen, key=lambda each: (each.subject, each.namespace))

    def with_certificates(self) -> list[access_pb2.RoleBinding]:
        """What users with certificates may do, the admins among them: for agents, which know no tokens."""
        found = [
            access_pb2.RoleBinding(subject=each.subject, namespace=each.namespace, role=each.role)
            for each in self.bindings()
            if not each.subject.startswith((OIDC, GROUP))
        ]
        admins = [access_pb2.RoleBinding(subject=name, role=access_pb2.ROLE_ADMIN) for name in sorted(self._admins)]
        return [*admins, *found]

    async def grant(self, subject: str, namespace: str, role: Role, by: str) -> access_pb2.RoleBinding:
        """Bind a role, in place of what was bound there. InvalidSubject, InvalidName."""
        key = self._key(subject, namespace)
        binding = access_pb2.RoleBinding(
            subject=subject, namespace=namespace, role=role, granted_at=time.time(), granted_by=by
        )

        async def attempt() -> int:
            before = await self._kinds.bindings.get(key)
            return await self._kinds.commit([writing(self._kinds.bindings, key, before, binding)])

        self._learn(key, await persistently(attempt), binding)
        return binding

    async def revoke(self, subject: str, namespace: str) -> None:
        """Take a role away. NoSuchBinding, InvalidSubject, InvalidName."""
        key = self._key(subject, namespace)

        async def attempt() -> int:
            before = await self._kinds.bindings.get(key)
            if before is None:
                raise NoSuchBinding(f"{subject} has no role that was granted {place(namespace)}")
            return await self._kinds.bindings.delete(key, before.revision)

        self._learn(key, await persistently(attempt), None)

    def _key(self, subject: str, namespace: str) -> Key:
        name = bytes_digest(checked_subject(subject).encode())[:16].hex()
        where = ("namespace", namespace) if namespace else ("everywhere",)
        return self._kinds.bindings.key(*where, name)

    def _learn(self, key: Key, revision: int, binding: access_pb2.RoleBinding | None) -> None:
        """Take it over, unless something newer is known: our own writes are known before the watch tells."""
        known, before = self._known.get(key, (0, None))
        if revision <= known:
            return
        self._known[key] = revision, binding
        if before is not None:
            self._roles.pop((before.subject, before.namespace), None)
        if binding is not None:
            self._roles[binding.subject, binding.namespace] = binding.role
        self.changed()
