"""Events of runs become writes: all that has happened to one run meanwhile goes into one transaction.

Whoever has an event puts it into the run's queue and waits for the run's lock. Who gets the lock commits everything
that is queued, on the condition that the run is as it was read; the others find theirs done. So a thousand fragments
that end at once cost a few writes of their run, instead of a thousand that get into each other's way.

The runs that were written last are remembered. What is decided on a remembered run is committed on the condition that
it is still so, also where the run itself does not change; otherwise it is read and decided anew.

An event may bring more writes for the same transaction (the number of the frame that brought the news). If the
conflict is over one of those, only its own event fails with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from bdw_fed.v1 import model_pb2 as m
from bdw_fed.v1 import store_pb2 as s
from control_plane.kinds import Kinds, fit_together, piece_name, writing
from control_plane.runs import core, forms, lines, messages
from control_plane.runs.errors import Refused
from control_plane.store.base import Stored
from control_plane.store.errors import Conflict, StoreError
from control_plane.store.etcd.errors import EtcdError
from control_plane.store.keys import Key
from control_plane.store.transaction import Operation

_REMEMBERED = 256  # runs
_BATCH = 50
_OUTPUTS_A_PIECE = 400
_FRAGMENTS_A_LOOK = 64
_MOST_RUN_BYTES = 200 << 10
Part = tuple[str, str]  # the line's name, and the cluster
Wanted = dict[Part, m.DesiredState.ValueType]
EventOf = Callable[[m.Run], Awaitable[messages.Event]]


@dataclass(frozen=True)
class Outcome:
    """The run after the event (None: there is none), and the revision of what was written, 0 if nothing was."""

    run: m.Run | None
    revision: int


@dataclass
class _Item:
    """One event that waits to be written, and what became of it."""

    event_of: EventOf
    also: Sequence[Operation]
    outcome: Outcome | None = None
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        return self.outcome is not None or self.error is not None


@dataclass
class _Queue:
    """What waits for one run."""

    items: deque[_Item] = field(default_factory=deque)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


@dataclass
class _Batch:
    """What a batch writes: outputs, which say nothing before the run counts them; the run; what is then wanted."""

    run: m.Run | None
    early: list[Operation] = field(default_factory=list)
    also: list[Operation] = field(default_factory=list)
    outputs: list[messages.StoreOutputs] = field(default_factory=list)
    desired: Wanted = field(default_factory=dict)
    orders: dict[Part, m.Assignment | None] = field(default_factory=dict)  # new ones, or (None) no longer to reserve
    whole: bool = False  # it must not be written in parts

    def outputs_of(self, status: m.FragmentStatus) -> list[m.RunOutput]:
        """Those of the line of which this fragment is: none of fragments that were replaced, or are of another line."""
        assert self.run is not None
        line = forms.of_line(self.run, status.cluster, status.epoch)
        return [made for told in self.outputs if forms.counts(line, told.cluster, told.epoch) for made in told.outputs]

    def want(self, line: str, clusters: Sequence[str], desired: m.DesiredState.ValueType) -> None:
        """This is wanted of these fragments, some of which may be handed out by this very batch."""
        for cluster in clusters:
            order = self.orders.get((line, cluster))
            if order is None:
                self.desired[line, cluster] = desired
            else:
                order.desired = desired


class RunWriter:
    """The one way by which this hub changes runs that are stored."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._remembered: dict[Key, Stored[m.Run]] = {}

    def remember(self, key: Key, run: m.Run, revision: int) -> None:
        """The run is like this, or was at least: a moment ago this hub wrote it at this revision."""
        known = self._remembered.get(key)
        if known is not None and known.revision > revision:
            return
        self._remembered.pop(key, None)
        while len(self._remembered) >= _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        if run.state not in forms.ENDED:
            self._remembered[key] = Stored(key, run, revision, 0)

    async def happen(self, namespace: str, name: str, event_of: EventOf, also: Sequence[Operation] = ()) -> Outcome:
        """Let the event that `event_of` makes of the run happen.

        Raises Refused with the reason, Conflict over one of `also`, or an EtcdError. After any of them, and after a
        cancellation, the event may be tried again.
        """
        key = self._kinds.runs.key(namespace, name)  # a name that is none fails alone, not with others
        queue = self._queues.setdefault((namespace, name), _Queue())
        item = _Item(event_of, also)
        queue.items.append(item)
        queue.users += 1
        try:
            async with queue.lock:
                while not item.settled:
                    await self._next_batch(key, queue)
        finally:
            queue.users -= 1
            if item in queue.items:
                queue.items.remove(item)
            if not queue.users:
                del self._queues[namespace, name]
        if item.error is not None:
            raise item.error
        assert item.outcome is not None
        return item.outcome

    async def _next_batch(self, key: Key, queue: _Queue) -> None:
        items = [queue.items.popleft() for _ in range(min(_BATCH, len(queue.items)))]
        try:
            await self._write(key, items)
        except Conflict as conflict:
            self._remembered.pop(key, None)
            for item in items:
                if any(str(operation.key) == conflict.key for operation in item.also):
                    item.error = conflict
        except (EtcdError, StoreError) as error:
            self._remembered.pop(key, None)
            for item in items:
                item.error = item.error or error
        finally:
            queue.items.extendleft(item for item in reversed(items) if not item.settled)

    async def _write(self, key: Key, items: list[_Item]) -> None:
        remembered = self._remembered.get(key)
        before = remembered or await self._kinds.runs.get(key)
        batch = _Batch(before.value if before else None)
        told: list[tuple[_Item, m.Run | None]] = []
        for item in items:
            try:
                await self._happen(batch, item)
            except Refused as refused:
                if remembered is not None:
                    raise Conflict(str(key), remembered.revision, 0) from refused  # it may have become possible
                item.error = refused
                continue
            batch.also.extend(item.also)
            told.append((item, batch.run))
        revision = await self._commit(before, batch, certain=remembered is None)
        if before is not None and batch.run is not None:
            self.remember(key, batch.run, before.revision if batch.run is before.value else revision)
        for item, run in told:
            item.outcome = Outcome(run, revision)

    async def _happen(self, batch: _Batch, item: _Item) -> None:
        if batch.run is None:
            return
        event = await item.event_of(batch.run)
        if isinstance(event, messages.FragmentEnded):
            event = replace(event, outputs=(*event.outputs, *batch.outputs_of(event.status)))
        run = batch.run
        for action in core.handle(run, event):
            match action:
                case messages.Refuse(message):
                    raise Refused(message)
                case messages.StoreRun(fresh):
                    batch.run = forms.compacted(fresh, _MOST_RUN_BYTES)
                case messages.SetDesired(clusters, desired, line):
                    batch.want(line or lines.name_of(run), clusters, desired)
                case messages.StoreOutputs():
                    batch.outputs.append(action)
                    batch.early.extend(await self._outputs(run, action))
                case messages.StoreFragments(fragments, desired, seconds):
                    if desired == m.DESIRED_STATE_RESERVED:  # others are handed out by whoever submits
                        for each in fragments:
                            order = m.Assignment(fragment=each, desired=desired, time_to_live=seconds)
                            batch.orders[each.run, each.cluster] = order
                case messages.HandOut(fragments, desired):
                    for each in fragments:
                        batch.desired.pop((each.run, each.cluster), None)
                        batch.orders[each.run, each.cluster] = m.Assignment(fragment=each, desired=desired)
                    batch.whole = True
                case messages.TakeBack(clusters):
                    batch.orders |= dict.fromkeys((run.name, cluster) for cluster in clusters)

    async def _commit(self, before: Stored[m.Run] | None, batch: _Batch, *, certain: bool) -> int:
        """One transaction where it fits; else outputs before the run, and what is wanted of fragments after it.

        `certain`: the run was read for this batch, so that nothing is decided on it if nothing of it changes.
        """
        with_run = list(batch.also)
        late: list[Operation] = []
        if before is not None and batch.run is not None:
            if batch.run is not before.value:
                with_run.append(self._kinds.runs.updating(before.key, batch.run, before.revision))
            elif batch.early or batch.orders or not certain:
                with_run.append(self._kinds.runs.unchanged(before.key, before.revision))
            late = await desired_operations(self._kinds, batch.run, batch.desired)
            late += await order_operations(self._kinds, batch.run, batch.orders)
        together = [*with_run, *batch.early, *late]
        if not together:
            return 0
        if batch.whole or fit_together(together):
            return await self._kinds.commit(together)
        await self._kinds.commit_in_turn(batch.early)
        revision = await self._kinds.commit(with_run)
        await self._kinds.commit_in_turn(late)
        return revision

    async def _outputs(self, run: m.Run, action: messages.StoreOutputs) -> list[Operation]:
        repository = self._kinds.outputs
        operations = []
        for at in range(0, len(action.outputs), _OUTPUTS_A_PIECE):
            name = piece_name(action.number, at // _OUTPUTS_A_PIECE)
            key = repository.key(run.namespace, run.name, action.cluster, str(action.epoch), name)
            piece = s.RunOutputs(outputs=action.outputs[at : at + _OUTPUTS_A_PIECE])
            stored = await repository.get(key)
            if stored is None or stored.value != piece:
                operations.append(writing(repository, key, stored, piece))
        return operations


async def desired_operations(kinds: Kinds, run: m.Run, desired: Wanted) -> list[Operation]:
    """Writes that make this wanted of the run's fragments, as far as it is not yet."""
    operations = []
    wanted = {kinds.fragments.key(cluster, run.namespace, line): state for (line, cluster), state in desired.items()}
    keys = list(wanted)
    for at in range(0, len(keys), _FRAGMENTS_A_LOOK):
        look = await kinds.look(keys[at : at + _FRAGMENTS_A_LOOK])
        for key in keys[at : at + _FRAGMENTS_A_LOOK]:
            stored = kinds.fragments.seen(look, key)
            if stored is not None and stored.value.desired != wanted[key]:
                operations.append(wanting(kinds, stored, wanted[key]))
    return operations


async def order_operations(kinds: Kinds, run: m.Run, orders: dict[Part, m.Assignment | None]) -> list[Operation]:
    """Writes that hand out these fragments, or order them to be reserved, or take (None) such an order back."""
    operations = []
    for (line, cluster), order in orders.items():
        key = kinds.fragments.key(cluster, run.namespace, line)
        stored = await kinds.fragments.get(key)
        if order is not None:
            if stored is None or stored.value != order:
                operations.append(writing(kinds.fragments, key, stored, order))
        elif stored is not None and stored.value.desired == m.DESIRED_STATE_RESERVED:
            operations.append(kinds.fragments.deleting(key, stored.revision))
    return operations


def wanting(kinds: Kinds, stored: Stored[m.Assignment], desired: m.DesiredState.ValueType) -> Operation:
    """The write that makes this wanted of a fragment."""
    wanted = m.Assignment(fragment=stored.value.fragment, desired=desired)
    return kinds.fragments.updating(stored.key, wanted, stored.revision)
