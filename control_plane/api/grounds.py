"""What a submission stands on, read at one moment: the workflow, its steps, the topology, what was measured.

The objects are read in one step of etcd, with whatever else the caller wants to know. Which steps a workflow uses is
known only once it is read; so what it used when it was read last is asked for along with it, and the rest, mostly
nothing, afterwards.

What was read before serves again, on the condition that none of the namespace's objects has changed since, which etcd
checks when the run is stored: a topology of hundreds of clusters need not be read for each run. Whether one has changed
this hub has mostly heard before it is asked. What was measured changes with each run, is heard in the same way, and is
no condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import store_pb2 as s
from control_plane.api.errors import NotFound, Wrong
from control_plane.api.uses import steps_used, workflows_used
from control_plane.kinds import Kinds, object_names, revision_name
from control_plane.mirror import Mirror
from control_plane.store.base import Listing, Stored
from control_plane.store.keys import Key
from control_plane.store.repository import Look
from control_plane.store.transaction import Operation

_REMEMBERED = 200  # workflows
_STEPS_AT_ONCE = 100  # in one read of at most 128 keys
_WORKFLOWS_AT_ONCE = 50
_MOST_WORKFLOWS = 50


@dataclass(frozen=True)
class Grounds:
    """What a plan stands on, on these conditions; `steps` and `measured` are by reference ("clean-flights@1").

    `workflows` are those that the workflow uses as steps, at any depth, by name.
    `revision` is the store's, as it was then or since.
    """

    workflow: Stored[cp.Object]
    topology: Stored[cp.Object]
    steps: Mapping[str, cp.Object]
    workflows: Mapping[str, Stored[cp.Object]]
    measured: Mapping[str, s.StepMeasured]
    conditions: Sequence[Operation]
    revision: int


@dataclass(frozen=True)
class _Known:
    """Grounds that were read; their condition is the namespace's generation."""

    grounds: Grounds
    generation: int


