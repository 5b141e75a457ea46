"""What holds of the conversation with a service, whatever it says and whenever it dies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_agent.runtimes.base import Outcome, Service
from cluster_agent.runtimes.services import messages as m
from cluster_agent.runtimes.services.coding import MOST_BYTES, CodingError, Delimited, Lines, coding
from cluster_agent.runtimes.services.core import GRACE_SECONDS, ServiceCore

DIED = m.Exited(Outcome("exit", "the service ended with exit code 3", "last words"))
IDS = ["a", "b", "c"]


def task(id: str, timeout: float = 0.0) -> m.Task:
    return m.Task(id, "/d", "/d/tmp", {"one": "/d/in", "many": ["/d/1"]}, {"o": "/d/out"}, {"p": [1, "x"]}, timeout)


def up(service: Service | None = None) -> ServiceCore:
    core = ServiceCore(service or Service(slots=3, health=0.0))
    core.handle(m.Began(), 0.0)
    core.handle(m.Heard(m.Hello(1)), 0.0)
    assert core.handle(m.Heard(m.Ready()), 0.0)[0] == m.Up()
    return core


def ended(actions: list[m.Action]) -> dict[str, str]:
    return {action.id: action.outcome.kind for action in actions if isinstance(action, m.Ended)}


EVENTS = st.one_of(
    st.builds(m.Wanted, st.builds(task, st.sampled_from(IDS), st.sampled_from([0.0, 1.0])), st.booleans()),
    st.builds(m.Unwanted, st.sampled_from(IDS)),
    st.builds(
        m.Heard,
        st.one_of(
            st.builds(m.Result, st.sampled_from([*IDS, "nobody's"]), st.sampled_from([None, m.Failure("why")])),
            st.builds(m.Log, st.just("text"), st.sampled_from(["", *IDS])),
            st.sampled_from([m.Hello(1), m.Ready(), m.Pong()]),
        ),
    ),
    st.sampled_from([m.Tick(), m.HungUp(), m.Broken("why"), m.Stop(), DIED]),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 3)), max_size=40))
def test_every_task_ends_once_and_what_is_alone_is_alone(story: list[tuple[m.Event, float]]) -> None:
    core = ServiceCore(Service(slots=3, warm_up=5.0, health=4.0))
    core.handle(m.Began(), 0.0)
    core.handle(m.Heard(m.Hello(1)), 0.0)
    core.handle(m.Heard(m.Ready()), 0.0)
    open_: dict[str, bool] = {}  # wanted -> whether alone
    with_it: set[str] = set()
    killed = dead = False
    now = 0.0

    def take(event: m.Event) -> None:
        nonlocal killed, dead
        for action in core.handle(event, now):
            match action:
                case m.Tell(m.Task(id=id)):
                    assert not killed
                    assert not dead
                    with_it.add(id)
                    assert len(with_it) == 1 or not any(open_[each] for each in with_it)
                case m.Tell():
                    assert not (killed or dead)
                case m.Ended(id=id, suspect=suspect):
                    assert not suspect or dead
                    del open_[id]
                    with_it.discard(id)
                case m.Kill():
                    assert not killed, "once is enough"
                    killed = True
                case m.Write(ids=ids):
                    assert set(ids) <= with_it

    for event, seconds in story:
        if dead and event == DIED:
            continue
        now += seconds
        if isinstance(event, m.Wanted):
            if event.task.id in open_:
                continue
            open_[event.task.id] = event.alone
        dead = dead or event == DIED
        take(event)
    if not dead:
        dead = True
        take(DIED)
    assert not open_


def test_a_death_is_charged_to_the_one_task_and_to_none_of_several() -> None:
    core = up()
    core.handle(m.Wanted(task("a")), 0.0)
    [end] = core.handle(DIED, 2.0)
    assert end == m.Ended("a", Outcome("exit", "the service ended with exit code 3", "last words", 2.0), suspect=False)
    core = up()
    for id in "ab":
        core.handle(m.Wanted(task(id)), 0.0)
    ends = core.handle(DIED, 0.0)
    assert ended(ends) == {"a": "lost", "b": "lost"}
    assert all(isinstance(end, m.Ended) and end.suspect for end in ends)


def test_a_suspect_waits_for_the_others_and_they_for_it() -> None:
    core = up()
    core.handle(m.Wanted(task("a")), 0.0)
    assert core.handle(m.Wanted(task("b"), alone=True), 0.0) == []
    assert core.handle(m.Wanted(task("c")), 0.0) == []
    assert m.Tell(task("b")) in core.handle(m.Heard(m.Result("a")), 0.0)
    assert m.Tell(task("c")) in core.handle(m.Heard(m.Result("b")), 0.0)


def test_a_task_that_outlives_its_cancellation_is_the_only_one_to_blame() -> None:
    core = up()
    core.handle(m.Wanted(task("a", timeout=1.0)), 0.0)
    core.handle(m.Wanted(task("b")), 0.0)
    assert core.handle(m.Tick(), 1.0)[0] == m.Tell(m.Cancel("a"))
    assert core.handle(m.Tick(), 1.0 + GRACE_SECONDS)[0] == m.Kill()
    ends = core.handle(m.Exited(Outcome("lost", "was killed")), 3.0)
    assert ended(ends) == {"a": "timeout", "b": "lost"}
    assert not any(isinstance(end, m.Ended) and end.suspect for end in ends)


def test_a_connection_that_closes_before_its_process_ends_does_not_hide_why_it_did() -> None:
    core = up()
    core.handle(m.Wanted(task("a")), 0.0)
    assert core.handle(m.HungUp(), 1.0) == [m.WakeAt(1.0 + GRACE_SECONDS)]
    assert not core.ready
    assert ended(core.handle(DIED, 1.1)) == {"a": "exit"}
    core = up()
    core.handle(m.HungUp(), 1.0)
    assert core.handle(m.Tick(), 1.0 + GRACE_SECONDS) == [m.Kill()]


def test_who_is_silent_is_asked_and_who_does_not_answer_is_ended() -> None:
    core = up(Service(slots=2, health=10.0))
    core.handle(m.Wanted(task("a")), 1.0)
    assert core.handle(m.Tick(), 10.0) == [m.Tell(m.Ping()), m.WakeAt(20.0)]
    assert core.handle(m.Heard(m.Pong()), 19.0) == [m.WakeAt(29.0)]
    assert core.handle(m.Tick(), 29.0) == [m.Tell(m.Ping()), m.WakeAt(39.0)]
    assert core.handle(m.Tick(), 39.0) == [m.Kill()]


def test_one_that_does_one_thing_at_a_time_is_asked_between_its_tasks_alone() -> None:
    core = up(Service(slots=1, health=10.0))
    assert core.handle(m.Wanted(task("a")), 1.0) == [m.Tell(task("a"))]
    assert core.handle(m.Tick(), 500.0) == []
    ended_at, wake = core.handle(m.Heard(m.Result("a")), 600.0)
    assert isinstance(ended_at, m.Ended)
    assert wake == m.WakeAt(610.0)
    assert core.handle(m.Tick(), 610.0)[0] == m.Tell(m.Ping())
    core.handle(m.Wanted(task("b")), 611.0)
    assert core.handle(m.Tick(), 620.0) == [m.Kill()], "that was asked before the task came"


def test_one_that_is_drained_may_end_in_order_and_is_ended_if_it_does_not() -> None:
    core = up()
    assert core.handle(m.Stop(), 0.0) == [m.Tell(m.Drain()), m.WakeAt(GRACE_SECONDS)]
    assert core.handle(m.Tick(), GRACE_SECONDS) == [m.Kill()]


SAID = [
    ("hello", m.Hello(1)),
    ("ready", m.Ready()),
    ("result", m.Result("a.1", m.Failure("why", "more", "output"))),
    ("result", m.Result("a.1")),
    ("log", m.Log("über\nalles", "a.1", True)),
    ("pong", m.Pong()),
]


def packed(protocol: str, said: list[tuple[str, m.Said]]) -> bytes:
    import json

    import msgspec

    from bdw_fed.v1 import service_pb2 as pb

    if protocol == "json":
        return b"".join(json.dumps({name: msgspec.to_builtins(one)}).encode() + b"\r\n\n" for name, one in said)
    whole = b""
    for name, one in said:
        fields: dict[str, Any] = {key: value for key, value in msgspec.to_builtins(one).items() if value is not None}
        body = pb.ServiceSays(**{name: fields}).SerializeToString()
        whole += bytes([len(body)]) + body
    return whole


@pytest.mark.parametrize("protocol", ["json", "proto"])
@given(st.lists(st.sampled_from(SAID), max_size=6), st.integers(1, 9))
def test_messages_are_read_however_they_are_cut(protocol: str, said: list[tuple[str, m.Said]], piece: int) -> None:
    whole, read = packed(protocol, said), coding(protocol)
    found = [one for at in range(0, len(whole), piece) for one in read.read(whole[at : at + piece])]
    assert found == [one for _, one in said]


@pytest.mark.parametrize("protocol", ["json", "proto"])
@given(st.binary(max_size=200))
def test_what_is_no_message_is_told_in_words_or_waited_for(protocol: str, data: bytes) -> None:
    try:
        found = list(coding(protocol).read(data))
    except CodingError as error:
        assert str(error).startswith("it sent ")
    else:
        assert all(isinstance(one, m.Said) for one in found)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"x", "no line of JSON"),
        (b"[]", "expected is an object with one field, which is one of hello, ready, result, log, pong"),
        (b'{"hello": {}}', "missing required field `version`"),
        (b'{"done": {}}', "it sent 'done', but expected is one of hello, ready, result, log, pong"),
        (b'{"result": {"id": 5}}', "Expected `str`, got `int`"),
        (b"x" * (MOST_BYTES + 1), "a line of more than 4 MiB"),
    ],
)
def test_a_line_that_is_wrong_says_what_was_expected(line: bytes, why: str) -> None:
    with pytest.raises(CodingError) as raised:
        list(Lines().read(line + b"\n"))
    assert why in str(raised.value)


def test_what_a_service_is_told_is_the_same_in_both_protocols() -> None:
    import json

    from bdw_fed.v1 import service_pb2 as pb

    told = task("a.1", 2.5)
    line = json.loads(Lines().write(told))["task"]
    body = Delimited().write(told)
    proto = pb.ServiceTold.FromString(body[1 if body[0] < 0x80 else 2 :]).task
    assert line["inputs"] == {"one": "/d/in", "many": ["/d/1"]}
    assert {port: (list(one.paths), one.many) for port, one in proto.inputs.items()} == {
        "one": (["/d/in"], False),
        "many": (["/d/1"], True),
    }
    assert line["parameters"] == json.loads(proto.parameters_json) == {"p": [1, "x"]}
    assert (line["id"], line["timeout"]) == (proto.id, proto.timeout) == ("a.1", 2.5)
    assert {json.dumps(json.loads(Lines().write(one))) for one in (m.Ping(), m.Drain(), m.Cancel("a"))} == {
        '{"ping": {}}',
        '{"drain": {}}',
        '{"cancel": {"id": "a"}}',
    }
