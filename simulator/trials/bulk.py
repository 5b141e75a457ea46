"""How units' bytes get from node to node, played: fetches, pushes, and datasets' parts that are opened.

A transfer takes a while and needs both directions between the two clusters, and both daemons, from its beginning to its
end; the rest of what can happen to bytes is the business of the tests of `cluster_agent.data`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import Random

from bdw_fed.v1 import model_pb2, node_pb2
from simulator.trials.disk import Journal, UnitKey
from simulator.trials.loop import Process
from simulator.trials.network import Network
from wire.digests import bytes_digest, source_task_id, unit_id
from wire.identity import Identity, Role
from wire.identity.revocations import Revocations

_SECONDS = (0.002, 0.02)
_GIVE_UP_SECONDS = 4.0
PORT = "out"
UNIT_BYTES = 1000


class Bulk:
    """One daemon's data work. `others` finds the daemon at an address, if one is alive there."""

    def __init__(
        self,
        process: Process,
        network: Network,
        address: str,
        journal: Journal,
        others: Callable[[str], Bulk | None],
        random: Random,
    ) -> None:
        self.tell: Callable[[node_pb2.NodeMessage], None] = lambda _: None
        self.address = address
        self.journal = journal
        self.process = process
        self._network = network
        self._others = others
        self._random = random
        self.revocations = Revocations()  # as the agent has told
        self._wanted: dict[UnitKey, bytes] = {}  # fetched or expected, with their digests
        self._pulling: set[UnitKey] = set()

    def wanted(self) -> list[UnitKey]:
        """Units that are to come."""
        return list(self._wanted)

    def fetch(self, order: node_pb2.FetchUnit) -> None:
        """Pull a unit; from nowhere: look whether it is here."""
        key = _key(order.key)
        if not order.addresses:
            sound = self.journal.read(key) and self.journal.units[key][0] == order.unit.digest
            self._finished(order.key, "" if sound else "its bytes are not in the store")
            return
        here = self.journal.units.get(key)
        if here is not None and here[0] == order.unit.digest:
            self._finished(order.key, "")
            return
        self._wanted[key] = order.unit.digest
        if key not in self._pulling:
            self._pulling.add(key)
            self.process.run_part(self._pull(order, key))

    def expect(self, order: node_pb2.ExpectUnit) -> None:
        """Let a unit be pushed to here."""
        key = _key(order.key)
        if key in self.journal.units:
            self._finished(order.key, "")
            return
        self._wanted[key] = order.unit.digest

    def push(self, order: node_pb2.PushUnit) -> None:
        """Push a unit to another node."""
        self.process.run_part(self._push(order))

    async def open(self, order: node_pb2.OpenSource) -> None:
        """Make a unit of a dataset's part."""
        task = source_task_id(order.namespace, order.run, order.step, order.index)
        identifier = unit_id(task, PORT, 0)
        opened = node_pb2.SourceOpened(namespace=order.namespace, run=order.run, step=order.step, index=order.index)
        try:
            self.journal.put((order.namespace, order.run, identifier), bytes_digest(identifier), 0)
            await self.journal.durable()
            unit = model_pb2.Unit(id=identifier, digest=bytes_digest(identifier), size=UNIT_BYTES, name="part")
            opened.units.add(port=PORT, index=0, unit=unit)
        except OSError as error:
            opened.error = str(error)
        self.tell(node_pb2.NodeMessage(source=opened))

    def adopt(self, order: node_pb2.AdoptUnits) -> None:
        """Give units a name in another line of their run, and tell what is not here."""
        gone = []
        for unit in order.units:
            if (here := self.journal.units.get((order.namespace, order.from_run, unit))) is not None:
                self.journal.put((order.namespace, order.run, unit), *here)
            elif (order.namespace, order.run, unit) not in self.journal.units:
                gone.append(unit)
        if gone:
            told = node_pb2.UnitsDamaged(namespace=order.namespace, run=order.run, units=gone, why="it is not here")
            self.tell(node_pb2.NodeMessage(damaged=told))

    def free(self, keys: Iterable[UnitKey]) -> None:
        """Forget units, also those on their way."""
        known = list(keys)
        for key in known:
            self._wanted.pop(key, None)
        self.journal.drop(known)

    def end_run(self, namespace: str, run: str, keep: Sequence[bytes]) -> None:
        """Forget all of a run but these."""
        self._wanted = {key: digest for key, digest in self._wanted.items() if key[:2] != (namespace, run)}
        gone = [key for key in self.journal.units if key[:2] == (namespace, run) and key[2] not in keep]
        self.journal.drop(gone)

    async def _pull(self, order: node_pb2.FetchUnit, key: UnitKey) -> None:
        began = asyncio.get_running_loop().time()
        source, error = await self._reached(order.addresses[0])
        self._pulling.discard(key)
        digest = self._wanted.get(key)
        if digest is None:
            return
        gone = False
        if source is not None:
            there = source.journal.units.get(key)
            if there is None or there[0] != digest:
                error, gone = "the other side does not have it", True
            else:
                error = await self._keep(key, digest)
        if self._wanted.pop(key, None) is not None:
            self._finished(order.key, error, gone=gone, seconds=asyncio.get_running_loop().time() - began)

    async def _push(self, order: node_pb2.PushUnit) -> None:
        key = _key(order.key)
        target, error = await self._reached(order.address)
        here = self.journal.units[key] if self.journal.read(key) else None
        gone = False
        if here is None:
            error, gone = "it is not here", True
        elif target is not None:
            error = await target.take(key, here[0], order.key)
        pushed = node_pb2.PushFinished(unit=order.key, error=error, address=order.address, gone=gone)
        self.tell(node_pb2.NodeMessage(pushed=pushed))

    async def take(self, key: UnitKey, digest: bytes, name: node_pb2.UnitKey) -> str:
        """Another node pushes this; why it is not taken, if so."""
        if self._wanted.get(key) != digest:
            return "" if key in self.journal.units else "it is not expected"
        error = await self._keep(key, digest)
        if self._wanted.pop(key, None) is not None:
            self._finished(name, error)
        return error

    async def _keep(self, key: UnitKey, digest: bytes) -> str:
        if not self.journal.has_room([(key, UNIT_BYTES)]):
            return "there is no room for it"
        self.journal.put(key, digest, UNIT_BYTES)
        try:
            await self.journal.durable()
        except OSError as error:
            return str(error)
        return ""

    async def _reached(self, address: str) -> tuple[Bulk | None, str]:
        """The other daemon, after as long as a transfer takes; or why it could not be reached."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _GIVE_UP_SECONDS
        here, there = _place(self.address), _place(address)
        while True:
            await asyncio.sleep(self._random.uniform(*_SECONDS))
            if here == there or self._network.reaches(here, there):
                other = self._others(address)
                if other is None:
                    return None, "connection refused"
                refusal = other.revocations.refusal(Identity(Role.NODE, self.address.removeprefix("node/")))
                return (None, refusal) if refusal else (other, "")
            if clock() > deadline:
                return None, "nobody answers"
            await asyncio.sleep(0.5)

    def _finished(self, unit: node_pb2.UnitKey, error: str, *, gone: bool = False, seconds: float = 0.0) -> None:
        size = 0 if error else UNIT_BYTES
        fetched = node_pb2.FetchFinished(unit=unit, bytes=size, seconds=seconds, error=error, gone=gone)
        self.tell(node_pb2.NodeMessage(fetched=fetched))


def _key(key: node_pb2.UnitKey) -> UnitKey:
    return (key.namespace, key.run, key.unit)


def _place(address: str) -> str:
    """The end of the link that a node's bytes travel: its cluster's agent."""
    return "agent/" + address.split("/")[1]
