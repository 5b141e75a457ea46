"""List and watch: when to list, from where to watch on, and what is news.
 A list says what is at a version; a watch says what changed after it. The core keeps what its consumer has been told
(`known`) and the version up to which that is whole (`version`). So a watch that was cut goes on from there, a list
after a compaction becomes only the differences, and neither tells anything twice. Where the server contradicts itself
the core doesn't guess: it lists.

`handle(event, now)` returns what there is to tell, in order, and at most one thing to do next (`List`, `Watch`,
`Rest`); none = go on with the watch that is open. While one is open the driver calls with `Silent` at `silent_at`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias

from cluster_agent.runtimes.kubernetes.api.backoff import Delay, delay
from cluster_agent.runtimes.kubernetes.api.objects.kinds import ObjectT

PAGE: Final = 500
IDLE: Final = 150.0  # a server sends a bookmark about once a minute
HEALTHY: Final = 10.0  # a watch that lived so long has not failed, though it brought nothing
BARREN: Final = 5  # so many watches without an event, one after another: better to look
RESTARTS: Final = 2  # so many lists that expired between their pages: the next is asked for in one piece


@dataclass(frozen=True, slots=True)
class Begin:
    """The driver is ready."""


@dataclass(frozen=True, slots=True)
class Page(Generic[ObjectT]):
    """A page of the list came. `version` is that of the whole list; no `token` = this was the last page."""

    objects: tuple[ObjectT, ...]
    version: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class Happened(Generic[ObjectT]):
    """The watch says that the object was added, modified or deleted; it can't always be trusted which."""

    object: ObjectT
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The watch has told everything up to this version."""

    version: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The version or token asked for is too old: 410, as the answer's status or as an event."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The list or watch could not be had, or broke; `words` say why."""

    words: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The server has ended the watch in good order."""


@dataclass(frozen=True, slots=True)
class Silent:
    """`silent_at` has come."""


@dataclass(frozen=True, slots=True)
class Rested:
    """The rest is over."""


Event: TypeAlias = Begin | Page[ObjectT] | Happened[ObjectT] | Bookmark | Expired | Failed | Ended | Silent | Rested


@dataclass(frozen=True, slots=True)
class Added(Generic[ObjectT]):
    """There is an object that was not there."""

    object: ObjectT


@dataclass(frozen=True, slots=True)
class Modified(Generic[ObjectT]):
    """An object is not what it was."""

    object: ObjectT
    before: ObjectT


@dataclass(frozen=True, slots=True)
class Deleted(Generic[ObjectT]):
    """An object is gone; this is its last state known."""

    object: ObjectT


@dataclass(frozen=True, slots=True)
class Listed:
    """All that was told up to here is everything there is, as of this version."""

    version: str


@dataclass(frozen=True, slots=True)
class Troubled:
    """The view may be getting old, since the server can't be had; so many failures in a row."""

    words: str
    failures: int


News: TypeAlias = Added[ObjectT] | Modified[ObjectT] | Deleted[ObjectT] | Listed | Troubled


@dataclass(frozen=True, slots=True)
class List:
    """Ask for the next page: the first if there is no token; limit 0 = everything in one piece."""

    token: str = ""
    limit: int = PAGE


@dataclass(frozen=True, slots=True)
class Watch:
    """Close the watch that is open, if any, and open one from this version."""

    version: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Close the watch that is open, if any, and wait for a time drawn from this."""

    delay: Delay


Order: TypeAlias = List | Watch | Rest
Action: TypeAlias = News[ObjectT] | Order


def newer(version: str, than: str) -> bool:
    """Whether a version comes after another. They are whole numbers; of other spellings only equality counts."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than


