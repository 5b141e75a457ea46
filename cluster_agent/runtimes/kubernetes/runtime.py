"""Starts workers as pods of this node: does what the core says, and tells it what came of it.

    start ──▶ core ──▶ create, link, delete ──▶ API server, starters
                ▲                                   │
                └────────── the one watch ◀─────────┘

Each pod has a directory of the node's (see `manifest`). All that waits here is a task that this object owns, and ends
in `close`. Pods are not ended by it: the next daemon of this node adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from cluster_agent.runtimes.base import LeftRow, Room, Runtime, Worker, WorkerSpec
from cluster_agent.runtimes.directories.worker import PARTS
from cluster_agent.runtimes.errors import StartError, TemplateError
from cluster_agent.runtimes.kubernetes import messages
from cluster_agent.runtimes.kubernetes.admission import Limits, Refusal
from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.errors import AlreadyExists, ApiError, NotFound, Unavailable
from cluster_agent.runtimes.kubernetes.api.objects.event import Event
from cluster_agent.runtimes.kubernetes.api.objects.kinds import EVENTS, PODS
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod
from cluster_agent.runtimes.kubernetes.api.reasons import reason_of, reason_of_refusal
from cluster_agent.runtimes.kubernetes.api.watch import core as watch
from cluster_agent.runtimes.kubernetes.api.watch.driver import Watcher
from cluster_agent.runtimes.kubernetes.core import PodsCore, State
from cluster_agent.runtimes.kubernetes.inside import service_in, worker_in
from cluster_agent.runtimes.kubernetes.link import NotYetError, StarterLink
from cluster_agent.runtimes.kubernetes.manifest import (
    OWNER_LABEL,
    SECRETS,
    Place,
    Settings,
    Template,
    bundle_of,
    identity_of,
    place_of,
    template,
)
from cluster_agent.runtimes.kubernetes.room import NodeRoom
from cluster_agent.runtimes.kubernetes.worker import Fate, PodSlot, PodWorker
from cluster_agent.runtimes.process.argv import check
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.secrets import pointed_to
from cluster_agent.runtimes.services.slots import Held, Services

_log = structlog.get_logger(__name__)
_LOOK_SECONDS: Final = 0.025  # between two looks for a starter's socket, which no API tells of
_CREATIONS: Final = 5  # tries of one whose answer was lost
_AGAIN_SECONDS: Final = 5.0
_GONE_SECONDS: Final = 60.0  # that a stopped worker's pod has to go
_TROUBLED: Final = 3  # failures in a row, after which whoever waits is told that the API can't be had
_WORDS: Final = 20  # lines
_Inside = TypeVar("_Inside")


@dataclass
class _Asked:
    """A worker that somebody waits for."""

    template: Template
    granted: asyncio.Future[str]


@dataclass
class _Up:
    """A pod that we are linked with, or try to be."""

    place: Place
    link: StarterLink | None = None
    places: Places | None = None
    linking: asyncio.Task[None] | None = None
    fate: Fate = field(default_factory=Fate)


class KubernetesRuntime(Runtime):
    """Workers as pods of one node. `client` is closed with it."""

    def __init__(
        self, client: Client, settings: Settings, keeps: Keeps | None = None, room: NodeRoom | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._keeps = keeps
        self._room = room
        self._core = PodsCore()
        self._services = Services()
        self._limits = Limits(client, settings.namespace)
        self._watcher: Watcher[Pod] = Watcher(
            client, PODS, settings.namespace, labels=f"{OWNER_LABEL}={settings.owner_label}"
        )
        self._requests = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._up: dict[str, _Up] = {}
        self._cleared: dict[str, asyncio.Event] = {}  # pods whose end somebody waits for
        self._gone = asyncio.Event()  # the next pod that goes is gone
        self._owned: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False

    # ------------------------------------------------------------------------------------------------ the runtime

    def left(self) -> Sequence[LeftRow]:
        return self._keeps.left if self._keeps is not None else ()

    @property
    def room(self) -> Room | None:
        return self._room.room if self._room is not None else None

    def follow_room(self, changed: Callable[[Room], None]) -> None:
        if self._room is not None:
            self._own(self._room.follow(changed))

    async def open(self) -> None:
        if self._room is not None:
            await self._room.read()
        if self._keeps is not None:
            self._keeps.open()
        (self._settings.state / "workers").mkdir(parents=True, exist_ok=True)
        self._own(self._watch())

    async def start(self, spec: WorkerSpec) -> Worker:
        if spec.user and not self._settings.allow_root:
            raise StartError(
                f"step {spec.definition} wants to be {spec.user} in its pod, which the operator of this cluster does "
                "not allow: leave run.user out if any user can execute the image, or have node daemons get --allow-root"
            )
        if spec.secrets:
            spec = pointed_to(spec, SECRETS)
        if spec.argv:
            try:
                check(spec.argv)
            except TemplateError as error:
                raise StartError(str(error)) from None
        if spec.service is not None:
            return await self._services.slot(spec, partial(self._service, spec))
        name, up, link = await self._linked_pod(spec)
        with self._unless_it_fails(name, link):
            inner = await self._explained(up, worker_in(link, spec, up.place, up.places, self._keeps))
        return PodWorker(inner, link, spec, up.place, up.fate, partial(self._release, name))

    async def _service(self, spec: WorkerSpec) -> Held:
        """A service in a pod of its own, which goes with the last of its slots. StartError."""
        name, up, link = await self._linked_pod(spec)
        with self._unless_it_fails(name, link):
            process = await self._explained(up, service_in(link, spec, up.place, up.fate))

        def fits() -> bool:
            return up.fate.reason is None

        async def release(died: bool) -> None:
            await self._release(name, died and fits() and link.present)

        def wrap(slot: Worker) -> Worker:
            place = replace(up.place, tasks=up.place.tasks / secrets.token_hex(4))
            return PodSlot(slot, link, spec, place, up.fate, partial(_forget, place.tasks))

        return Held(process, release, fits, wrap)

    async def _linked_pod(self, spec: WorkerSpec) -> tuple[str, _Up, StarterLink]:
        """A pod for this that is up, by its name, and the link to it. StartError."""
        name = await self._pod(template(self._settings, spec))
        up = self._up[name]
        assert up.link is not None
        return name, up, up.link

    @contextlib.contextmanager
    def _unless_it_fails(self, name: str, link: StarterLink) -> Iterator[None]:
        """Give back a pod in which nothing could be started."""
        try:
            yield
        except BaseException:
            self._handle(messages.Released(name, link.present))
            raise

    async def _explained(self, up: _Up, starting: Awaitable[_Inside]) -> _Inside:
        """What is started in a pod; StartError, with the pod's end in it if that was behind it."""
        try:
            return await starting
        except StartError as error:
            assert up.link is not None
            reason = None if up.link.present else await up.fate.learn()
            if reason is not None:
                raise StartError(reason.text, error.detail) from None
            raise

    def bundles(self) -> Collection[Path]:
        spare = set(self._core.names(State.SPARE))
        found = {bundle_of(pod.metadata.annotations) for (_, name), pod in self._watcher.view.items() if name in spare}
        return {bundle for bundle in found if bundle is not None}

    def leave(self) -> None:
        self._leaving = True
        self._handle(messages.Leave())

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._owned, *(up.linking for up in self._up.values() if up.linking is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for up in self._up.values():
            if up.link is not None:
                await up.link.close()
        await self._limits.close()
        await self._client.close()
        if self._keeps is not None:
            self._keeps.close()

    # ------------------------------------------------------------------------------------------------- the workers

    async def _pod(self, made: Template) -> str:
        """A pod of this template that is up, and ours alone. StartError."""
        request = next(self._requests)
        asked = self._asked[request] = _Asked(made, asyncio.get_running_loop().create_future())
        self._handle(messages.Wanted(request, made.key, made.name(secrets.token_hex(6))))
        try:
            return await asked.granted
        except asyncio.CancelledError:
            if asked.granted.done() and not asked.granted.cancelled() and asked.granted.exception() is None:
                self._handle(messages.Released(asked.granted.result(), True))
            else:
                self._handle(messages.Unwanted(request))
            raise
        finally:
            del self._asked[request]

    async def _release(self, name: str, reusable: bool) -> None:
        """A worker was stopped; if its pod goes with it, wait for that."""
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

    # -------------------------------------------------------------------------------------------------- the core

    def _handle(self, event: messages.Event) -> None:
        for action in self._core.handle(event, time.monotonic()):
            self._do(action)

    def _do(self, action: messages.Action) -> None:
        match action:
            case messages.Create():
                self._own(self._create(action.name, self._asked[action.request].template))
            case messages.Link():
                up = self._up.setdefault(action.name, _Up(place_of(self._settings, identity_of(action.name))))
                up.linking = asyncio.create_task(self._connect(action.name, up))
            case messages.Explain():
                self._own(self._explain(action.name))
            case messages.Grant():
                self._grant(action)
            case messages.Fail():
                self._fail(action)
            case messages.Died():
                _log.warning("a worker's pod has ended", pod=action.name, reason=action.reason.text)
                self._up[action.name].fate.tell(action.reason)
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
                    self._own(self._tidy())
                case watch.Troubled() if news.failures >= _TROUBLED:
                    _log.warning("the pods can't be watched", reason=news.words)
                    self._handle(messages.Unlisted(f"no pod can be had: {news.words}"))

        await self._watcher.run(deliver)

    async def _create(self, name: str, made: Template) -> None:
        """Create a pod, unless it is known that there is no room for it."""
        identity = identity_of(name)
        try:
            refusal = await self._refusal(made)
            if refusal is not None:
                self._handle(messages.Refused(name, refusal.text, refusal.no_room))
                return
            await asyncio.to_thread(_make, place_of(self._settings, identity), made.spec)
            try:
                await self._create_once(made.manifest(identity))
            except ApiError as error:
                if not _is_quota(error):
                    raise
                self._limits.forget()  # it was older than that; and those of ours that are going leave room
                if await self._refusal(made) is not None:
                    raise
                await self._create_once(made.manifest(identity))
        except ApiError as error:
            reason = reason_of_refusal(error)
            words = reason.text if reason is not None else f"no pod can be made: {error}"
            self._handle(messages.Refused(name, words, _is_quota(error)))
        except OSError as error:
            self._handle(messages.Refused(name, f"the pod's directory could not be made: {error}"))

    async def _refusal(self, made: Template) -> Refusal | None:
        """Why there can't be such a pod just now. Those of ours that are going take room until they are gone."""
        while True:
            leaving, gone = any(self._core.names(State.LEAVING)), self._gone
            refusal = await self._limits.refusal(made.asking)
            if refusal is None or not refusal.no_room:
                return refusal
            spare = any(self._core.names(State.SPARE))
            self._handle(messages.RoomNeeded())
            if not (leaving or spare):
                return refusal
            try:
                async with asyncio.timeout(_GONE_SECONDS):
                    await gone.wait()
            except TimeoutError:
                return refusal
            self._limits.forget()

    async def _create_once(self, manifest: dict[str, Any]) -> None:
        """Its name is its own, so that one which is there was made by an earlier try."""
        for left in reversed(range(_CREATIONS)):
            try:
                await self._client.create(PODS, manifest, self._settings.namespace)
                return
            except AlreadyExists:
                return
            except Unavailable as error:
                if not error.uncertain or not left:
                    raise

    async def _connect(self, name: str, up: _Up) -> None:
        """Link up with a starter once it is there, and tell when the link is over."""
        try:
            link = up.link = await self._linked(up.place)  # from now on it is closed with the pod, whatever comes
            up.places = await asyncio.to_thread(_places, up.place)
        except (StartError, OSError) as error:
            self._handle(messages.Unlinked(name, str(error)))
            return
        up.fate = Fate()
        self._handle(messages.Linked(name))
        await link.gone.wait()
        self._handle(messages.Unlinked(name, "the pod's starter is gone"))

    async def _linked(self, place: Place) -> StarterLink:
        while True:
            link = StarterLink(place.socket)
            try:
                await link.open()
                return link
            except NotYetError:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _explain(self, name: str) -> None:
        """What the events of a pod and its last words tell of why it does not come up."""
        pod = self._watcher.view.get((self._settings.namespace, name))
        if pod is None:
            self._handle(messages.Explained(name, None))
            return
        events: list[Event] = []
        words = ""
        try:
            found = await self._client.list(
                EVENTS, self._settings.namespace, fields=f"involvedObject.uid={pod.metadata.uid}"
            )
            events = _since_progress(found)
            reason = reason_of(pod)
            if reason is not None and reason.container and reason.exit_code is not None:
                words = await self._client.logs(name, self._settings.namespace, container=reason.container, tail=_WORDS)
        except ApiError as error:
            _log.warning("a pod can't be explained", pod=name, error=str(error))
        self._handle(messages.Explained(name, reason_of(pod, events, words), words))

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
        gone, self._gone = self._gone, asyncio.Event()
        gone.set()
        await self._cut(name)
        self._up.pop(name, None)
        await asyncio.to_thread(_remove, place_of(self._settings, identity_of(name)))
        if name in self._cleared:
            self._cleared[name].set()

    async def _cut(self, name: str) -> None:
        up = self._up.get(name)
        if up is None:
            return
        linking, up.linking = up.linking, None
        if linking is not None:
            linking.cancel()
            await asyncio.gather(linking, return_exceptions=True)
        if up.link is not None:
            await up.link.close()

    async def _tidy(self) -> None:
        """Remove the directories of pods that there are no more."""
        known = {identity_of(name) for name in self._core.names(*State)}
        for root in (self._settings.state / "workers", self._settings.memory):
            if root is not None and root.is_dir():
                for path in root.iterdir():
                    if path.name not in known:
                        await asyncio.to_thread(shutil.rmtree, path, True)


def _is_quota(error: ApiError) -> bool:
    reason = reason_of_refusal(error)
    return reason is not None and reason.cause == "quota"


async def _forget(tasks: Path, _reusable: bool) -> None:
    """The slot whose tasks had their directories there is gone."""
    await asyncio.to_thread(shutil.rmtree, tasks, True)


def _make(place: Place, spec: WorkerSpec) -> None:
    boxes = [place.home / part for part in PARTS] if spec.watching is not None else []  # mounted, so there before
    for path in (place.root, place.memory, *boxes):
        if path is not None:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _remove(place: Place) -> None:
    for path in (place.root, place.memory):
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)


def _places(place: Place) -> Places:
    """The small jobs' directories in a pod, empty."""
    return Places((place.memory or place.root) / "small", place.root / "temporary")


def _since_progress(events: Sequence[Event]) -> list[Event]:
    """The warnings after which nothing has gone well."""
    well = [event.at for event in events if event.type == "Normal" and event.reason != "Scheduled" and event.at]
    since = max(well, default=None)
    return [event for event in events if event.type != "Normal" and (since is None or (event.at or since) >= since)]
