"""Which pod is which worker: made, adopted, given up, collected. The pure part of the Kubernetes runtime.

    Wanted ──▶ a spare of the same template, or Create ──▶ Link ──▶ Grant ──▶ Released ──▶ spare, or Delete
                                                            └ it does not come up ──▶ Explain ──▶ Fail, Delete

All pods that bear our label are known here, whoever has made them. One that nobody uses is *spare*: the daemon before
us has left it, its interpreter died, or its request was withdrawn. A spare is given to the next request for the same
template; if none comes for a while, or there is no room for another pod, it is deleted. So warm pods outlive their
daemon and are never duplicated, and what nobody asks for is collected. A pod that has come to its end is deleted, and
its directory cleared once it is gone.

`handle(event, now)` returns actions; the driver does them and says what came of it. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cluster_agent.runtimes.kubernetes.api.reasons import Cause, Reason
from cluster_agent.runtimes.kubernetes.held import Held, State
from cluster_agent.runtimes.kubernetes.judging import end_of, hopeless
from cluster_agent.runtimes.kubernetes.messages import (
    Action,
    Clear,
    Create,
    Delete,
    Died,
    Event,
    Explain,
    Explained,
    Fail,
    Gone,
    Grant,
    Leave,
    Link,
    Linked,
    Listed,
    Refused,
    Released,
    RoomNeeded,
    Seen,
    Tick,
    Unlinked,
    Unlisted,
    Unwanted,
    WakeAt,
    Wanted,
)

TEMPLATE_LABEL: Final = "bdw-fed.io/template"


@dataclass(slots=True)
class PodsCore:
    """All pods of one daemon."""

    _pods: dict[str, Held] = field(default_factory=dict)
    _requests: dict[int, Wanted] = field(default_factory=dict)  # that were neither granted nor failed
    _listed: bool = False
    _leaving: bool = False
    _wake_at: float = float("inf")
    _actions: list[Action] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------- questions

    def knows(self, name: str) -> bool:
        """Whether there is, or was just now, a pod of this name."""
        return name in self._pods

    def names(self, *states: State) -> Iterator[str]:
        """The pods in these states."""
        return (held.name for held in self._pods.values() if held.state in states)

    # ---------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event in; what is to be done now, in order."""
        self._actions = []
        _TAKE[type(event)](self, event, now)
        return self._actions

    def _list(self, _event: Listed, now: float) -> None:
        if not self._listed:
            self._listed = True
            for wanted in list(self._requests.values()):
                self._serve(wanted, now)

    def _unlist(self, event: Unlisted, _now: float) -> None:
        """Until it was listed once nothing can be granted, and whoever waits shall know why."""
        if not self._listed:
            for request in list(self._requests):
                del self._requests[request]
                self._actions.append(Fail(request, event.why))

    def _see(self, event: Seen, now: float) -> None:
        name = event.pod.metadata.name
        held = self._pods.get(name)
        if held is None:
            template = event.pod.metadata.labels.get(TEMPLATE_LABEL, "")
            held = self._pods[name] = Held(name, template, State.SPARE, now)
        held.pod = event.pod
        end = end_of(event.pod)
        match held.state:
            case State.USED if end is not None and held.dead is None:
                held.dead = end
                self._actions.append(Died(name, end))
            case State.SPARE if end is not None or hopeless(event.pod):
                self._delete(held, now)
            case State.STARTING if end is not None:
                self._give_up(held, end.text, now)
            case State.STARTING:
                self._look(held, now)
        self._wake_for(held, now)

    def _vanish(self, event: Gone, now: float) -> None:
        held = self._pods.get(event.name)
        if held is None:
            return
        if event.pod is not None:
            held.pod = event.pod
        reason = held.dead or (end_of(held.pod) if held.pod is not None else None)
        reason = reason or Reason(Cause.DELETED, "the pod was deleted")
        if held.state is State.USED:
            if held.dead is None:
                held.dead = reason
                self._actions.append(Died(held.name, reason))
            held.pod = None  # cleared when its worker was stopped
            return
        del self._pods[event.name]
        self._actions.append(Clear(event.name))
        for other in self._pods.values():
            if other.lacks_room:
                other.troubled_since = now  # what was left is room, of which the scheduler will hear
                self._wake_for(other, now)
        self._failed(held, held.given_up or reason.text, "", now)

    def _want(self, event: Wanted, now: float) -> None:
        self._requests[event.request] = event
        if self._listed:
            self._serve(event, now)

    def _unwant(self, event: Unwanted, now: float) -> None:
        if event.request not in self._requests:
            return
        del self._requests[event.request]
        held = next((held for held in self._pods.values() if held.request == event.request), None)
        if held is not None and held.state is State.STARTING:
            held.request = 0
            if held.given_up:
                self._delete(held, now)
            else:
                self._spare(held, now)

    def _refuse(self, event: Refused, _now: float) -> None:
        held = self._pods.get(event.name)
        if held is None or held.pod is not None:
            return  # an earlier try had worked after all
        del self._pods[event.name]
        self._actions.append(Clear(event.name))
        if held.request in self._requests:
            del self._requests[held.request]
            self._actions.append(Fail(held.request, event.message, "", event.no_room))

    def _link(self, event: Linked, now: float) -> None:
        held = self._pods.get(event.name)
        if held is None or held.state in (State.USED, State.LEAVING):
            return
        held.linked = True
        if held.state is State.STARTING and not held.given_up:
            self._grant(held, now)

    def _unlink(self, event: Unlinked, now: float) -> None:
        held = self._pods.get(event.name)
        if held is None:
            return
        held.linked = held.linking = False
        if held.state is State.SPARE:
            self._delete(held, now)
        elif held.state is State.STARTING:
            self._give_up(held, event.why, now)

    def _explain(self, event: Explained, now: float) -> None:
        held = self._pods.get(event.name)
        if held is None:
            return
        held.explaining = False
        if held.state is not State.STARTING:
            return
        if held.given_up:
            message = event.reason.text if event.reason is not None else held.given_up
            self._delete(held, now)
            self._failed(held, message, event.words, now)
        elif event.reason is None:
            held.trouble = None if held.remarked else held.trouble
        elif held.trouble is None:
            held.trouble, held.troubled_since, held.remarked = event.reason, now, True
        self._wake_for(held, now)

    def _release(self, event: Released, now: float) -> None:
        held = self._pods.get(event.name)
        if held is None or held.state is not State.USED:
            return
        if held.dead is not None and held.pod is None:
            del self._pods[event.name]
            self._actions.append(Clear(event.name))
        elif (event.reusable or self._leaving) and held.linked and held.dead is None:
            self._spare(held, now)
        else:
            self._delete(held, now)

    def _need_room(self, _event: RoomNeeded, now: float) -> None:
        for held in list(self._pods.values()):
            if held.state is State.SPARE:
                self._delete(held, now)

    def _leave(self, _event: Leave, _now: float) -> None:
        self._leaving = True

    def _tick(self, _event: Tick, now: float) -> None:
        self._wake_at = float("inf")
        for held in list(self._pods.values()):
            if held.is_stale(now):
                self._delete(held, now)
            elif held.state is State.STARTING:
                self._look(held, now)
        for held in self._pods.values():
            self._wake_for(held, now)

    # -------------------------------------------------------------------------------------------------- going on

    def _serve(self, wanted: Wanted, now: float) -> None:
        """Give a request the best spare that fits; else have a pod made."""
        fitting = [
            held for held in self._pods.values() if held.state is State.SPARE and held.template == wanted.template
        ]
        if not fitting:
            self._make(wanted, now)
            return
        held = max(fitting, key=lambda held: (held.linked, held.running_since is not None, held.since))
        held.request, held.adopted = wanted.request, True
        if held.linked:
            self._grant(held, now)
            return
        self._start(held, now)

    def _make(self, wanted: Wanted, now: float) -> None:
        held = self._pods[wanted.name] = Held(wanted.name, wanted.template, State.STARTING, now, wanted.request)
        self._actions.append(Create(held.name, wanted.request))
        self._start(held, now)

    def _start(self, held: Held, now: float) -> None:
        held.state, held.since, held.looked_at = State.STARTING, now, now
        held.running_since = None
        if not held.linking:
            held.linking = True
            self._actions.append(Link(held.name))
        if held.pod is not None:
            self._look(held, now)
        self._wake_for(held, now)

    def _grant(self, held: Held, now: float) -> None:
        held.state, held.since = State.USED, now
        del self._requests[held.request]
        self._actions.append(Grant(held.request, held.name))
        held.request = 0

    def _spare(self, held: Held, now: float) -> None:
        held.state, held.since, held.request, held.adopted = State.SPARE, now, 0, False
        self._wake_for(held, now)

    def _delete(self, held: Held, now: float) -> None:
        held.state, held.since = State.LEAVING, now
        self._actions.append(Delete(held.name))

    def _look(self, held: Held, now: float) -> None:
        """Whether a pod that starts still may come up."""
        if held.given_up:
            return
        held.note(now)
        if held.lacks_room:
            self._need_room(RoomNeeded(), now)
            if any(self.names(State.LEAVING)):
                held.troubled_since = now
        if (why := held.verdict(now)) is not None:
            self._give_up(held, why, now)
        elif held.puzzles(now):
            held.looked_at = now
            self._ask(held)

    def _ask(self, held: Held) -> None:
        if not held.explaining:
            held.explaining = True
            self._actions.append(Explain(held.name))

    def _give_up(self, held: Held, why: str, now: float) -> None:
        """It will not come up. Who asked for it is told why when more is known; an adopted one is replaced."""
        if held.given_up:
            return
        held.given_up = why
        if held.adopted:
            self._delete(held, now)
            self._failed(held, why, "", now)
        else:
            self._ask(held)

    def _failed(self, held: Held, message: str, words: str, now: float) -> None:
        """The request that a pod had is not granted by it."""
        request, held.request = held.request, 0
        wanted = self._requests.get(request)
        if wanted is None:
            return
        if held.adopted and not self._leaving:
            self._serve(wanted, now)
            return
        del self._requests[request]
        self._actions.append(Fail(request, message, words, held.unscheduled))

    def _wake_for(self, held: Held, now: float) -> None:
        if held.due < self._wake_at:
            self._wake_at = max(held.due, now)
            self._actions.append(WakeAt(self._wake_at))


_TAKE: Final[Mapping[type, Callable[[PodsCore, Any, float], None]]] = {
    Listed: PodsCore._list,
    Unlisted: PodsCore._unlist,
    Seen: PodsCore._see,
    Gone: PodsCore._vanish,
    Wanted: PodsCore._want,
    Unwanted: PodsCore._unwant,
    Refused: PodsCore._refuse,
    Linked: PodsCore._link,
    Unlinked: PodsCore._unlink,
    Explained: PodsCore._explain,
    Released: PodsCore._release,
    RoomNeeded: PodsCore._need_room,
    Leave: PodsCore._leave,
    Tick: PodsCore._tick,
}
