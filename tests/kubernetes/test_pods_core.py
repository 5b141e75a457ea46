"""Whatever happens to pods, in whatever order: each request has one answer, no pod serves two, none stays for ever."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster_agent.runtimes.kubernetes import messages
from cluster_agent.runtimes.kubernetes.api.objects.meta import ObjectMeta
from cluster_agent.runtimes.kubernetes.api.objects.pod import (
    Container,
    ContainerState,
    ContainerStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    Running,
    Terminated,
    Waiting,
)
from cluster_agent.runtimes.kubernetes.api.reasons import Cause, Reason
from cluster_agent.runtimes.kubernetes.core import TEMPLATE_LABEL, PodsCore
from cluster_agent.runtimes.kubernetes.held import SPARE_SECONDS, State
from cluster_agent.runtimes.kubernetes.judging import LINK_SECONDS, START_SECONDS
from tests.settings import examples

TEMPLATES = ["a", "b"]


def pod(name: str, template: str = "a", *, node: str = "n1", condition: PodCondition | None = None) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, labels={TEMPLATE_LABEL: template}),
        spec=PodSpec(containers=[Container(name="worker", image="python:3.11-slim")], node_name=node),
        status=PodStatus(phase="Pending", conditions=[condition] if condition else []),
    )


def state(name: str, state: ContainerState, phase: str = "Pending", template: str = "a") -> Pod:
    made = pod(name, template)
    made.status.phase = phase
    made.status.container_statuses = [ContainerStatus(name="worker", state=state)]
    return made


def running(name: str, template: str = "a") -> Pod:
    return state(name, ContainerState(running=Running()), "Running", template)


def failed(name: str, reason: str = "Error", template: str = "a") -> Pod:
    return state(name, ContainerState(terminated=Terminated(exit_code=137, reason=reason)), "Failed", template)


def waiting(name: str, reason: str, message: str = "") -> Pod:
    return state(name, ContainerState(waiting=Waiting(reason=reason, message=message)))


class Cluster(RuleBasedStateMachine):
    """A driver that does what the core says, and a cluster in which anything may happen to a pod."""

    def __init__(self) -> None:
        super().__init__()
        self.core = PodsCore()
        self.now = 0.0
        self.numbers = 0
        self.there: dict[str, str] = {}  # pods by name, with their template
        self.ended: set[str] = set()
        self.linking: set[str] = set()
        self.linked: set[str] = set()
        self.explaining: set[str] = set()
        self.waiting: dict[int, str] = {}
        self.granted: dict[str, str] = {}  # in use, with the template asked for
        self.dead: set[str] = set()
        self.deleting: set[str] = set()
        self.cleared: set[str] = set()
        self.made: dict[int, int] = {}
        self.wake_at = float("inf")
        self.listed = False

    def do(self, event: messages.Event) -> None:
        for action in self.core.handle(event, self.now):
            match action:
                case messages.Create(name, request):
                    assert request in self.waiting
                    assert name not in self.there
                    assert name not in self.cleared
                    self.made[request] = self.made.get(request, 0) + 1
                    assert self.made[request] == 1
                    self.there[name] = self.waiting[request]
                case messages.Link(name):
                    assert name not in self.linking | self.linked
                    self.linking.add(name)
                case messages.Explain(name):
                    assert name not in self.explaining
                    self.explaining.add(name)
                case messages.Grant(request, name):
                    assert name in self.linked, "only a pod that has answered is a worker"
                    assert name not in self.granted, "no pod is two workers"
                    assert name not in self.deleting
                    self.granted[name] = self.waiting.pop(request)
                    assert self.granted[name] == self.there[name]
                case messages.Fail(request, message):
                    del self.waiting[request]
                    assert message
                case messages.Died(name, reason):
                    assert name in self.granted
                    assert name not in self.dead
                    assert reason.text
                    self.dead.add(name)
                case messages.Delete(name):
                    assert name not in self.granted, "what is used is never deleted"
                    self.deleting.add(name)
                    self.linked.discard(name)
                    self.linking.discard(name)
                case messages.Clear(name):
                    assert name not in self.granted
                    assert name not in self.there
                    self.cleared.add(name)
                    self.linked.discard(name)
                    self.linking.discard(name)
                case messages.WakeAt(at):
                    self.wake_at = min(at, self.wake_at)

    def some(self, data: st.DataObject, names: set[str]) -> str:
        return data.draw(st.sampled_from(sorted(names)))

    @rule(template=st.sampled_from(TEMPLATES))
    def left_by_an_earlier_daemon(self, template: str) -> None:
        self.numbers += 1
        name = f"left-{self.numbers}"
        self.there[name] = template
        self.do(messages.Seen(running(name, template)))

    @precondition(lambda self: not self.listed)
    @rule(well=st.booleans())
    def list(self, well: bool) -> None:
        self.listed = self.listed or well
        self.do(messages.Listed() if well else messages.Unlisted("the server is away"))
        assert well or not self.waiting

    @rule(template=st.sampled_from(TEMPLATES))
    def want(self, template: str) -> None:
        self.numbers += 1
        self.waiting[self.numbers] = template
        self.do(messages.Wanted(self.numbers, template, f"made-{self.numbers}"))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def unwant(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[request]
        self.do(messages.Unwanted(request))

    @precondition(lambda self: self.there)
    @rule(data=st.data(), how=st.sampled_from(["running", "pending", "no image", "back-off", "no node"]))
    def see(self, data: st.DataObject, how: str) -> None:
        name = self.some(data, self.there.keys() - self.ended or set(self.there))
        if name in self.ended:
            return
        template = self.there[name]
        seen = {
            "running": running(name, template),
            "pending": pod(name, template),
            "no image": waiting(name, "ErrImagePull", "not found"),
            "back-off": waiting(name, "ImagePullBackOff", "connection refused"),
            "no node": pod(
                name,
                template,
                node="",
                condition=PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message="full"),
            ),
        }[how]
        self.do(messages.Seen(seen))

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = self.some(data, set(self.there))
        self.ended.add(name)
        self.do(messages.Seen(failed(name, template=self.there[name])))

    @precondition(lambda self: self.there)
    @rule(data=st.data(), told=st.booleans())
    def vanish(self, data: st.DataObject, told: bool) -> None:
        name = self.some(data, set(self.there))
        template = self.there.pop(name)
        self.do(messages.Gone(name, running(name, template) if told else None))

    @precondition(lambda self: self.deleting & self.there.keys())
    @rule(data=st.data())
    def deleted(self, data: st.DataObject) -> None:
        name = self.some(data, self.deleting & self.there.keys())
        del self.there[name]
        self.do(messages.Gone(name))
        assert name in self.cleared

    @precondition(lambda self: any(name.startswith("made") for name in self.there))
    @rule(data=st.data(), no_room=st.booleans())
    def refuse(self, data: st.DataObject, no_room: bool) -> None:
        """The answer to a creation may come late."""
        fresh = {name for name in self.there if name.startswith("made") and name not in self.linked | self.deleting}
        if fresh - self.granted.keys():
            name = self.some(data, fresh - self.granted.keys())
            held = self.core._pods[name]
            if held.pod is None:
                del self.there[name]
                self.explaining.discard(name)
            self.do(messages.Refused(name, "no", no_room))

    @precondition(lambda self: self.linking)
    @rule(data=st.data(), well=st.booleans())
    def link(self, data: st.DataObject, well: bool) -> None:
        name = self.some(data, self.linking)
        self.linking.discard(name)
        if well:
            self.linked.add(name)
            self.do(messages.Linked(name))
        else:
            self.do(messages.Unlinked(name, "another version"))

    @precondition(lambda self: self.linked)
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        name = self.some(data, self.linked)
        self.linked.discard(name)
        self.do(messages.Unlinked(name, "the starter is gone"))

    @precondition(lambda self: self.explaining)
    @rule(data=st.data(), reason=st.sampled_from([None, Reason(Cause.VOLUME, "no volume")]))
    def explain(self, data: st.DataObject, reason: Reason | None) -> None:
        name = self.some(data, self.explaining)
        self.explaining.discard(name)
        self.do(messages.Explained(name, reason))

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), reusable=st.booleans())
    def release(self, data: st.DataObject, reusable: bool) -> None:
        name = self.some(data, set(self.granted))
        del self.granted[name]
        self.dead.discard(name)
        self.do(messages.Released(name, reusable))

    @rule(seconds=st.floats(0, SPARE_SECONDS))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.tick()

    def tick(self) -> None:
        if self.wake_at <= self.now:
            self.wake_at = float("inf")
            self.do(messages.Tick())

    @invariant()
    def none_is_forgotten(self) -> None:
        """Each pod that is there is known, and each request that waits has a pod or the list to wait for."""
        for name in self.there:
            assert self.core.knows(name) or name.startswith("left")
        if self.listed:
            assert set(self.core._requests) == set(self.waiting)
            for request in self.waiting:
                assert sum(held.request == request for held in self.core._pods.values()) == 1

    def teardown(self) -> None:
        """Left to itself, every request is answered, and what nobody uses goes."""
        if not self.listed:
            self.list(True)
        while self.explaining or self.deleting & self.there.keys() or self.wake_at < float("inf"):
            for name in sorted(self.explaining):
                self.explaining.discard(name)
                self.do(messages.Explained(name, None))
            for name in sorted(self.deleting & self.there.keys()):
                del self.there[name]
                self.do(messages.Gone(name))
            if self.wake_at < float("inf"):
                self.now = max(self.now, self.wake_at)
                self.tick()
        assert not self.waiting
        assert self.there.keys() <= self.granted.keys()
        super().teardown()


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=examples(60), stateful_step_count=30)


def begun(name: str = "w-1") -> PodsCore:
    """A core that waits for a pod."""
    made = PodsCore()
    made.handle(messages.Listed(), 0.0)
    assert made.handle(messages.Wanted(1, "a", name), 0.0)[0] == messages.Create(name, 1)
    return made


def given_up(made: PodsCore, seen: Pod, at: float) -> bool:
    """Whether the pod is given up when it looks like this then."""
    made.handle(messages.Seen(seen), at)
    return bool(made._pods["w-1"].given_up)


def test_an_image_that_is_not_there_is_told_at_the_first_pull() -> None:
    words = 'rpc error: failed to pull and unpack image "docker.io/library/nope:1": not found'
    made = begun()
    assert given_up(made, waiting("w-1", "ErrImagePull", words), 1.0)
    actions = made.handle(messages.Explained("w-1", Reason(Cause.IMAGE, "no image"), "words"), 2.0)
    assert actions == [messages.Delete("w-1"), messages.Fail(1, "no image", "words")]


def test_a_pod_that_no_node_can_take_just_now_is_told_as_that_for_the_pool_to_make_do() -> None:
    made = begun()
    condition = PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message="Insufficient cpu")
    assert not given_up(made, pod("w-1", node="", condition=condition), 1.0)
    assert given_up(made, pod("w-1", node="", condition=condition), 6.0)
    actions = made.handle(messages.Explained("w-1", None), 6.0)
    words = "no node can take the pod: Insufficient cpu"
    assert actions == [messages.Delete("w-1"), messages.Fail(1, words, "", True)]


def test_room_that_spares_take_and_pods_that_are_going_is_waited_for() -> None:
    made = begun()
    made.handle(messages.Seen(running("left-1", "b")), 0.0)
    condition = PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message="Insufficient cpu")
    assert messages.Delete("left-1") in made.handle(messages.Seen(pod("w-1", node="", condition=condition)), 1.0)
    for at in (6.0, 12.0, 18.0):
        made.handle(messages.Tick(), at)
        assert not made._pods["w-1"].given_up
    made.handle(messages.Gone("left-1"), 20.0)
    made.handle(messages.Tick(), 24.9)
    assert not made._pods["w-1"].given_up, "the scheduler has had no time yet"
    made.handle(messages.Tick(), 25.0)
    assert made._pods["w-1"].given_up


def test_a_pod_that_was_left_and_can_never_come_up_is_not_kept() -> None:
    made = PodsCore()
    assert messages.Delete("left-1") in made.handle(messages.Seen(waiting("left-1", "ErrImagePull", "not found")), 0.0)


def test_a_registry_that_can_not_be_had_is_asked_some_more_times() -> None:
    made = begun()
    for at in (1.0, 11.0, 31.0, 60.0):
        assert not given_up(made, waiting("w-1", "ErrImagePull", "dial tcp: connection refused"), at)
    assert given_up(made, waiting("w-1", "ImagePullBackOff", "dial tcp: connection refused"), 61.0)


def test_trouble_that_passes_is_forgotten() -> None:
    made = begun()
    condition = PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message="Insufficient cpu")
    assert not given_up(made, pod("w-1", node="", condition=condition), 1.0)
    assert not given_up(made, pod("w-1"), 5.0)
    assert not given_up(made, waiting("w-1", "ErrImagePull", "i/o timeout"), 80.0)


def test_a_starter_that_is_not_found_is_told_soon_with_what_to_look_for() -> None:
    made = begun()
    made.handle(messages.Seen(running("w-1")), 1.0)
    assert messages.Explain("w-1") not in made.handle(messages.Tick(), LINK_SECONDS)
    assert messages.Explain("w-1") in made.handle(messages.Tick(), 1.0 + LINK_SECONDS)
    [_, fail] = made.handle(messages.Explained("w-1", None), 40.0)
    assert isinstance(fail, messages.Fail)
    assert "at the same path?" in fail.message


def test_a_pod_of_which_nothing_is_heard_is_not_waited_for_for_ever() -> None:
    made = begun()
    assert messages.Explain("w-1") in made.handle(messages.Tick(), 10.0), "its events are read before"
    made.handle(messages.Explained("w-1", None), 10.0)
    made.handle(messages.Tick(), START_SECONDS)
    [_, fail] = made.handle(messages.Explained("w-1", None), START_SECONDS)
    assert isinstance(fail, messages.Fail)
    assert fail.message == "the pod is not up after 900 s"


def test_a_pod_that_is_left_is_adopted_and_no_other_is_made() -> None:
    made = PodsCore()
    assert made.handle(messages.Wanted(1, "a", "w-1"), 0.0) == [], "before it is known what there is"
    made.handle(messages.Seen(running("left-1")), 0.0)
    made.handle(messages.Seen(running("left-2", "b")), 0.0)
    assert messages.Link("left-1") in made.handle(messages.Listed(), 0.1)
    assert made.handle(messages.Linked("left-1"), 0.2) == [messages.Grant(1, "left-1")]
    assert messages.Delete("left-2") in made.handle(messages.Tick(), SPARE_SECONDS)


def test_an_adopted_pod_that_is_no_good_is_replaced() -> None:
    made = PodsCore()
    made.handle(messages.Seen(running("left-1")), 0.0)
    made.handle(messages.Listed(), 0.0)
    made.handle(messages.Wanted(1, "a", "w-1"), 0.0)
    actions = made.handle(messages.Unlinked("left-1", "the pod's starter speaks version 0"), 1.0)
    assert actions[:2] == [messages.Delete("left-1"), messages.Create("w-1", 1)]


def test_what_a_daemon_leaves_is_not_deleted() -> None:
    made = begun()
    made.handle(messages.Linked("w-1"), 1.0)
    made.handle(messages.Leave(), 2.0)
    assert messages.Delete("w-1") not in made.handle(messages.Released("w-1", False), 2.0)
    assert list(made.names(State.SPARE)) == ["w-1"]
