"""What goes wrong in a trial, and when: a list that a seed draws, a scenario file holds, and shrinking shortens.

Every fault begins `at` some virtual second and lasts `seconds`; after the last one has ended all must come to rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final


@dataclass(frozen=True)
class Kind:
    """What a fault is about (see `Places.of`), what its `how` may be, and how often it is drawn."""

    about: str
    how: tuple[str, ...] = ()
    weight: float = 1.0


KINDS: Final[Mapping[str, Kind]] = {
    "crash-hub": Kind("hub", weight=1.5),
    "crash-agent": Kind("agent", ("now", "before-commit", "after-commit"), weight=4.0),
    "crash-node": Kind("node", weight=1.5),
    "power": Kind("agent", weight=1.0),
    "cut": Kind("link", weight=1.5),
    "partition": Kind("link", ("both", "to", "from"), weight=2.0),
    "lossy": Kind("session", weight=2.0),
    "slow-link": Kind("link", weight=0.7),
    "store-away": Kind("store", weight=1.0),
    "answers-lost": Kind("store", weight=1.0),
    "hub-without-store": Kind("hub", weight=0.7),
    "crash-relay": Kind("relay", weight=1.5),
    "cordon": Kind("cluster", weight=0.5),
    "drain": Kind("cluster", weight=0.7),
    "taint": Kind("cluster", ("NoSchedule", "PreferNoSchedule", "NoExecute"), weight=0.7),
    "revoke": Kind("cluster", weight=0.0),
    "disk-full": Kind("disk", weight=1.0),
    "disk-small": Kind("node", weight=0.0),
    "clock-jump": Kind("process", weight=0.7),
    "slow-node": Kind("node", weight=0.7),
    "workers-die": Kind("node", weight=1.0),
    "disk-lost": Kind("node", weight=0.5),
    "rot": Kind("node", weight=0.0),
}
"""By name. `power` takes a whole cluster down, with what was not synced; it is drawn only where durability is power.
`cordon`, `drain` and `taint` are taken back at their end; `revoke` is for good, and drawn apart from the others, as are
`disk-small` and `rot`: bytes on a disk are others than they were, and at its end the node's scrubber has been there.
"""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `on`: a place such as hub, agent/edge1, node/edge1/n1; of a link both, "a b".

    `amount`: how much of it; of a drain its deadline in seconds, of a small disk the bytes that its store may have, of
    rot the share of units.
    """

    kind: str
    at: float
    seconds: float
    on: str = ""
    how: str = ""
    amount: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.at:.3f}", self.kind, self.on, self.how]
        if self.amount:
            parts.append(f"{self.amount:.3g}")
        return " ".join(part for part in (*parts, f"for {self.seconds:.3f} s") if part)


@dataclass(frozen=True)
class Places:
    """What there is to go wrong: places by what they are, and links as "a b"."""

    hubs: Sequence[str]
    agents: Sequence[str]
    nodes: Sequence[str]
    relays: Sequence[str]
    clusters: Sequence[str]
    links: Sequence[str]

    def of(self, about: str) -> Sequence[str]:
        """All that a kind of fault may be about."""
        match about:
            case "hub":
                return self.hubs
            case "relay":
                return self.relays
            case "cluster":
                return self.clusters
            case "store":
                return ("store",)
            case "agent":
                return self.agents
            case "node":
                return self.nodes
            case "link":
                return self.links
            case "session":
                return [link for link in self.links if "node/" not in link]
            case "disk":
                return (*self.agents, *self.nodes)
            case _:
                return (*self.hubs, *self.agents, *self.nodes)


def drawn(random: Random, places: Places, *, most: int, during: float, power: bool) -> list[Fault]:
    """Up to `most` faults that begin in the first `during` seconds."""
    kinds = {
        name: kind
        for name, kind in KINDS.items()
        if kind.weight and places.of(kind.about) and (power or name != "power")
    }
    names = random.choices(list(kinds), [kind.weight for kind in kinds.values()], k=random.randint(1, most))
    faults = [_one(random, name, places, during) for name in names]
    return sorted(faults, key=lambda fault: fault.at)


def _one(random: Random, name: str, places: Places, during: float) -> Fault:
    kind = KINDS[name]
    at = round(random.uniform(0.2, during), 3)
    seconds = round(random.choice((random.uniform(0.01, 0.5), random.uniform(0.5, 5.0), random.uniform(5.0, 30.0))), 3)
    on = random.choice(places.of(kind.about))
    how = random.choice(kind.how) if kind.how else ""
    amount = 0.0
    match name:
        case "lossy" | "answers-lost" | "workers-die":
            amount = round(random.choice((0.05, 0.2, 0.5)), 3)
        case "slow-link":
            amount = random.choice((10.0, 100.0, 500.0))
        case "slow-node":
            amount = random.choice((3.0, 20.0))
        case "drain":
            amount = random.choice((0.0, 1.0, 5.0, 15.0))
        case "clock-jump":
            amount = random.choice((-86400.0, -60.0, 60.0, 86400.0))
    return Fault(name, at, seconds, on, how, amount)