class GroundsReader:
    """Reads grounds: `look` first, then `grounds` of what was seen. `keep` is run by the hub as long as it lives."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._generations = Mirror(kinds.generations)
        self._measured = Mirror(kinds.measured)
        self._known: dict[tuple[str, str, str], _Known] = {}

    async def load(self) -> tuple[Listing[s.Generation], Listing[s.StepMeasured]]:
        """Read what is followed. Returns what `keep` goes on from."""
        return await asyncio.gather(self._generations.load(), self._measured.load())

    async def keep(self, listings: tuple[Listing[s.Generation], Listing[s.StepMeasured]]) -> None:
        """Follow how often objects have changed, and what is measured."""
        generations, measured = listings
        async with asyncio.TaskGroup() as both:
            both.create_task(self._generations.keep(generations))
            both.create_task(self._measured.keep(measured))

    def remembered(self, namespace: str, workflow: str, topology: str) -> Grounds | None:
        """Grounds that were read before, if they were and this hub has not heard that they are others now."""
        known = self._recalled((namespace, workflow, topology))
        newest = self._generations.get(namespace)
        if known is None or newest is None or newest.revision != known.generation:
            return None
        return self._as_measured(namespace, known.grounds, max(known.grounds.revision, self._kinds.newest_revision()))

    async def look(
        self, namespace: str, workflow: str, topology: str, also: Sequence[Key] = (), *, whole: bool = False
    ) -> Look:
        """See what there is now. InvalidName if a name is none. No topology: whichever there is.

        Of what was read before only that is seen which tells whether it still holds, unless the `whole` is wanted.
        """
        generation = self._kinds.generations.key(namespace)
        known = self._known.get((namespace, workflow, topology))
        if known and not whole:
            return await self._kinds.look([generation, *also])
        keys = [self._key(namespace, "Workflow", workflow), generation, *also]
        keys += self._step_keys(namespace, list(known.grounds.steps)[:_STEPS_AT_ONCE] if known else ())
        topologies = self._kinds.objects["Topology"]
        if topology:
            return await self._kinds.look([*keys, self._key(namespace, "Topology", topology)])
        return await self._kinds.look(keys, [(topologies.kind, namespace)], most=2)

    async def grounds(
        self,
        namespace: str,
        workflow: str,
        topology: str,
        look: Look,
        revisions: Mapping[str, int] | None = None,
    ) -> Grounds:
        """What was seen, and what was not looked at yet. NotFound and Wrong say what is missing.

        `revisions`: those at which the workflow, and the ones that it uses, are wanted; None: the newest.
        """
        if revisions is None and (still := self._still(namespace, workflow, topology, look)):
            return still
        if self._key(namespace, "Workflow", workflow).raw not in look.items:
            look = await self.look(namespace, workflow, topology, whole=True)
        found = self._found(look, namespace, "Workflow", workflow)
        if revisions is not None:
            found = await self.of_revision("Workflow", found, revisions[workflow])
        if topology:
            where = self._found(look, namespace, "Topology", topology)
        else:
            where = await self._only_topology(namespace, workflow, look)
        workflows = await self._nested(namespace, found.value, revisions or {})
        uses = sorted({use for each in (found, *workflows.values()) for use in steps_used(each.value)})
        rest = [each for each in uses if self._key(namespace, "Step", each).raw not in look.items]
        items = dict(look.items)
        for at in range(0, len(rest), _STEPS_AT_ONCE):
            more = await self._kinds.look(self._step_keys(namespace, rest[at : at + _STEPS_AT_ONCE]))
            items.update(more.items)
        whole = Look(items, look.revision)
        steps = {each: self._found(whole, namespace, "Step", each).value for each in uses}
        conditions = [self._kinds.objects["Topology"].unchanged(where.key, where.revision)]
        if revisions is None:  # what was once a revision does not change
            of_workflows = [found, *workflows.values()]
            conditions += [self._kinds.objects["Workflow"].unchanged(each.key, each.revision) for each in of_workflows]
        grounds = Grounds(found, where, steps, workflows, {}, conditions, look.revision)
        grounds = self._as_measured(namespace, grounds, look.revision)
        if revisions is not None:
            return grounds
        self._remember((namespace, workflow, topology), grounds, look)
        return grounds

    def _still(self, namespace: str, workflow: str, topology: str, look: Look) -> Grounds | None:
        """What was read before, with what is measured now, if nothing of it has changed."""
        known = self._recalled((namespace, workflow, topology))
        if known is None or self._generation(namespace, look) != known.generation:
            return None
        return self._as_measured(namespace, known.grounds, look.revision)

    def _as_measured(self, namespace: str, grounds: Grounds, revision: int) -> Grounds:
        """The same at a later revision of the store, with what this hub has heard of the steps."""
        measured = {}
        for step in grounds.steps:
            if known := self._measured.get(namespace, *object_names("Step", step)):
                measured[step] = known.value
        return replace(grounds, measured=measured, revision=revision)

    def _generation(self, namespace: str, look: Look) -> int:
        """The revision at which the namespace's objects have changed last."""
        generation = self._kinds.generations.seen(look, self._kinds.generations.key(namespace))
        return generation.revision if generation else 0

    async def of_revision(self, kind: str, newest: Stored[cp.Object], revision: int) -> Stored[cp.Object]:
        """An object as it was at that revision. NotFound."""
        if newest.value.revision == revision:
            return newest
        repository = self._kinds.revisions[kind]
        names = (newest.value.namespace, newest.value.name, revision_name(revision))
        stored = await repository.get(repository.key(*names))
        if stored is None:
            raise NotFound(f"revision {revision} of {kind.lower()} {newest.value.name} is not there any more")
        return stored

    async def _nested(
        self, namespace: str, workflow: cp.Object, revisions: Mapping[str, int]
    ) -> dict[str, Stored[cp.Object]]:
        """The workflows that a workflow uses as steps, at any depth. NotFound."""
        found: dict[str, Stored[cp.Object]] = {}
        ahead = workflows_used(workflow)
        while ahead:
            names = sorted({name for name in ahead if name not in found})[:_WORKFLOWS_AT_ONCE]
            look = await self._kinds.look([self._key(namespace, "Workflow", name) for name in names])
            for name in names:
                found[name] = self._found(look, namespace, "Workflow", name)
                if name in revisions:
                    found[name] = await self.of_revision("Workflow", found[name], revisions[name])
            if len(found) > _MOST_WORKFLOWS:
                raise Wrong(f"workflow {workflow.name} uses more than {_MOST_WORKFLOWS} others")
            ahead = [name for each in found.values() for name in workflows_used(each.value) if name not in found]
        return found

    def _remember(self, asked: tuple[str, str, str], grounds: Grounds, look: Look) -> None:
        generation = self._generation(asked[0], look)
        condition = self._kinds.generations.unchanged(self._kinds.generations.key(asked[0]), generation)
        self._known.pop(asked, None)
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[asked] = _Known(replace(grounds, conditions=[condition]), generation)

    def _recalled(self, asked: tuple[str, str, str]) -> _Known | None:
        known = self._known.pop(asked, None)
        if known is not None:
            self._known[asked] = known  # what was asked for last is the last to be forgotten
        return known

    async def _only_topology(self, namespace: str, workflow: str, look: Look) -> Stored[cp.Object]:
        topologies = self._kinds.objects["Topology"]
        found = topologies.seen_below(look, namespace)
        if len(found) == 1:
            return found[0]
        names = ", ".join(each.value.name for each in (await topologies.list(namespace)).items)
        if not names:
            raise Wrong(
                f"there is no topology in namespace {namespace} in which workflow {workflow} can run: apply one"
            )
        raise Wrong(
            f"in which topology workflow {workflow} is to run must be said (--topology NAME), because there are "
            f"several: {names}"
        )

    def _found(self, look: Look, namespace: str, kind: str, name: str) -> Stored[cp.Object]:
        stored = self._kinds.objects[kind].seen(look, self._key(namespace, kind, name))
        if stored is None:
            raise NotFound(f"there is no {kind.lower()} {name} in namespace {namespace}")
        return stored

    def _step_keys(self, namespace: str, steps: Iterable[str]) -> list[Key]:
        return [self._key(namespace, "Step", step) for step in steps]

    def _key(self, namespace: str, kind: str, name: str) -> Key:
        return self._kinds.objects[kind].key(namespace, *object_names(kind, name))
