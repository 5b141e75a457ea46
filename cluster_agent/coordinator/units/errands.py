"""What nodes were asked to do with the bytes of units, and have not done yet: fetch, rescue, delete."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Fetch:
    """Bytes on their way to a node: from another node, or from the cluster that granted the unit."""

    unit: bytes
    node: str
    tasks: list[bytes] = field(default_factory=list)  # assigned to the node, waiting for the bytes
    crossing: bool = False
    set_aside: int = 0  # bytes of the node's disk, see underway
    source: str = ""  # the node of ours that they come from
    tries: int = 0
    checks: bool = False  # it is there, as we believe; the node looks
    said: bool = False  # the node was told, and has not answered
    pushed: bool = False  # it was told to expect the unit, which the other cluster is to send
    gone: bool = False  # the other cluster had not got the unit, and has not said since where it is
    unshared: bool = False  # a shared place did not give it: it is asked for elsewhere


@dataclass(slots=True, eq=False)
class Rescue:
    """An output that only a bucket has, and the node that is to take it over. See rescuing."""

    node: str = ""
    stream: int = -1  # of that node's connections the one on which it was told; -1: it has answered that it can't
    tries: int = 0
    asked: set[str] = field(default_factory=set)  # nodes that may have it by now


@dataclass(slots=True, eq=False)
class Clearing:
    """Who was told to delete a leftover in a shared place; `stream` tells a node's connections apart."""

    node: str = ""
    stream: int = 0
    tries: int = 0
