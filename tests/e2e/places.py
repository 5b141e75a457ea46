"""Places far from each other, on one machine: each is a network namespace of its own, behind one router.

The router is a namespace too, so that every packet from place to place goes through it and nothing of the machine's own
network is touched. A namespace lives as long as the process that holds it, and that one dies with the test, however the
test ends: nothing has to be undone. What can go wrong with a network is done to the router: a fault lasts as long as
its `with`.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

ROUTER = "router"
LARGE = 600  # bytes; what is acknowledged, asked or kept alive fits into less
PATIENCE = 30.0
PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "tc", "ss", "iptables")
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


class Network:
    """The places by their names, and a router that lets everybody speak with everybody."""

    def __init__(self, places: Sequence[str]) -> None:
        self.places = tuple(places)
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._links = {place: threading.Lock() for place in places}  # one fault of a link at a time
        self._owned = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as owned:
            for name in (ROUTER, *self.places):
                self._holders[name] = _namespace(owned)
                self._do(name, "ip", "link", "set", "dev", "lo", "up")
            self._do(ROUTER, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            for place in self.places:
                self._connect(place)
            for chain in ("faults", "walls"):
                self._do(ROUTER, "iptables", "-N", chain)
                self._do(ROUTER, "iptables", "-A", "FORWARD", "-j", chain)
            self._owned = owned.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owned.close()

    def _connect(self, place: str) -> None:
        """A link from the place to the router, and the way over it to all others."""
        near, net = self.address(place), self._net(place)
        holder = str(self._holders[place].pid)
        self._do(ROUTER, "ip", "link", "add", "name", place, "type", "veth", "peer", "name", "uplink", "netns", holder)
        self._do(ROUTER, "ip", "address", "add", f"{net}.1/24", "dev", place)
        self._do(ROUTER, "ip", "link", "set", "dev", place, "up")
        self._do(place, "ip", "address", "add", f"{near}/24", "dev", "uplink")
        self._do(place, "ip", "link", "set", "dev", "uplink", "up")
        self._do(place, "ip", "route", "add", "default", "via", f"{net}.1")

    def _net(self, place: str) -> str:
        return f"10.47.{self.places.index(place)}"

    def address(self, place: str) -> str:
        """The host by which the others know the place."""
        return f"{self._net(place)}.2"

    def within(self, place: str) -> tuple[str, ...]:
        """Words before those of a command that is to run in a place; it dies with the thread that starts it."""
        return ("nsenter", f"--net=/proc/{self._holders[place].pid}/ns/net", "--", *_DIES_WITH_US)

    def wall(self, dialling: str, dialled: str) -> None:
        """For good: `dialling` can open no connection to `dialled`."""
        way = self._way(dialling, dialled)
        self._do(ROUTER, "iptables", "-A", "walls", *way, "-p", "tcp", "--syn", "-j", "DROP")

    def _way(self, sender: str, receiver: str) -> tuple[str, ...]:
        return ("-s", self.address(sender), "-d", self.address(receiver))

    @contextmanager
    def _ruled(self, ways: Sequence[tuple[str, str]], *rule: str) -> Iterator[None]:
        rules = [("faults", *self._way(sender, receiver), *rule) for sender, receiver in ways]
        for words in rules:
            self._do(ROUTER, "iptables", "-w", "-A", *words)
        try:
            yield
        finally:
            for words in rules:
                self._do(ROUTER, "iptables", "-w", "-D", *words)

    @contextmanager
    def cut(self, one: str, other: str) -> Iterator[None]:
        """Nothing gets from one to the other, nor back, and nobody is told."""
        with self._ruled(((one, other), (other, one)), "-j", "DROP"):
            yield

    @contextmanager
    def deaf(self, sender: str, receiver: str) -> Iterator[None]:
        """Nothing gets from one to the other; what goes the other way does."""
        with self._ruled(((sender, receiver),), "-j", "DROP"):
            yield

    @contextmanager
    def lossy(self, one: str, other: str, share: float) -> Iterator[None]:
        """This share of the packets gets lost, either way."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}", "-j", "DROP")
        with self._ruled(((one, other), (other, one)), *chance):
            yield

    @contextmanager
    def small_only(self, one: str, other: str) -> Iterator[None]:
        """Large packets get lost and small ones do not, as where a tunnel has a smaller size and nobody is told."""
        with self._ruled(((one, other), (other, one)), "-m", "length", "--length", f"{LARGE}:", "-j", "DROP"):
            yield

    @contextmanager
    def refusing(self, one: str, other: str) -> Iterator[None]:
        """Whatever is said on a connection of the two, old or new, is answered with its end."""
        with self._ruled(((one, other), (other, one)), "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"):
            yield

    @contextmanager
    def down(self, place: str) -> Iterator[None]:
        """The place's link is pulled out; whoever sends to it is told that nobody is there."""
        with self._links[place]:
            self._do(ROUTER, "ip", "link", "set", "dev", place, "down")
            try:
                yield
            finally:
                self._do(ROUTER, "ip", "link", "set", "dev", place, "up")

    @contextmanager
    def narrow(self, place: str, mbit: float) -> Iterator[None]:
        """No more than this gets to the place, after it has waited for up to half a second in a queue."""
        with self._links[place]:
            shape = ("rate", f"{mbit:.2f}mbit", "burst", "16kb", "latency", "500ms")
            self._do(ROUTER, "tc", "qdisc", "add", "dev", place, "root", "tbf", *shape)
            try:
                yield
            finally:
                self._do(ROUTER, "tc", "qdisc", "del", "dev", place, "root")

    def reset(self, place: str, other: str) -> None:
        """All connections between the two end at once; where the two are cut off, one end alone hears of it."""
        self._do(place, "ss", "--tcp", "--kill", "dst", self.address(other))

    def _do(self, name: str, *words: str) -> None:
        within = ("nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net", "--")
        done = subprocess.run(
            [*within, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)} in {name}: {done.stderr.strip()}"


def _namespace(owned: ExitStack) -> subprocess.Popen[bytes]:
    """A process that holds a network namespace of its own."""
    words = [*_DIES_WITH_US, "unshare", "--net", "sh", "-c", "echo here; exec sleep infinity"]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    owned.enter_context(holder)
    owned.callback(holder.kill)
    assert holder.stdout and holder.stderr
    if not holder.stdout.readline():
        raise Lacking(f"no network namespace: {holder.stderr.read().decode().strip()}")
    return holder


class Lacking(Exception):
    """This machine does not let us have places; says why."""


def lacking() -> str:
    """What places need and this machine has not; empty if all is there."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    try:
        with Network(("one", "other")) as network, network.cut("one", "other"), network.narrow("one", 1.0):
            return ""
    except (AssertionError, Lacking) as error:
        return str(error)
