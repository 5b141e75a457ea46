"""Whatever happens between server and client, the view becomes the server's state, and nothing is told twice."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from cluster_agent.runtimes.kubernetes.api.objects.meta import Object, ObjectMeta
from cluster_agent.runtimes.kubernetes.api.watch import core
from tests.kubernetes.history import Change, History

NAMES = st.sampled_from(["a", "b", "c", "d"])


class Consumer:
    """Keeps a view by the news alone, and takes offence at whatever doesn't follow from what was told before."""

    def __init__(self) -> None:
        self.view: dict[str, Object] = {}
        self.told: list[tuple[str, str, str]] = []
        self.listed = False

    def hear(self, news: core.News[Object]) -> None:
        match news:
            case core.Added(object):
                assert object.metadata.name not in self.view
                self.view[object.metadata.name] = object
                self._once("is", object)
            case core.Modified(object, before):
                assert self.view[object.metadata.name] == before
                assert object.metadata.uid == before.metadata.uid
                self.view[object.metadata.name] = object
                self._once("is", object)
            case core.Deleted(object):
                assert self.view.pop(object.metadata.name).metadata.uid == object.metadata.uid
                self._once("gone", object, version=False)
            case core.Listed():
                self.listed = True

    def _once(self, what: str, object: Object, *, version: bool = True) -> None:
        told = (what, object.metadata.uid, object.metadata.resource_version if version else "")
        assert told not in self.told, f"{told} was told twice"
        self.told.append(told)


class Schedules(RuleBasedStateMachine):
    """Any interleaving of what the server does, what the network does, and what the driver does next."""

    def __init__(self) -> None:
        super().__init__()
        self.server = History()
        self.core: core.WatchCore[Object] = core.WatchCore(_page=2)
        self.consumer = Consumer()
        self.now = 0.0
        self.order: core.Order | None = None
        self.snapshot: tuple[int, list[Object]] = (0, [])
        self.stream: deque[Change] | None = None
        self.seen = 0  # up to where the stream has been filled
        self.sent: list[Change] = []
        self.feed(core.Begin())

    def feed(self, event: core.Event[Object]) -> None:
        """What the driver does with an event: news to the consumer, and at most one order."""
        orders: list[core.Order] = []
        for action in self.core.handle(event, self.now):
            if isinstance(action, core.List | core.Watch | core.Rest):
                orders.append(action)
            else:
                assert not orders, "news after an order"
                self.consumer.hear(action)
        assert len(orders) <= 1
        if orders:
            self.order, self.stream = orders[0], None
        if isinstance(self.order, core.Rest):
            assert 0 <= self.order.delay.least <= self.order.delay.most <= 400
        if self.stream is None:
            assert self.order is not None, "nothing to do, and no watch"

    @property
    def listing(self) -> core.List | None:
        return self.order if self.stream is None and isinstance(self.order, core.List) else None

    @property
    def opening(self) -> core.Watch | None:
        return self.order if self.stream is None and isinstance(self.order, core.Watch) else None

    # The server lives.

    @rule(names=st.lists(NAMES, min_size=1, max_size=4))
    def put(self, names: list[str]) -> None:
        for name in names:
            self.server.put(name)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.server.delete(name)

    @rule()
    def other_kind(self) -> None:
        self.server.other_kind()

    @rule()
    def compact(self) -> None:
        self.server.compact()

    # The driver does what it was told, and it goes well.

    @precondition(lambda self: self.listing)
    @rule()
    def list(self) -> None:
        assert self.listing is not None
        start, limit = int(self.listing.token or 0), self.listing.limit
        if not start:
            self.snapshot = (self.server.version, list(self.server.objects.values()))
        version, objects = self.snapshot
        if start and version < self.server.compacted:
            self.feed(core.Expired())
            return
        end = start + limit if limit else len(objects)
        token = str(end) if end < len(objects) else ""
        self.feed(core.Page(tuple(objects[start:end]), str(version), token))

    @precondition(lambda self: self.opening)
    @rule()
    def open(self) -> None:
        assert self.opening is not None
        version = int(self.opening.version)
        if version < self.server.compacted:
            self.feed(core.Expired())
            return
        self.stream, self.seen, self.sent = deque(), version, []

    @precondition(lambda self: isinstance(self.order, core.Rest))
    @rule()
    def rest(self) -> None:
        assert isinstance(self.order, core.Rest)
        self.now += self.order.delay.most
        self.feed(core.Rested())

    def fill(self) -> None:
        assert self.stream is not None
        self.stream.extend(change for change in self.server.changes if change.version > self.seen)
        self.seen = self.server.version

    def settle(self) -> None:
        """Go on, and all goes well, until a watch is open."""
        while self.stream is None:
            if self.listing:
                self.list()
            elif self.opening:
                self.open()
            else:
                self.rest()

    @rule(count=st.integers(1, 4))
    def events(self, count: int) -> None:
        self.settle()
        self.fill_or_expire()
        while self.stream and count:
            count -= 1
            change = self.stream.popleft()
            self.sent.append(change)
            self.feed(core.Happened(change.object, change.deleted))

    def fill_or_expire(self) -> None:
        if self.seen < self.server.compacted:
            self.feed(core.Expired())  # the stream has fallen behind, and is told so by an event
        else:
            self.fill()

    @precondition(lambda self: self.stream is not None)
    @rule()
    def bookmark(self) -> None:
        self.fill_or_expire()
        if self.stream is not None and not self.stream:
            self.feed(core.Bookmark(str(self.server.version)))

    # It goes wrong.

    @precondition(lambda self: self.stream is not None and self.sent)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """The stream repeats an event, any event, as a broken proxy might."""
        change = data.draw(st.sampled_from(self.sent))
        self.feed(core.Happened(change.object, change.deleted))

    @rule()
    def out_of_order(self) -> None:
        """Two events come the wrong way round."""
        self.settle()
        self.fill_or_expire()
        if self.stream is not None and len(self.stream) >= 2:
            first, second = self.stream.popleft(), self.stream.popleft()
            for change in (second, first):
                if self.stream is not None:
                    self.sent.append(change)
                    self.feed(core.Happened(change.object, change.deleted))

    @precondition(lambda self: not isinstance(self.order, core.Rest) or self.stream is not None)
    @rule(asked=st.sampled_from([None, 1.0, 60.0]))
    def cut(self, asked: float | None) -> None:
        self.feed(core.Failed("cut", asked))

    @precondition(lambda self: self.stream is not None)
    @rule(lived=st.sampled_from([0.0, 30.0]))
    def end(self, lived: float) -> None:
        self.now += lived
        self.feed(core.Ended())

    @precondition(lambda self: self.stream is not None)
    @rule()
    def hang(self) -> None:
        self.now = max(self.now, self.core.silent_at)
        self.feed(core.Silent())

    @precondition(lambda self: self.listing or self.opening)
    @rule()
    def expire(self) -> None:
        self.feed(core.Expired())

    # In the end all is well.

    def teardown(self) -> None:
        """Once the network is good and nothing changes any more, the view is the server's state, soon."""
        for _ in range(4):
            self.settle()
            self.fill_or_expire()
            while self.stream:
                change = self.stream.popleft()
                self.feed(core.Happened(change.object, change.deleted))
            if self.stream is not None:
                self.feed(core.Bookmark(str(self.server.version)))
                break
        assert self.consumer.listed
        assert self.consumer.view == self.server.objects
        assert {name: object for (_, name), object in self.core.known.items()} == self.server.objects
        assert self.core.version == str(self.server.version)


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(stateful_step_count=40)


