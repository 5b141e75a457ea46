"""How each fault is done to a world, and undone.

Scenario.faults ─ at their times ─▶ Striking ─▶ processes, links, disks, the store, operators
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from simulator.trials.disk import NODE_BYTES
from simulator.trials.faults import Fault
from simulator.trials.loop import Process
from simulator.trials.network import Link
from simulator.trials.node import node_name

if TYPE_CHECKING:
    from simulator.trials.world import World

_SCRUB_AGAIN_SECONDS = 0.5


class Striking:
    """The faults of a trial."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = world.loop
        self._random = Random(f"{world.scenario.seed}/faults")

    def begin(self) -> None:
        """Each will come at its time."""
        for fault in self._world.scenario.faults:
            self._loop.call_at(fault.at, self._strike, fault)

    def _strike(self, fault: Fault) -> None:
        world = self._world
        match fault.kind:
            case "crash-hub" | "crash-node" | "crash-relay":
                world.hold_down(fault.on, fault.seconds)
            case "crash-agent" if fault.how == "now":
                world.hold_down(fault.on, fault.seconds)
            case "crash-agent":
                self._crash_at_commit(fault)
            case "power":
                self._power_off(fault)
            case "disk-lost":
                world.kill(fault.on)
                world.journals[fault.on].lose()
                world.hold_down(fault.on, fault.seconds)
            case "cordon" | "drain" | "taint":
                world.users.mark(fault)
            case "revoke":
                world.users.revoke(fault.on.partition("/")[2])
            case "cut" | "partition" | "lossy" | "slow-link":
                self._strike_link(fault)
            case _:
                self._strike_part(fault)

    def _strike_link(self, fault: Fault) -> None:
        network, (here, there) = self._world.network, fault.on.split()
        match fault.kind:
            case "cut":
                for one, other in ((here, there), (there, here)):
                    network.block(one, other, fault.seconds)
                network.reset(here, there)
            case "partition":
                if fault.how in ("both", "to"):
                    network.block(here, there, fault.seconds)
                if fault.how in ("both", "from"):
                    network.block(there, here, fault.seconds)
            case "lossy":
                self._set_losses(fault, fault.amount)
                self._loop.call_later(fault.seconds, self._set_losses, fault, 0.0)
            case "slow-link":
                for link in self._both(fault):
                    link.slow = fault.amount
                    self._loop.call_later(fault.seconds, setattr, link, "slow", 1.0)

    def _strike_part(self, fault: Fault) -> None:
        world, later = self._world, self._loop.call_later
        match fault.kind:
            case "store-away":
                world.etcd.go_away(fault.seconds)
            case "answers-lost":
                world.etcd.lost = fault.amount
                later(fault.seconds, setattr, world.etcd, "lost", 0.0)
            case "hub-without-store":
                world.reaches[fault.on].cut_off(fault.seconds, self._random)
            case "disk-full":
                disk = world.disks.get(fault.on) or world.journals[fault.on]
                disk.full = True
                later(fault.seconds, setattr, disk, "full", False)
            case "disk-small":
                journal = world.journals[fault.on]
                journal.resize(int(fault.amount))
                later(fault.seconds, journal.resize, NODE_BYTES)
            case "clock-jump":
                process = world.processes[fault.on]
                process.skew += fault.amount
                later(fault.seconds, self._set_right, process)
            case "rot":
                world.journals[fault.on].rot(fault.amount, self._random)
                later(fault.seconds, self._scrub, fault.on)
            case "slow-node":
                world.paces[fault.on].slow = fault.amount
                later(fault.seconds, setattr, world.paces[fault.on], "slow", 1.0)
            case "workers-die":
                pace = world.paces[fault.on]
                pace.dies = lambda task, attempt: (task[1] + 37 * attempt) % 100 < fault.amount * 100
                later(fault.seconds, setattr, pace, "dies", lambda _task, _attempt: False)
            case kind:
                raise AssertionError(f"{kind} is a fault that nobody can do")

    def _scrub(self, node: str) -> None:
        """The node's scrubber passes by, or will once there is a daemon."""
        if self._world.processes[node].alive:
            self._world.journals[node].scrub()
        else:
            self._loop.call_later(_SCRUB_AGAIN_SECONDS, self._scrub, node)

    def _set_right(self, process: Process) -> None:
        process.skew = 0.0

    def _both(self, fault: Fault) -> Iterator[Link]:
        here, there = fault.on.split()
        yield self._world.network.link(here, there)
        yield self._world.network.link(there, here)

    def _set_losses(self, fault: Fault, amount: float) -> None:
        for link in self._both(fault):
            link.loss, link.double, link.overtake = amount / 5, amount, amount

    def _crash_at_commit(self, fault: Fault) -> None:
        """Its next commit, if there is one meanwhile, is the last thing that it does; or the first that it does not."""
        disk = self._world.disks[fault.on]
        disk.kill_at_commit = fault.how.partition("-")[0]
        disk.kill = lambda: self._world.hold_down(fault.on, fault.seconds)
        self._loop.call_later(fault.seconds, setattr, disk, "kill_at_commit", "")

    def _power_off(self, fault: Fault) -> None:
        cluster = fault.on.partition("/")[2]
        for name in (fault.on, *(node_name(cluster, node) for node in self._world.scenario.clusters[cluster])):
            self._world.hold_down(name, fault.seconds, power=True)
