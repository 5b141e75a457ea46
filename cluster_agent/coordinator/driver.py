"""The driver: the one task that runs the core, and the only one that writes the log.

    nodes, peers, hub, timer ──submit──▶ queue ─▶ core ─▶ actions ─▶ one commit ─▶ nodes, peers, hub, bus
                                            └──────────── one tick ──────────────┘

A tick takes what is ready, runs the core on it and gathers the actions; commits the records, the outgoing
messages and the numbers of the incoming ones in one transaction; then lets the rest happen. Nothing of a tick is
visible before its commit. Where the log syncs to disk the commit runs in a thread, and the next tick is gathered
meanwhile; so a disk that is slow makes larger groups, not longer waits.

The queue is the intake's, which bounds it.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from cluster_agent.coordinator import records
from cluster_agent.coordinator.actions import (
    Action,
    Answered,
    Append,
    ProgressChanged,
    Publish,
    SendHub,
    SendPeer,
    TellLoad,
    TellNode,
    WakeAt,
)
from cluster_agent.coordinator.checkpoints import Checkpoints
from cluster_agent.coordinator.intake import Intake, Renumber
from cluster_agent.coordinator.messages import ClockRead, Event, NodeSaid, RunKey, Tick
from cluster_agent.coordinator.outgoing import hub_message
from cluster_agent.coordinator.outlets import Gathered, Outlets
from cluster_agent.coordinator.ports import HUB, Carrier, Core, Nodes, Peers, Progress, peer
from cluster_agent.coordinator.runs.counters import Counters
from cluster_agent.coordinator.runs.last_words import LastWords
from cluster_agent.events import EventBus
from cluster_agent.log import CoordinatorLog, Position, Sent
from cluster_agent.orders.messages import Produced, Results

LAMPORT = "lamport"
_TICK_EVENTS = 2_048  # events, each result and each unit of a node counted
_TICK_ACTIONS = 16_384
_CLOCK_SECONDS = 60.0
_log = structlog.get_logger(__name__)


class Driver:
    """Owns core and log between `start` and the end of `run`. `durability` as the log was opened with."""

    def __init__(
        self,
        core: Core,
        log: CoordinatorLog,
        intake: Intake,
        bus: EventBus,
        nodes: Nodes,
        peers: Peers,
        hub: Carrier,
        progress: Progress,
        *,
        durability: str = "process",
    ) -> None:
        self.core = core
        self._log = log
        self._bus = bus
        self._counters = Counters(core, progress)
        self._outlets = Outlets(nodes, peers, hub, bus, intake, self._counters)
        self._intake = intake
        self._queue = intake.queue
        self._wake = intake.wake
        self._stopping = False
        self._gathered = Gathered()
        self._thread = ThreadPoolExecutor(1, "log") if durability == "power" else None
        self._committing: tuple[Gathered, asyncio.Future[list[Sent]]] | None = None
        self._checkpoints = Checkpoints(log)
        self._timer: asyncio.TimerHandle | None = None
        self._last_words = LastWords(core, intake)
        self._clock_due = 0.0  # when the core is told the wall clock's time again
        self._loop = asyncio.get_running_loop()

    # -------------------------------------------------------------------------------------- its life

    def start(self) -> None:
        """Bring the core to where the log ends, and commit what it says again."""
        snapshot = self._log.snapshot()
        if snapshot is not None:
            self.core.restore(snapshot)
        for batch in self._log.records():
            for record in records.decode_all(batch):
                self.core.apply(record)
        if self._log.snapshot_due:
            self._log.take_snapshot(self.core.snapshot())
        self._last_words.restore(self._log)
        self._gather(self.core.resume(self._loop.time()))
        self._wake.set()

    async def run(self) -> None:
        """Drive until `stop`. Whatever keeps the log from being written ends it with that error."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._settle()
                self._last_words.heard(self._intake.acks)
                self._run_core()
                if self._committing is None:
                    self._commit()
                if self._queue and not self._held():
                    self._wake.set()
                    await asyncio.sleep(0)  # the streams' turn
                elif self._stopping and self._committing is None and not self._gathered:
                    return
        finally:
            await self._end()

    def stop(self) -> None:
        """End `run` after what is in the queue."""
        self._stopping = True
        self._wake.set()

    async def _end(self) -> None:
        self._last_words.close()
        self._counters.close()
        if self._timer is not None:
            self._timer.cancel()
        await self._checkpoints.close()
        if self._committing is not None:
            await asyncio.gather(self._committing[1], return_exceptions=True)
        if self._thread is not None:
            self._thread.shutdown()

    # -------------------------------------------------------------------------------------- a tick

    def _run_core(self) -> None:
        """Run the core on what is ready, as far as a group may grow."""
        while self._queue and not self._held():
            first = self._queue[0][0]
            if isinstance(first, Renumber):
                if self._gathered:
                    break  # after the commit of what has its numbers from before
                self._queue.popleft()
                self._renumber(first)
            elif isinstance(first, SendHub):
                self._queue.popleft()
                self._gather([first])
            else:
                self._handle_some()
                break
        self._intake.taken()
        if self._intake.take_progress_asked():
            for namespace, run, _, _ in self.core.inventory():
                self._gather([ProgressChanged(RunKey(namespace, run))])

    def _handle_some(self) -> None:
        """Hand the core the events at the head of the queue, in one batch."""
        events: list[Event] = []
        received = self._gathered.batch.received
        taken = 0
        while self._queue and taken < _TICK_EVENTS:
            event, mark = self._queue[0]
            if isinstance(event, Renumber | SendHub):
                break
            self._queue.popleft()
            if event is not None:
                events.append(event)
                taken += _count(event)
            if mark is not None:
                received[mark.source] = Position(mark.log_id, mark.seq)
        if not events:
            return
        if self._loop.time() >= self._clock_due:
            self._clock_due = self._loop.time() + _CLOCK_SECONDS
            events.insert(0, ClockRead(time.time()))
        try:
            actions = self.core.handle_all(events, self._loop.time())
        except Exception:
            kinds = sorted({type(event).__name__ for event in events})
            _log.exception("the coordinator can't handle a batch of events", kinds=kinds, events=len(events))
            raise
        self._gather(actions)

    def _held(self) -> bool:
        """Whether the core must wait for the commit under way: what is gathered meanwhile has a bound, a snapshot
        must say no more than the log, and an outbox is numbered anew when nothing is on its way into it."""
        if self._committing is None:
            return False
        return (
            self._gathered.actions >= _TICK_ACTIONS
            or self._log.snapshot_due
            or (bool(self._queue) and isinstance(self._queue[0][0], Renumber))
        )

    def _gather(self, actions: list[Action]) -> None:
        gathered = self._gathered
        batch = gathered.batch
        gathered.actions += len(actions)
        for action in actions:
            match action:
                case Append(record=record):
                    gathered.records.append(record)
                case TellNode(node=node, command=command, stream=stream):
                    gathered.commands.setdefault((node, stream), []).append(command)
                case SendPeer(cluster=cluster, message=message, run=run):
                    self._last_words.said(cluster, run)
                    batch.outbox.append((peer(cluster), message))
                case Publish():
                    gathered.events.append(action)
                case Answered():
                    gathered.answers.append(action)
                case ProgressChanged(run=run):
                    gathered.progress[run] = None
                case TellLoad(cluster=cluster, load=load):
                    gathered.loads[cluster] = load
                case SendHub(kind=kind, message=message):
                    if kind == "ended":
                        message = self._last_words.of_end(message)
                    batch.outbox.append((HUB, hub_message(kind, message)))
                case WakeAt(at=at):
                    self._wake_at(at)

    def _commit(self) -> None:
        """Put what is gathered into the log, then let it happen: at once, or when the thread is done."""
        if self._gathered:
            gathered, self._gathered = self._gathered, Gathered()
        elif self._intake.has_kept:
            gathered = Gathered()
        else:
            return
        batch = gathered.batch
        if gathered.records:
            batch.records, batch.count = records.encode_all(gathered.records), len(gathered.records)
        batch.acked = self._intake.take_acked()
        batch.meta = self._intake.take_kept()
        if gathered.events and (reservation := self._bus.reservation(len(gathered.events))) is not None:
            batch.meta[LAMPORT] = reservation.to_bytes(8, "big")
        if not batch:
            self._let_happen(gathered, [])
        elif self._thread is None:
            self._let_happen(gathered, self._log.commit(batch))
        else:
            future = self._loop.run_in_executor(self._thread, self._log.commit, batch)
            future.add_done_callback(lambda _: self._wake.set())
            self._committing = gathered, future

    def _settle(self) -> None:
        """If a commit in the thread is done, let happen what it made true."""
        if self._committing is None or not self._committing[1].done():
            return
        (gathered, future), self._committing = self._committing, None
        self._let_happen(gathered, future.result())

    def _let_happen(self, gathered: Gathered, sent: list[Sent]) -> None:
        self._outlets.let_happen(gathered, sent)
        self._maintain()

    def _renumber(self, order: Renumber) -> None:
        self._intake.forget_acked(order.destination)
        messages = self._log.renumber(order.destination, order.first)
        following = self._log.next_seq(order.destination)
        self._last_words.renumbered(order.destination, messages, following)
        self._outlets.carrier(order.destination).renumbered(order.destination, messages, following)

    def _maintain(self) -> None:
        """Between two commits: a snapshot if replay got long, a checkpoint if the WAL did."""
        if self._log.snapshot_due and self._committing is None and not self._gathered:
            self._log.take_snapshot(self.core.snapshot())
        self._checkpoints.begin_if_due()

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._time_came)

    def _time_came(self) -> None:
        self._timer = None
        self._intake.submit(Tick())


def _count(event: Event) -> int:
    """How many things an event tells: a node speaks of many tasks at once."""
    match event:
        case NodeSaid(what=Results(results=several)) | NodeSaid(what=Produced(outputs=several)):
            return max(1, len(several))
        case _:
            return 1