def pod(name: str, version: int, uid: str = "") -> Object:
    return Object(metadata=ObjectMeta(name=name, namespace="ns", uid=uid or name, resource_version=str(version)))


def watching(*objects: Object, version: int = 10) -> core.WatchCore[Object]:
    """A core that has listed these, and watches."""
    subject: core.WatchCore[Object] = core.WatchCore()
    subject.handle(core.Begin(), 0.0)
    assert subject.handle(core.Page(objects, str(version)), 0.0)[-1] == core.Watch(str(version))
    return subject


def order(actions: list[Any]) -> Any:
    return next((action for action in actions if isinstance(action, core.List | core.Watch | core.Rest)), None)


def test_a_watch_that_was_cut_goes_on_after_what_was_told_last() -> None:
    subject = watching(version=10)
    subject.handle(core.Happened(pod("a", 12)), 1.0)
    assert isinstance(order(subject.handle(core.Failed("cut"), 1.0)), core.Rest)
    assert subject.handle(core.Rested(), 1.1) == [core.Watch("12")]


def test_a_bookmark_moves_where_the_watch_goes_on() -> None:
    subject = watching(version=10)
    assert subject.handle(core.Bookmark("500"), 1.0) == []
    assert order(subject.handle(core.Ended(), 60.0)) == core.Watch("500")


def test_after_a_compaction_a_deletion_that_nobody_saw_is_told_and_what_stayed_is_not() -> None:
    stays, goes, changes = pod("stays", 3), pod("goes", 4), pod("changes", 5)
    subject = watching(stays, goes, changes)
    assert order(subject.handle(core.Expired(), 1.0)) == core.List()
    changed, new = pod("changes", 21), pod("new", 22)
    news = subject.handle(core.Page((stays, changed, new), "30"), 1.0)
    assert news == [
        core.Deleted(goes),
        core.Modified(changed, changes),
        core.Added(new),
        core.Listed("30"),
        core.Watch("30"),
    ]


def test_an_object_that_was_made_anew_under_its_name_is_two_objects() -> None:
    first, second = pod("a", 3, "one"), pod("a", 20, "two")
    by_list = watching(first)
    by_list.handle(core.Expired(), 1.0)
    assert by_list.handle(core.Page((second,), "30"), 1.0)[:2] == [core.Deleted(first), core.Added(second)]
    by_watch = watching(first)
    assert by_watch.handle(core.Happened(second), 1.0) == [core.Deleted(first), core.Added(second)]


