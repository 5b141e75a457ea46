"""Objects in the store: what is applied, diffed, read, listed, watched and deleted.

What is applied is judged as a whole, beside all that is stored, and written in one transaction that fails if the
namespace's objects have changed since they were read. The newest revision of an object lies under its name, all
revisions beside it. Runs and agents are shown as objects too: their `spec_json` is the JSON form of their message.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.api.errors import Changed, NotFound, Wrong
from control_plane.api.uses import workflows_used
from control_plane.blobs.base import BlobStore
from control_plane.kinds import OBJECT_KINDS, Kinds, fit_together, object_names, revision_name, writing
from control_plane.models import models_imported
from control_plane.patience import persistently
from control_plane.store.base import Deleted, Stored
from control_plane.store.transaction import Operation

if TYPE_CHECKING:
    from control_plane.api.applying import Loaded

_PAGE = 500
Statuses = Callable[[], Mapping[str, cp.ClusterStatus]]


class Objects:
    """The objects of all namespaces. `statuses` gives the agents as they are now."""

    def __init__(self, kinds: Kinds, blobs: BlobStore, statuses: Statuses) -> None:
        self._kinds = kinds
        self._blobs = blobs
        self._statuses = statuses

    async def apply(self, request: cp.ApplyRequest, by: str, live: Sequence[m.Run]) -> list[cp.Applied]:
        """Store the documents; all of them or none. ProblemError with everything that is wrong with them."""
        await models_imported()
        from control_plane.api.applying import judged, loaded

        namespace = _namespace(request.namespace)
        documents = loaded(namespace, request.documents)

        async def attempt() -> list[cp.Applied]:
            generation = await self._kinds.generations.get(self._kinds.generations.key(namespace))
            stored = await self._around(namespace, documents)
            bundles = {document.bundle for document in documents if document.bundle}
            missing = {digest for digest in bundles if not await self._blobs.touch(digest)}
            applied = judged(documents, stored, missing, live)
            for each in applied:
                expected = request.expected_revisions.get(f"{each.object.kind}/{each.object.name}")
                there = stored.get((each.object.kind, each.object.name))
                if expected is not None and expected != (there.value.revision if there else 0):
                    raise Changed(
                        f"{each.object.kind} {each.object.name} is at revision {there.value.revision if there else 0}, "
                        f"expected was {expected}: look at what has changed, then apply again"
                    )
                if each.change != cp.CHANGE_UNCHANGED:
                    each.object.applied_at, each.object.applied_by = time.time(), by
            operations = [operation for each in applied for operation in self._operations(each, stored)]
            if operations and not request.dry_run:
                await self._clear_remains(applied)
                operations.insert(0, self._next_generation(namespace, generation))
                if not fit_together(operations):
                    count = len(operations) // 2
                    raise Wrong(f"{count} changed documents are too many for one transaction: apply them in parts")
                await self._kinds.commit(operations)
            return applied

        return await persistently(attempt)

    async def diff(self, request: cp.DiffRequest) -> list[cp.DiffResponse.Entry]:
        """What applying the documents would change."""
        await models_imported()
        from control_plane.api.applying import differences, loaded

        namespace = _namespace(request.namespace)
        documents = loaded(namespace, request.documents)
        return differences(documents, await self._around(namespace, documents))

    async def get(self, namespace: str, kind: str, name: str, revision: int = 0) -> cp.Object:
        """The object now, or one of its revisions. NotFound."""
        namespace = _namespace(namespace)
        if kind == "Agent":
            status = self._statuses().get(name)
            if status is None:
                raise NotFound(f"no agent of cluster {name} was ever seen")
            return shown_agent(status)
        if kind == "Run":
            run = await self._kinds.runs.get(self._kinds.runs.key(namespace, name))
            if run is None:
                raise NotFound(f"there is no run {name} in namespace {namespace}")
            return shown_run(run.value)
        repositories = self._kinds.revisions if revision else self._kinds.objects
        names = object_names(_kind(kind), name)
        repository = repositories[kind]
        more = (revision_name(revision),) if revision else ()
        stored = await repository.get(repository.key(namespace, *names, *more))
        if stored is None:
            of = f" of revision {revision}" if revision else ""
            near = "" if revision else await self._near(kind, namespace, name)
            raise NotFound(f"there is no {kind.lower()} {name}{of} in namespace {namespace}{near}")
        return stored.value

    async def _near(self, kind: str, namespace: str, name: str) -> str:
        """Which of the objects that there are may be meant, to be told behind what is not there."""
        from topology.nearest import did_you_mean

        known = [each.value.name for each in (await self._kinds.objects[kind].list(namespace)).items]
        versions = sorted(each for each in known if each.partition("@")[0] == name.partition("@")[0])
        remedy = f"there is {', '.join(versions)}" if versions else did_you_mean(name, sorted(known), "there are")
        return f": {remedy}" if remedy else ""

    async def page(self, request: cp.ListRequest) -> cp.ListResponse:
        """Objects of a kind by name, in pages. The store's revision is that of the whole."""
        namespace = _namespace(request.namespace)
        if request.kind == "Agent":
            listing = await self._kinds.agents.list()
            found = [shown_agent(status) for _, status in sorted(self._statuses().items())]
            revision = listing.revision
        elif request.kind == "Run":
            runs = await self._kinds.runs.list(namespace)
            found, revision = [shown_run(stored.value) for stored in runs.items], runs.revision
        else:
            objects = await self._kinds.objects[_kind(request.kind)].list(namespace)
            found, revision = [stored.value for stored in objects.items], objects.revision
        found = [each for each in found if not request.page_token or each.name > request.page_token]
        found.sort(key=lambda each: each.name)
        page = found[: request.limit or _PAGE]
        token = page[-1].name if len(page) < len(found) else ""
        return cp.ListResponse(objects=page, next_page_token=token, store_revision=revision)

    async def watch(self, request: cp.WatchRequest) -> AsyncGenerator[cp.WatchResponse]:
        """What happens to the objects of a kind after a revision of the store (0 = from now on)."""
        namespace = _namespace(request.namespace)
        after = request.store_revision or await self._kinds.revision()
        if request.kind == "Run":
            async with self._kinds.runs.watch(namespace, after=after) as runs:
                async for news in runs:
                    for event in news.events:
                        if isinstance(event, Deleted):
                            shown, gone = cp.Object(kind="Run", namespace=namespace, name=event.key.names[1]), True
                        else:
                            shown, gone = shown_run(event.value), False
                        if request.name in ("", shown.name):
                            yield cp.WatchResponse(object=shown, deleted=gone, store_revision=event.revision)
            return
        kind = _kind(request.kind)
        async with self._kinds.objects[kind].watch(namespace, after=after) as watch:
            async for changes in watch:
                for change in changes.events:
                    gone = isinstance(change, Deleted)
                    name = "@".join(change.key.names[1:])
                    shown = cp.Object(kind=kind, namespace=namespace, name=name)
                    if not isinstance(change, Deleted):
                        shown = change.value
                    if request.name in ("", shown.name):
                        yield cp.WatchResponse(object=shown, deleted=gone, store_revision=change.revision)

    async def delete(self, request: cp.DeleteRequest, live: Sequence[m.Run]) -> None:
        """Delete an object with all its revisions. NotFound, Changed, InUse."""
        await models_imported()
        from control_plane.api.applying import users

        namespace, kind = _namespace(request.namespace), _kind(request.kind)
        repository, revisions = self._kinds.objects[kind], self._kinds.revisions[kind]
        names = object_names(kind, request.name)

        async def attempt() -> None:
            generation = await self._kinds.generations.get(self._kinds.generations.key(namespace))
            stored = await repository.get(repository.key(namespace, *names))
            if stored is None:
                near = await self._near(kind, namespace, request.name)
                raise NotFound(f"there is no {kind.lower()} {request.name} in namespace {namespace}{near}")
            if request.expected_revision not in (0, stored.value.revision):
                raise Changed(
                    f"{kind} {request.name} is at revision {stored.value.revision}, "
                    f"expected was {request.expected_revision}"
                )
            workflows = await self._kinds.objects["Workflow"].list(namespace)
            users(stored.value, [each.value for each in workflows.items], live)
            operations = [
                self._next_generation(namespace, generation),
                repository.deleting(stored.key, stored.revision),
            ]
            old = [
                revisions.deleting(each.key, each.revision) for each in (await revisions.list(namespace, *names)).items
            ]
            await self._kinds.commit(operations)
            await self._kinds.commit_in_turn(old)

        await persistently(attempt)

    async def _around(self, namespace: str, documents: Sequence[Loaded]) -> dict[tuple[str, str], Stored[cp.Object]]:
        """What is stored under the documents' names, the steps and workflows that they use, and all topologies.

        Of workflows that are used also those that they use in turn, so that one that needs itself is found.
        """
        wanted = {(document.kind, document.name) for document in documents}
        wanted |= {("Step", use) for document in documents for use in document.uses}
        wanted |= {("Workflow", name) for document in documents for name in document.workflows}
        stored: dict[tuple[str, str], Stored[cp.Object]] = {}
        looked: set[tuple[str, str]] = set()
        while wanted:
            kind, name = wanted.pop()
            looked.add((kind, name))
            repository = self._kinds.objects[kind]
            there = await repository.get(repository.key(namespace, *object_names(kind, name)))
            if there is not None:
                stored[kind, name] = there
                if kind == "Workflow":
                    wanted |= {(kind, other) for other in workflows_used(there.value)} - looked
        for topology in (await self._kinds.objects["Topology"].list(namespace)).items:
            stored["Topology", topology.value.name] = topology
        given = {(document.kind, document.name) for document in documents}
        if any(kind == "Step" and (kind, name) not in stored for kind, name in looked - given):
            for step in (await self._kinds.objects["Step"].list(namespace)).items:  # to say which was meant
                stored.setdefault(("Step", step.value.name), step)
        return stored

    async def _clear_remains(self, applied: Sequence[cp.Applied]) -> None:
        """Delete revisions of objects that are made now: a crash has left them when their last one was deleted."""
        for each in applied:
            if each.change == cp.CHANGE_CREATED:
                revisions = self._kinds.revisions[each.object.kind]
                names = object_names(each.object.kind, each.object.name)
                remains = await revisions.list(each.object.namespace, *names)
                await self._kinds.commit_in_turn([revisions.deleting(old.key, old.revision) for old in remains.items])

    def _operations(self, applied: cp.Applied, stored: Mapping[tuple[str, str], Stored[cp.Object]]) -> list[Operation]:
        if applied.change == cp.CHANGE_UNCHANGED:
            return []
        fresh = applied.object
        names = object_names(fresh.kind, fresh.name)
        repository, revisions = self._kinds.objects[fresh.kind], self._kinds.revisions[fresh.kind]
        key = repository.key(fresh.namespace, *names)
        kept = revisions.key(fresh.namespace, *names, revision_name(fresh.revision))
        return [
            writing(repository, key, stored.get((fresh.kind, fresh.name)), fresh),
            revisions.creating(kept, fresh),
        ]

    def _next_generation(self, namespace: str, before: Stored[s.Generation] | None) -> Operation:
        number = before.value.number + 1 if before else 1
        key = self._kinds.generations.key(namespace)
        return writing(self._kinds.generations, key, before, s.Generation(number=number))


def shown_run(run: m.Run) -> cp.Object:
    """A run in the form of an object."""
    return cp.Object(
        namespace=run.namespace,
        kind="Run",
        name=run.name,
        revision=run.plan_revision,
        spec_json=_json(run),
        applied_at=run.submitted_at,
        applied_by=run.submitted_by,
    )


def shown_agent(status: cp.ClusterStatus) -> cp.Object:
    """An agent in the form of an object."""
    return cp.Object(kind="Agent", name=status.name, spec_json=_json(status), applied_at=status.last_seen)


def _json(message: Message) -> str:
    from google.protobuf.json_format import MessageToJson  # takes long to import

    return MessageToJson(message, indent=None)


def _namespace(namespace: str) -> str:
    return namespace or "default"


def _kind(kind: str) -> str:
    if kind not in OBJECT_KINDS:
        raise Wrong(f"{kind[:80]!r} is not a kind of object here: expected {', '.join(OBJECT_KINDS)}")
    return kind