@dataclass(slots=True)
class WatchCore(Generic[ObjectT]):
    """The view of one kind in one namespace (or in all), with one selector."""

    known: dict[tuple[str, str], ObjectT] = field(default_factory=dict)
    version: str = ""
    silent_at: float = 0.0
    _page: int = PAGE
    _idle: float = IDLE
    _must_list: bool = True
    _pages: list[ObjectT] = field(default_factory=list)
    _listing: bool = False
    _restarts: int = 0
    _failures: int = 0
    _barren: int = 0  # watches in a row that brought nothing
    _opened_at: float = 0.0
    _fruitful: bool = False  # the watch that is open has brought something

    def handle(self, event: Event[ObjectT], now: float) -> list[Action[ObjectT]]:
        """What follows from an event."""
        match event:
            case Begin() | Rested():
                return [self._next(now)]
            case Page():
                return self._paged(event, now)
            case Happened():
                return self._happened(event, now)
            case Bookmark():
                return self._bookmarked(event.version, now)
            case Expired():
                return self._expired(now)
            case Failed():
                return self._failed(event.words, event.retry_after)
            case Ended():
                return self._ended("the server ends the watch as soon as it has begun", now)
            case Silent():
                return self._ended("the server says nothing", now)

    def _next(self, now: float) -> Order:
        """List if there is a reason to, else watch from what was told last."""
        if self._must_list:
            self._pages = []
            self._listing = True
            return List(limit=0 if self._restarts > RESTARTS else self._page)
        self._listing = False
        self._fruitful = False
        self._opened_at = now
        self.silent_at = now + self._idle
        return Watch(self.version)

    def _paged(self, page: Page[ObjectT], now: float) -> list[Action[ObjectT]]:
        self._pages += page.objects
        if page.token:
            return [List(page.token, self._page)]
        news = self._differences({_key(object): object for object in self._pages})
        self._pages = []
        self._must_list = False
        self._restarts = 0
        self._barren = 0
        self.version = page.version
        return [*news, Listed(page.version), self._next(now)]

    def _differences(self, listed: dict[tuple[str, str], ObjectT]) -> list[Action[ObjectT]]:
        """What the list says that was not told yet: first what is gone, then the rest in the order of the list."""
        news: list[Action[ObjectT]] = []
        for key, before in list(self.known.items()):
            if key not in listed or listed[key].metadata.uid != before.metadata.uid:
                del self.known[key]
                news.append(Deleted(before))
        for object in listed.values():
            known = self.known.get(_key(object))
            if known is None or known.metadata.resource_version != object.metadata.resource_version:
                news.append(self._kept(object))
        return news

    def _happened(self, event: Happened[ObjectT], now: float) -> list[Action[ObjectT]]:
        object, version = event.object, event.object.metadata.resource_version
        before = self.known.get(_key(object))
        self._heard(now)
        late = not newer(version, self.version)
        if before is not None and before.metadata.uid == object.metadata.uid:
            before_version = before.metadata.resource_version
            # A deletion has the version of the deletion, but in old servers that of what was deleted.
            if not newer(version, before_version) and not (event.deleted and version == before_version):
                return []
        elif event.deleted and (late or before is None):
            self.version = self.version if late else version
            return []
        elif event.deleted or late:
            # The deletion of what we never saw; or an object that is gone since, or whose event is late: who knows?
            return self._disorder()
        if not late:
            self.version = version
        if event.deleted:
            del self.known[_key(object)]
            return [Deleted(object)]
        if before is not None and before.metadata.uid != object.metadata.uid:
            del self.known[_key(object)]
            return [Deleted(before), self._kept(object)]
        return [self._kept(object)]

    def _kept(self, object: ObjectT) -> Added[ObjectT] | Modified[ObjectT]:
        before = self.known.get(_key(object))
        self.known[_key(object)] = object
        return Added(object) if before is None else Modified(object, before)

    def _bookmarked(self, version: str, now: float) -> list[Action[ObjectT]]:
        self._heard(now)
        if version != self.version and not newer(version, self.version):
            return self._disorder()  # the store was set back
        self.version = version
        return []

    def _heard(self, now: float) -> None:
        self.silent_at = now + self._idle
        self._fruitful = True
        self._barren = 0
        self._failures = 0

    def _expired(self, now: float) -> list[Action[ObjectT]]:
        """List anew: at once the first time, later after a rest, so that a server that expires everything has peace."""
        if self._listing:
            self._restarts += 1
        self._must_list = True
        self._failures += 1
        if self._failures == 1:
            return [self._next(now)]
        return [Troubled("what we ask for is always too old", self._failures), self._rest()]

    def _disorder(self) -> list[Action[ObjectT]]:
        """The server contradicts itself. As events reset the count of failures, each time is followed by a rest."""
        self._must_list = True
        self._failures = 1
        return [Rest(delay(BARREN))]

    def _failed(self, words: str, retry_after: float | None) -> list[Action[ObjectT]]:
        self._failures += 1
        self._look_after_barren()
        return [Troubled(words, self._failures), self._rest(retry_after)]

    def _ended(self, words: str, now: float) -> list[Action[ObjectT]]:
        if self._fruitful or now - self._opened_at >= HEALTHY:
            self._failures = 0
            self._look_after_barren()
            return [self._next(now)]
        return self._failed(words, None)

    def _look_after_barren(self) -> None:
        """A watch is over: after several that brought nothing the next thing is a list."""
        if self._listing or self._fruitful:
            return
        self._barren += 1
        self._must_list = self._must_list or self._barren >= BARREN

    def _rest(self, retry_after: float | None = None) -> Rest:
        return Rest(delay(self._failures, retry_after))


def _key(object: ObjectT) -> tuple[str, str]:
    return object.metadata.namespace, object.metadata.name