def test_a_deletion_that_an_old_server_tells_with_the_objects_own_version_counts() -> None:
    subject = watching(pod("a", 3))
    assert subject.handle(core.Happened(pod("a", 3), deleted=True), 1.0) == [core.Deleted(pod("a", 3))]


def test_versions_that_are_no_numbers_are_compared_for_equality_alone() -> None:
    assert core.newer("10", "9")
    assert not core.newer("9", "10")
    assert not core.newer("10", "10")
    assert core.newer("abc", "abd")
    assert not core.newer("abc", "abc")


def test_a_server_that_expires_everything_is_not_asked_without_a_rest() -> None:
    subject = watching()
    assert order(subject.handle(core.Expired(), 0.0)) == core.List()
    subject.handle(core.Page((), "20"), 0.0)
    assert isinstance(order(subject.handle(core.Expired(), 0.0)), core.Rest)
    assert subject.handle(core.Rested(), 1.0) == [core.List()]


def test_a_list_that_expires_between_its_pages_again_and_again_is_asked_for_in_one_piece() -> None:
    subject: core.WatchCore[Object] = core.WatchCore(_page=1)
    todo = order(subject.handle(core.Begin(), 0.0))
    asked = []
    for _ in range(core.RESTARTS + 2):
        asked.append(todo.limit)
        assert subject.handle(core.Page((pod("a", 1),), "5", "next"), 0.0) == [core.List("next", 1)]
        todo = order(subject.handle(core.Expired(), 0.0))
        if isinstance(todo, core.Rest):
            todo = order(subject.handle(core.Rested(), 0.0))
        if todo.limit == 0:
            break
    assert asked == [1] * (core.RESTARTS + 1)
    assert order(subject.handle(core.Page((pod("a", 1),), "6"), 0.0)) == core.Watch("6")


def test_a_watch_that_hangs_is_opened_anew_and_in_the_end_the_server_is_asked_what_is() -> None:
    subject = watching(version=10)
    now = 0.0
    for _ in range(core.BARREN - 1):
        assert subject.silent_at > now
        now = subject.silent_at
        assert order(subject.handle(core.Silent(), now)) == core.Watch("10")
    assert order(subject.handle(core.Silent(), subject.silent_at)) == core.List()


def test_any_word_of_the_server_puts_off_the_moment_at_which_it_counts_as_silent() -> None:
    subject = watching(version=10)
    subject.handle(core.Bookmark("10"), 100.0)
    assert subject.silent_at == 100.0 + core.IDLE


@given(st.integers(2, 40))
def test_a_server_that_closes_each_watch_at_once_is_asked_less_and_less(times: int) -> None:
    subject = watching(version=10)
    bounds = []
    for _ in range(times):
        todo = order(subject.handle(core.Ended(), 0.0))
        assert isinstance(todo, core.Rest)
        bounds.append(todo.delay.most)
        todo = order(subject.handle(core.Rested(), 0.0))
        if isinstance(todo, core.List):
            assert order(subject.handle(core.Page((), "10"), 0.0)) == core.Watch("10")
    assert bounds == sorted(bounds)
    assert bounds[-1] <= 30.0
    assert bounds[-1] > bounds[0]


def test_a_store_that_was_set_back_is_listed() -> None:
    subject = watching(pod("a", 9), version=10)
    assert isinstance(order(subject.handle(core.Bookmark("7"), 1.0)), core.Rest)
    assert subject.handle(core.Rested(), 2.0) == [core.List()]
    assert subject.handle(core.Page((pod("a", 5),), "7"), 2.0)[:1] == [core.Modified(pod("a", 5), pod("a", 9))]


@pytest.mark.parametrize("asked", [1.0, 45.0])
def test_the_servers_own_word_on_when_to_come_back_is_kept_to(asked: float) -> None:
    todo = order(watching().handle(core.Failed("busy", asked), 0.0))
    assert todo.delay.least == asked


def test_failures_are_told_with_their_number() -> None:
    subject = watching()
    told = []
    for _ in range(3):
        told += [action for action in subject.handle(core.Failed("no route"), 0.0) if isinstance(action, core.Troubled)]
        subject.handle(core.Rested(), 0.0)
    assert told == [core.Troubled("no route", number) for number in (1, 2, 3)]


def test_pages_of_a_list_that_broke_off_are_forgotten() -> None:
    subject: core.WatchCore[Object] = core.WatchCore(_page=1)
    subject.handle(core.Begin(), 0.0)
    assert order(subject.handle(core.Page((pod("gone", 1),), "5", "next"), 0.0)) == core.List("next", 1)
    subject.handle(core.Failed("cut"), 0.0)
    assert subject.handle(core.Rested(), 1.0) == [core.List(limit=1)]
    news = subject.handle(core.Page((pod("stays", 2),), "6"), 1.0)
    assert news == [core.Added(pod("stays", 2)), core.Listed("6"), core.Watch("6")]
