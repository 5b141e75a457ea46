"""Disturbing the network between two clusters: cut it, make it slow, and undo that.

All is done inside the nodes, to packets that come from or go to the other cluster's nodes; pods' packets have their
node's address by then. Rules carry our name, so what others have set stays. The scripts are made from addresses alone.

    cut    iptables, table raw: what comes from the other cluster is dropped, before anything is tracked
    slow   tc htb: what goes to the other cluster gets a class of its own with that rate, on each node
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from bdw_fed.kind import clusters
from bdw_fed.kind.errors import KindError
from bdw_fed.kind.programs import run
from bdw_fed.kind.state import State

_MARK = "bdw-fed"
_UNLIMITED = "100gbit"


def partition(state: State, a: str, b: str) -> None:
    """Cut two clusters off from each other."""
    pair = _pair(state, a, b)
    for name, other in (pair, pair[::-1]):
        drops = drop_script(other, sorted(clusters.addresses(other).values()))
        for node in clusters.addresses(name):
            _in_node(node, drops)
    if pair not in state.partitions:
        state.partitions.append(pair)
        state.save()


def heal(state: State, a: str = "", b: str = "") -> list[tuple[str, str]]:
    """Undo the partition of two clusters, or all partitions. Returns those that were undone."""
    healed = [_pair(state, a, b)] if a else list(state.partitions)
    for pair in healed:
        for name, other in (pair, pair[::-1]):
            for node in clusters.nodes(name):
                _in_node(node, heal_script(other))
        if pair in state.partitions:
            state.partitions.remove(pair)
            state.save()
    return healed


def limit(state: State, a: str, b: str, bandwidth: float) -> None:
    """Let no node of one cluster send more than so many bytes a second to the other; 0: without limit again."""
    pair = _pair(state, a, b)
    links = dict(state.links)
    if bandwidth:
        links[" ".join(pair)] = bandwidth
    else:
        links.pop(" ".join(pair), None)
    for name in pair:
        rates = rates_of(name, links)
        targets = {other: sorted(clusters.addresses(other).values()) for other in rates}
        script = limit_script(rates, targets)
        for node in clusters.addresses(name):
            _in_node(node, script)
    state.links = links
    state.save()


def renew(state: State) -> None:
    """Set again all that should be: nodes that were restarted have lost it."""
    for a, b in list(state.partitions):
        partition(state, a, b)
    for link, bandwidth in dict(state.links).items():
        a, b = link.split()
        limit(state, a, b, bandwidth)


def rates_of(cluster: str, links: Mapping[str, float]) -> dict[str, float]:
    """The limits of one cluster: other cluster -> bytes a second.

    >>> rates_of("b", {"a b": 1e6, "a c": 2e6})
    {'a': 1000000.0}
    """
    rates = {}
    for link, bandwidth in links.items():
        ends = link.split()
        if cluster in ends:
            rates[ends[1 - ends.index(cluster)]] = bandwidth
    return rates


def drop_script(other: str, addresses: Sequence[str]) -> str:
    """Shell: drop what comes from these addresses of the cluster `other`, each once."""
    lines = ["set -e"]
    for address in addresses:
        rule = f"PREROUTING -s {shlex.quote(address)} -m comment --comment {_mark(other)} -j DROP"
        lines.append(f"iptables -w -t raw -C {rule} 2>/dev/null || iptables -w -t raw -I {rule}")
    return "\n".join(lines)


def heal_script(other: str) -> str:
    """Shell: take away all rules against the cluster `other`, whatever its addresses were."""
    return (
        "set -e\n"
        f"iptables -w -t raw -S PREROUTING | grep -F -- '--comment {_mark(other)} ' | sed 's/^-A/-D/' |\n"
        "while read -r rule; do iptables -w -t raw $rule; done"
    )


def limit_script(rates: Mapping[str, float], addresses: Mapping[str, Sequence[str]]) -> str:
    """Shell: replace what we have set on the device that leads to other nodes with these rates (bytes a second)."""
    lines = ["set -e", "device=$(ip -o route show default | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p' | head -1)"]
    lines.append('tc qdisc del dev "$device" root 2>/dev/null || true')
    if not rates:
        return "\n".join(lines)
    lines.append('tc qdisc add dev "$device" root handle 1: htb default 1')
    lines.append(f'tc class add dev "$device" parent 1: classid 1:1 htb rate {_UNLIMITED} quantum 60000')
    for number, (other, rate) in enumerate(sorted(rates.items()), start=2):
        bits = max(8000, int(rate * 8))
        shape = f"htb rate {bits}bit burst 64kb cburst 64kb quantum 60000"
        lines.append(f'tc class add dev "$device" parent 1: classid 1:{number} {shape}')
        lines += [
            f'tc filter add dev "$device" parent 1: protocol ip prio {number} '
            f"u32 match ip dst {shlex.quote(address)}/32 flowid 1:{number}"
            for address in addresses[other]
        ]
    return "\n".join(lines)


def _mark(other: str) -> str:
    """The comment on rules against a cluster; of letters and '-' alone, so that iptables prints it without quotes."""
    return f"{_MARK}-{other}"


def _pair(state: State, a: str, b: str) -> tuple[str, str]:
    for name in (a, b):
        state.cluster(name)
    if a == b:
        raise KindError(f"{a} and {b} are one cluster; name two")
    first, second = sorted((a, b))
    return first, second


def _in_node(node: str, script: str) -> None:
    run("docker", "exec", node, "sh", "-c", script)
