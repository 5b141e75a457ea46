"""Taints as they are typed and shown: KEY=VALUE:EFFECT, and KEY- to take one away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bdw_fed.cli.exits import UsageError
from bdw_fed.v1 import control_plane_pb2 as pb

CORDONED = "cordoned"
DRAINING = "draining"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REMEDY = f"expected KEY:EFFECT, KEY=VALUE:EFFECT or KEY-, where EFFECT is one of {', '.join(_EFFECTS)}"


def taint(key: str, effect: str, value: str = "") -> pb.ClusterTaint:
    """A taint to put."""
    return pb.ClusterTaint(key=key, value=value, effect=effect)


def parsed(words: Sequence[str]) -> tuple[list[pb.ClusterTaint], list[str]]:
    """The taints to put, and the keys of those to take away. UsageError for a word that is neither.

    >>> put, take = parsed(["shared=true:NoSchedule", "broken-"])
    >>> (put[0].key, put[0].value, put[0].effect, take)
    ('shared', 'true', 'NoSchedule', ['broken'])
    """
    put, take = [], []
    for word in words:
        named, _, effect = word.removesuffix("-").partition(":")
        key, _, value = named.partition("=")
        if not key or (effect and effect not in _EFFECTS):
            raise UsageError(f"{word} is not a taint: {_REMEDY}")
        if word.endswith("-"):
            take.append(f"{key}:{effect}" if effect else key)
        elif effect:
            put.append(taint(key, effect, value))
        else:
            raise UsageError(f"{word} has no effect: {_REMEDY}")
    return put, take


def shown(taints: Iterable[pb.ClusterTaint]) -> str:
    """Taints in one line."""
    return ", ".join(f"{each.key}{'=' + each.value if each.value else ''}:{each.effect}" for each in taints)


def state_of(cluster: pb.ClusterStatus) -> str:
    """A cluster's state in a word, or two."""
    words = [cluster.state]
    for key in (DRAINING, CORDONED):
        if any(each.key == key for each in cluster.taints):
            return ",".join([*words, key])
    return cluster.state


def seconds_of(text: str, option: str) -> float:
    """A duration as it is typed. UsageError if it is none."""
    from topology.errors import WrongValue
    from topology.quantity import parse_duration

    try:
        return parse_duration(text)
    except WrongValue as error:
        raise UsageError(f"{option} {text}: {error}") from error
