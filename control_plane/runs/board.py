"""The runs as they are this moment: what is stored, with the newest progress of the agents laid over it.

    store ─watch of all runs─▶ board ◀─progress─ sessions of the agents
                                 │ └─ every 2 s, if something changed ─▶ store
                                 ▼
                     who watches a run: the newest, never a backlog

Progress lives here only; a hub that starts anew gets it again from the agents, which send it when they connect. Runs
that have ended are left to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import structlog

from bdw_fed.v1 import model_pb2 as m
from control_plane.kinds import Kinds
from control_plane.patience import persistently
from control_plane.runs import forms, messages
from control_plane.runs.driver import Runs
from control_plane.runs.errors import RunError
from control_plane.store.base import Deleted, Listing
from control_plane.store.errors import StoreError
from control_plane.store.etcd.errors import EtcdError
from wire.lines import run_of

_FLUSH_SECONDS = 2.0
Name = tuple[str, str]

_log = structlog.get_logger(__name__)


class Board:
    """Live runs by (namespace, name). `keep` and `flush` are run by the hub as long as it lives.

    `ended` is called with each run that ends while the hub looks on, `taken` with each as it changes in the store,
    `dropped` with the name of one that lives no more.
    """

    def __init__(self, kinds: Kinds, runs: Runs) -> None:
        self._kinds = kinds
        self._runs = runs
        self._live: dict[Name, m.Run] = {}
        self._progress: dict[Name, dict[Name, m.FragmentStatus]] = {}  # run -> line and cluster -> what it said
        self._silent: set[str] = set()  # clusters that have not said how far they are since they were out of touch
        self._dirty: set[Name] = set()
        self._something_dirty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._watchers: dict[Name, set[asyncio.Event]] = {}
        self.ended: Callable[[m.Run], None] = lambda _: None
        self.over: Callable[[m.Run], None] = lambda _: None  # one that had ended when this hub started
        self.taken: Callable[[m.Run], None] = lambda _: None
        self.dropped: Callable[[Name], None] = lambda _: None

    def live(self) -> list[m.Run]:
        """All runs that have not ended, as they are now."""
        return [self._shown(name) for name in self._live]

    def shown(self, run: m.Run) -> m.Run:
        """A run that was read from the store, with newer progress."""
        return forms.overlaid(run, self._progress.get((run.namespace, run.name), {}).values())

    def progress(self, status: m.FragmentStatus, *, ours: bool = True) -> None:
        """An agent's newest counters of a run's fragment; those of agents that are `ours` are stored by this hub.

        The word that it has ended comes sequenced and is stored; taken from here, it would make way for the counters
        stored last, which are older than those shown.
        """
        name = (status.namespace, run_of(status.run))
        run = self._live.get(name)
        line = forms.of_line(run, status.cluster, status.epoch) if run is not None else None
        if line is None or not forms.counts(line, status.cluster, status.epoch) or status.state in forms.FRAGMENT_ENDED:
            return
        self._progress.setdefault(name, {})[status.run, status.cluster] = status
        self._silent.discard(status.cluster)
        if ours:
            self._dirty.add(name)
            self._something_dirty.set()
        self._wake(name)

    def away(self, cluster: str) -> None:
        """The cluster is out of touch: what it said of its fragments is old."""
        self._silent.add(cluster)

    def is_silent(self, cluster: str) -> bool:
        """Whether it has said nothing of its fragments since it was out of touch."""
        return cluster in self._silent

    def halfway(self) -> list[m.Run]:
        """The runs that some hub has not handed out to the end."""
        return [run for run in self._live.values() if run.handed_out_by]

    async def some_run_stops(self) -> None:
        """Wait until there is a run that is being stopped."""
        while not any(run.state == m.RUN_STATE_STOPPING for run in self._live.values()):
            self._stopping.clear()
            await self._stopping.wait()

    async def watch(self, namespace: str, run: str) -> AsyncGenerator[m.Run]:
        """The run now and whenever it changes, until it has ended. NoSuchRun if there is none, or none any more."""
        name = (namespace, run)
        changed = asyncio.Event()
        self._watchers.setdefault(name, set()).add(changed)
        try:
            before: m.Run | None = None
            while before is None or before.state not in forms.ENDED:
                changed.clear()
                newest = self._shown(name) if name in self._live else None
                if newest is None:  # ended, deleted, or too new for the watch to have brought it
                    newest = self.shown(await persistently(lambda: self._runs.get(namespace, run)))
                if newest != before:
                    yield newest
                before = newest
                if newest.state not in forms.ENDED:
                    await changed.wait()
        finally:
            self._watchers[name].discard(changed)
            if not self._watchers[name]:
                del self._watchers[name]

    async def load(self) -> Listing[m.Run]:
        """Read all runs. Returns what `keep` goes on from."""
        listing = await persistently(self._kinds.runs.list, None)
        for stored in listing.items:
            self._take(stored.value)
            if stored.value.state in forms.ENDED:
                self.over(stored.value)
        return listing

    async def keep(self, listing: Listing[m.Run]) -> None:
        """Follow the runs in the store."""
        async with self._kinds.runs.watch(after=listing) as watch:
            async for news in watch:
                for event in news.events:
                    if isinstance(event, Deleted):
                        self._drop((event.key.names[0], event.key.names[1]))
                    else:
                        self._take(event.value)

    async def flush(self) -> None:
        """Store the progress now and then, so that a hub that starts anew has not forgotten all of it."""
        while True:
            await self._something_dirty.wait()
            await asyncio.sleep(_FLUSH_SECONDS)
            self._something_dirty.clear()
            names, self._dirty = self._dirty, set()
            for namespace, run in sorted(names & self._live.keys()):
                told = tuple(self._progress.get((namespace, run), {}).values())
                try:
                    await self._runs.happened(namespace, run, messages.Progress(told), seconds=_FLUSH_SECONDS)
                except (EtcdError, StoreError) as error:
                    _log.info("progress was not stored", run=run, error=str(error))
                except RunError:
                    continue

    def _shown(self, name: Name) -> m.Run:
        return forms.overlaid(self._live[name], self._progress.get(name, {}).values())

    def _take(self, run: m.Run) -> None:
        name = (run.namespace, run.name)
        if run.state in forms.ENDED:
            if name in self._live:
                self.ended(run)
            self._drop(name)
            return
        self._live[name] = run
        self.taken(run)
        if run.state == m.RUN_STATE_STOPPING:
            self._stopping.set()
        self._wake(name)

    def _drop(self, name: Name) -> None:
        self._live.pop(name, None)
        self.dropped(name)
        self._progress.pop(name, None)
        with suppress(KeyError):
            self._dirty.remove(name)
        self._wake(name)

    def _wake(self, name: Name) -> None:
        for watcher in self._watchers.get(name, ()):
            watcher.set()
