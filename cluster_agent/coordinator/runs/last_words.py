"""Tells the hub with a fragment's good end whose logs lack something of it, and later that none does: see `unheard`.

The second word is for runs that go on elsewhere for longer. It waits for a moment, within which most runs are over,
so that those cost the hub nothing; and after a restart it is said again, since nobody notes whether it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bdw_fed.v1.federation_pb2 import FragmentHeard
from bdw_fed.v1.model_pb2 import (
    DESIRED_STATE_RUNNING,
    DESIRED_STATE_SUSPENDED,
    FRAGMENT_STATE_SUCCEEDED,
    FragmentStatus,
)
from bdw_fed.v1.peer_pb2 import PeerMessage
from cluster_agent.coordinator.actions import SendHub
from cluster_agent.coordinator.intake import Intake
from cluster_agent.coordinator.messages import RunKey
from cluster_agent.coordinator.ports import Core, cluster_of
from cluster_agent.coordinator.runs.unheard import Unheard
from cluster_agent.log import CoordinatorLog

_SECONDS = 1.0
_GOES_ON = (DESIRED_STATE_RUNNING, DESIRED_STATE_SUSPENDED)


class LastWords:
    """A part of the driver, which tells it all that is said to peers, and all that they have acknowledged."""

    def __init__(self, core: Core, intake: Intake) -> None:
        self._core = core
        self._intake = intake
        self._unheard = Unheard()
        self._timers: dict[RunKey, asyncio.TimerHandle] = {}

    def restore(self, log: CoordinatorLog) -> None:
        """What an earlier life has said, and which of its runs have ended and may not be over."""
        for name in log.destinations():
            if cluster := cluster_of(name):
                self._unheard.begin(cluster, log.next_seq(name), [_run_of(body) for _, body in log.outbox(name)])
        for namespace, run, _, desired in self._core.inventory():
            if desired in _GOES_ON and self._has_ended(RunKey(namespace, run)):
                self._end(RunKey(namespace, run))
        self._intake.acks_awaited = self._unheard.awaited

    def said(self, cluster: str, run: RunKey) -> None:
        """This is put into the outbox to a cluster."""
        self._unheard.said(cluster, run)

    def renumbered(self, name: str, messages: list[tuple[int, bytes]], following: int) -> None:
        """The outbox of a destination has these numbers now."""
        if cluster := cluster_of(name):
            self._unheard.begin(cluster, following, [_run_of(body) for _, body in messages])

    def of_end(self, message: bytes) -> bytes:
        """How a fragment has ended, for the hub: a serialised FragmentStatus, with those that lack something of it."""
        status = FragmentStatus.FromString(message)
        if status.state != FRAGMENT_STATE_SUCCEEDED:
            return message
        status.unheard[:] = self._unheard.ended(RunKey(status.namespace, status.run))
        self._intake.acks_awaited = self._unheard.awaited
        return status.SerializeToString()

    def heard(self, acked: Mapping[str, int]) -> None:
        """Destinations have acknowledged all up to these numbers."""
        for name, number in acked.items():
            for run in self._unheard.heard(cluster_of(name), number):
                self._say_soon(run)
        self._intake.acks_awaited = self._unheard.awaited

    def close(self) -> None:
        """Nothing is said any more."""
        for timer in self._timers.values():
            timer.cancel()

    def _end(self, run: RunKey) -> None:
        if not self._unheard.ended(run):
            self._say_soon(run)

    def _say_soon(self, run: RunKey) -> None:
        if run not in self._timers:
            self._timers[run] = asyncio.get_running_loop().call_later(_SECONDS, self._say, run)

    def _say(self, run: RunKey) -> None:
        del self._timers[run]
        if not self._has_ended(run):
            return  # it was forgotten since, or begins again
        known = self._core.run(run)
        if known.desired in _GOES_ON:
            epoch = next(iter(known.fragments.values())).epoch
            heard = FragmentHeard(namespace=run.namespace, run=run.run, epoch=epoch)
            self._intake.say(SendHub("heard", heard.SerializeToString()))

    def _has_ended(self, run: RunKey) -> bool:
        try:
            return self._core.status(run).state == FRAGMENT_STATE_SUCCEEDED
        except KeyError:
            return False


def _run_of(body: bytes) -> RunKey:
    message = PeerMessage.FromString(body)
    return RunKey(message.namespace, message.run)
