"""The pods of one node's daemon: does what the core says, and tells it what came of it.

    take, release ──▶ core ──▶ create, link, delete ──▶ API server, starters
                       ▲                                    │
                       └─────────── the one watch ◀─────────┘

All that waits here is a task that this object owns, and ends in `close`. Pods are not ended by it: the next daemon of
this node adopts them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes import messages
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import ApiError, NotFound
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.watch import core as watch
from cluster_agent.runtimes.kubernetes.api.watch.driver import Watcher
from cluster_agent.runtimes.kubernetes.core import PodsCore
from cluster_agent.runtimes.kubernetes.creating import Creator
from cluster_agent.runtimes.kubernetes.explaining import explained
from cluster_agent.runtimes.kubernetes.held import State
from cluster_agent.runtimes.kubernetes.linked import LinkedPod
from cluster_agent.runtimes.kubernetes.manifest import OWNER_LABEL, Settings, Template, bundle_of, identity_of
from cluster_agent.runtimes.kubernetes.place import remove

_log = structlog.get_logger(__name__)
_AGAIN_SECONDS: Final = 5.0
_GONE_SECONDS: Final = 60.0  # that a stopped worker's pod has to go
_TROUBLED: Final = 3  # failures in a row, after which whoever waits is told that the API can't be had


@dataclass
class _Asked:
    """A pod that somebody waits for."""

    template: Template
    granted: asyncio.Future[str]


class Pods:
    """`gone` is set when the next pod that goes is gone."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._core = PodsCore()
        self._creator = Creator(client, settings, self)
        self._watcher: Watcher[Pod] = Watcher(
            client, PODS, settings.namespace, labels=f"{OWNER_LABEL}={settings.owner_label}"
        )
        self._requests = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._linked: dict[str, LinkedPod] = {}
        self._cleared: dict[str, asyncio.Event] = {}  # pods whose end somebody waits for
        self.gone = asyncio.Event()
        self._owned: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False

    def open(self) -> None:
        """Follow which pods there are, and begin to answer requests."""
        self._own(self._watch())

    async def take(self, made: Template) -> LinkedPod:
        """A pod of this template that is up, and the caller's alone until it is released. StartError."""
        request = next(self._requests)
        asked = self._asked[request] = _Asked(made, asyncio.get_running_loop().create_future())
        self._handle(messages.Wanted(request, made.key, made.name(secrets.token_hex(6))))
        try:
            return self._linked[await asked.granted]
        except asyncio.CancelledError:
            if asked.granted.done() and not asked.granted.cancelled() and asked.granted.exception() is None:
                self._handle(messages.Released(asked.granted.result(), True))
            else:
                self._handle(messages.Unwanted(request))
            raise
        finally:
            del self._asked[request]

    def give_back(self, pod: LinkedPod) -> None:
        """Nothing could be started in it."""
        self._handle(messages.Released(pod.name, pod.link.present))

    async def release(self, pod: LinkedPod, reusable: bool) -> None:
        """What was in it has ended; if the pod goes with it, wait for that."""
        name = pod.name
        cleared = self._cleared.setdefault(name, asyncio.Event())
        self._handle(messages.Released(name, reusable))
        try:
            if not self._leaving and name in self._core.names(State.LEAVING):
                async with asyncio.timeout(_GONE_SECONDS):
                    await cleared.wait()
        except TimeoutError:
            _log.warning("a pod does not go", pod=name)
        finally:
            self._cleared.pop(name, None)

    def bundles(self) -> Collection[Path]:
        """Those that pods without a use have mounted."""
        spare = set(self._core.names(State.SPARE))
        found = {bundle_of(pod.metadata.annotations) for (_, name), pod in self._watcher.view.items() if name in spare}
        return {bundle for bundle in found if bundle is not None}

    @property
    def leaving(self) -> bool:
        """Whether any is being deleted."""
        return any(self._core.names(State.LEAVING))

    def give_room(self) -> bool:
        """Have those deleted that nobody uses; whether there are any."""
        spare = any(self._core.names(State.SPARE))
        self._handle(messages.RoomNeeded())
        return spare

    def leave(self) -> None:
        """The daemon is about to end: what is released from now on is for the next one."""
        self._leaving = True
        self._handle(messages.Leave())

    async def close(self) -> None:
        """Cut the links. The pods stay."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._owned:
            task.cancel()
        for pod in self._linked.values():
            pod.silence()  # else it might begin something anew
        await asyncio.gather(*self._owned, return_exceptions=True)
        for pod in self._linked.values():
            await pod.cut()
        await self._creator.close()

    # -------------------------------------------------------------------------------------------------- the core

    def _handle(self, event: messages.Event) -> None:
        for action in self._core.handle(event, time.monotonic()):
            self._do(action)

    def _do(self, action: messages.Action) -> None:
        match action:
            case messages.Create():
                self._own(self._create(action.name, self._asked[action.request].template))
            case messages.Link():
                place = self._settings.roots.place(identity_of(action.name))
                self._linked.setdefault(action.name, LinkedPod(action.name, place)).connect(self._handle)
            case messages.Explain():
                self._own(self._explain(action.name))
            case messages.Grant():
                self._grant(action)
            case messages.Fail():
                self._fail(action)
            case messages.Died():
                _log.warning("a worker's pod has ended", pod=action.name, reason=action.reason.text)
                self._linked[action.name].fate.tell(action.reason)
            case messages.Delete():
                self._own(self._delete(action.name))
            case messages.Clear():
                self._own(self._clear(action.name))
            case messages.WakeAt():
                if self._timer is not None:
                    self._timer.cancel()
                delay = max(0.0, action.at - time.monotonic())
                self._timer = asyncio.get_running_loop().call_later(delay, self._handle, messages.Tick())

    def _grant(self, action: messages.Grant) -> None:
        granted = self._asked[action.request].granted
        if granted.done():  # nobody waits any more, as we shall be told in a moment
            self._handle(messages.Released(action.name, True))
        else:
            granted.set_result(action.name)

    def _fail(self, action: messages.Fail) -> None:
        asked = self._asked.get(action.request)
        if asked is not None and not asked.granted.done():
            asked.granted.set_exception(StartError(action.message, action.detail, no_room=action.no_room))

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)

    # --------------------------------------------------------------------------------------------------- the API

    async def _watch(self) -> None:
        def deliver(news: watch.News[Pod]) -> None:
            match news:
                case watch.Added() | watch.Modified():
                    self._handle(messages.Seen(news.object))
                case watch.Deleted():
                    self._handle(messages.Gone(news.object.metadata.name, news.object))
                case watch.Listed():
                    self._handle(messages.Listed())
                    self._own(self._sweep())
                case watch.Troubled() if news.failures >= _TROUBLED:
                    _log.warning("the pods can't be watched", reason=news.words)
                    self._handle(messages.Unlisted(f"no pod can be had: {news.words}"))

        await self._watcher.run(deliver)

    async def _create(self, name: str, made: Template) -> None:
        refusal = await self._creator.create(name, made)
        if refusal is not None:
            self._handle(messages.Refused(name, refusal.text, refusal.no_room))

    async def _explain(self, name: str) -> None:
        pod = self._watcher.view.get((self._settings.namespace, name))
        reason, words = await explained(self._client, pod) if pod is not None else (None, "")
        self._handle(messages.Explained(name, reason, words))

    async def _delete(self, name: str) -> None:
        await self._cut(name)
        while True:
            try:
                await self._client.delete(PODS, name, self._settings.namespace)
                return
            except NotFound:
                self._handle(messages.Gone(name))
                return
            except ApiError as error:
                _log.warning("a pod can't be deleted", pod=name, error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _clear(self, name: str) -> None:
        """Nothing of a pod that is gone shall be left."""
        gone, self.gone = self.gone, asyncio.Event()
        gone.set()
        await self._cut(name)
        self._linked.pop(name, None)
        await asyncio.to_thread(self._settings.roots.place(identity_of(name)).remove)
        if name in self._cleared:
            self._cleared[name].set()

    async def _cut(self, name: str) -> None:
        if pod := self._linked.get(name):
            await pod.cut()

    async def _sweep(self) -> None:
        """Remove the directories of pods that there are no more."""
        left = self._settings.roots.left({identity_of(name) for name in self._core.names(*State)})
        await asyncio.to_thread(remove, left)
