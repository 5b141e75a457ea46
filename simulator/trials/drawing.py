"""A scenario from a seed: a federation of one to four clusters, a workflow or two over it, and what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from simulator.trials.bulk import UNIT_BYTES
from simulator.trials.faults import Fault, drawn
from simulator.trials.scenario import BY_QUOTA, Scenario, Submission, dumped
from simulator.trials.world import places_of

_NAMES = ("edge1", "edge2", "edge3", "cloud")
_DURING = 9.0  # virtual seconds in which faults begin
_MOST_FAULTS = 8
_SECONDS = (0.02, 0.2, 1.0, 2.0)  # of a task
_LONG = (0.2, 1.0, 2.0, 3.0)  # where a cluster is to be lost in the middle of a run
_REPLACING = 0.5  # how often a run that reserves nothing may begin again
_DEAF = 0.4  # how often another cluster does not hear at first that one was replaced
_STOPPING = 0.15  # and how often a cluster stops its part
_ROT = 0.3  # how often bytes on a disk are others than they were
_REVOKED = 0.08  # how often a cluster is cut off for good
_SMALL_DISKS = 0.25  # how often disks are too small for a while
_QUOTAS = 0.2  # how often a run has a quota, and how often its namespace has one


def scenario_of(seed: int, *, faults: bool = True) -> Scenario:
    """What a seed stands for. What came later is drawn by itself, so that a federation stays what it was."""
    random = Random(seed)
    clusters = _clusters(random)
    reserve = random.choice(("none", "none", "none", "hold", "lend"))
    documents = [{}, _step("work", 1.0), _step("light", 0.5)]
    disconnect = _disconnect(random) if reserve == "none" else {}
    _keep(Random(f"lines of {seed}"), disconnect)
    lost_after = float(str(disconnect.get("lost_after", "0s")).rstrip("s"))
    replaces = lost_after > 0 and len(clusters) > 1
    workflow = _workflow(random, list(clusters), reserve, disconnect)
    _merge(Random(f"merges of {seed}"), workflow)
    documents.append(workflow)
    documents += _quotas(Random(f"quotas of {seed}"), workflow)
    documents[0] = _topology(random, clusters, copies=0.7 if replaces else 0.3)
    submissions = []
    for number in range(random.choice((1, 1, 2, 3))):
        at = round(random.uniform(0.5, 3.0), 3)
        then: list[tuple[str, float]] = []
        chance = random.random()
        if chance < 0.1:
            then.append(("cancel", round(at + random.uniform(0.1, 8.0), 3)))
        elif chance < 0.2:
            begin = at + random.uniform(0.1, 4.0)
            then += [("suspend", round(begin, 3)), ("resume", round(begin + random.uniform(0.5, 10.0), 3))]
        submissions.append(Submission(f"run{number + 1}", "flow", at, tuple(then)))
    scenario = Scenario(
        name=f"seed-{seed}",
        seed=seed,
        objects=dumped(documents),
        submissions=tuple(submissions),
        durability=random.choice(("process", "process", "power")),
        hubs=random.choice((1, 1, 1, 2)),
        seconds={name: random.choice(_LONG if replaces else _SECONDS) for name in ("first", "second", "third", "last")},
    )
    if faults:
        power = scenario.durability == "power"
        wrong = drawn(random, places_of(scenario), most=_MOST_FAULTS, during=_DURING, power=power)
        if replaces:
            wrong += _losses(random, list(clusters), scenario.hub_names, lost_after)
        if len(clusters) > 1 and random.random() < _REVOKED:
            at = round(random.uniform(0.2, _DURING), 3)
            wrong.append(Fault("revoke", at, 0.0, f"cluster/{random.choice(list(clusters))}"))
        wrong += _rot(Random(f"rot of {seed}"), list(places_of(scenario).nodes))
        wrong += _small_disks(Random(f"disks of {seed}"), places_of(scenario).nodes)
        scenario = replace(scenario, faults=tuple(sorted(wrong, key=lambda fault: fault.at)))
    return replace(scenario, expected=_ends(scenario))


def _ends(scenario: Scenario) -> dict[str, tuple[str, ...]]:
    """How runs may end besides well: a full disk fails the task that meets it, a lost one may hold what can't be made
    again because others were told to free what it was made of. What waits for a revoked cluster is cancelled, and what
    has its data there can't be submitted. A cluster that stops its part fails a run that may not begin again."""
    bad_disk = any(fault.kind == "disk-full" and fault.on.startswith("node/") for fault in scenario.faults)
    bad_disk |= scenario.loses_disks
    stops = "stop_after" in scenario.objects and "replace: true" not in scenario.objects
    expected = {}
    for submission in scenario.submissions:
        ends = ["succeeded"]
        if scenario.is_bounded:
            ends.append(BY_QUOTA)
        if bad_disk or stops:
            ends.append("failed")
        if scenario.revoked or any(action == "cancel" for action, _ in submission.then):
            ends.append("cancelled")
        if scenario.revoked:
            ends.append("refused")
        if len(ends) > 1:
            expected[submission.run] = tuple(ends)
    return expected


def _clusters(random: Random) -> dict[str, dict[str, float]]:
    names = random.sample(_NAMES, random.choice((1, 2, 2, 3, 3, 4)))
    return {
        name: {f"n{number + 1}": float(random.choice((1, 2, 2))) for number in range(random.choice((1, 1, 2)))}
        for name in sorted(names)
    }


def _topology(random: Random, clusters: dict[str, dict[str, float]], copies: float) -> dict[str, object]:
    zones = [{"name": f"z-{name}", "tier": "cloud" if name == "cloud" else "edge"} for name in clusters]
    links = []
    names = list(clusters)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            link: dict[str, object] = {"between": [f"z-{one}", f"z-{other}"], "bandwidth": "100Mbit", "latency": "5ms"}
            if dial := random.choice(("", "", "", "", f"z-{one}", f"z-{other}", f"z-{one}", f"z-{other}", "none")):
                link["dial"] = dial
            links.append(link)
    relays = []
    if any(link.get("dial") == "none" for link in links):
        relays = [{"name": f"r{number}", "address": f"r{number}:7447"} for number in range(1, random.choice((2, 3)))]
    holders = random.sample(names, random.randint(1, min(3, len(names))))
    parts = [{"at": name, "path": f"{name}.csv", "size": "1MiB"} for name in sorted(holders)]
    kind = "replicas" if random.random() < copies else "parts"
    return {
        "kind": "Topology",
        "metadata": {"name": "t"},
        "spec": {
            "zones": zones,
            "clusters": [
                {
                    "name": name,
                    "zone": f"z-{name}",
                    "runtime": "process",
                    "nodes": [{"name": node, "cpus": cpus, "memory": "4Gi"} for node, cpus in nodes.items()],
                }
                for name, nodes in clusters.items()
            ],
            "links": links,
            **({"relays": relays} if relays else {}),
            "datasets": [{"name": "rows", kind: parts}],
        },
    }


def _step(name: str, cpus: float) -> dict[str, object]:
    return {
        "kind": "Step",
        "metadata": {"name": name, "version": "1"},
        "spec": {
            "run": {"python": "code:main"},
            "inputs": {"rows": {}},
            "outputs": {"rows": {}},
            "resources": {"cpus": cpus},
        },
    }


def _losses(random: Random, clusters: list[str], hubs: list[str], lost_after: float) -> list[Fault]:
    """A cluster is out of touch in the middle of a run, or is to be emptied, for long enough to be replaced; another
    one may not hear of it at first."""
    cluster, other = random.sample(clusters, 2)
    link = f"agent/{cluster} {random.choice(hubs)}"
    at, seconds = round(random.uniform(1.0, 6.0), 3), round(random.uniform(2.0, 30.0), 3)
    match random.choice(("crash-agent", "partition", "cut", "drain")):
        case "crash-agent":
            found = [Fault("crash-agent", at, seconds, f"agent/{cluster}", "now")]
        case "drain":
            found = [Fault("drain", at, seconds, f"cluster/{cluster}", amount=lost_after)]
        case "cut":
            found = [Fault("cut", at, seconds, link)]
        case _:
            found = [Fault("partition", at, seconds, link, random.choice(("both", "to")))]
    if random.random() < _DEAF:
        deaf_from = round(at + lost_after - random.uniform(0.1, 1.0), 3)
        found += [
            Fault("partition", deaf_from, round(random.uniform(1.0, 8.0), 3), f"agent/{other} {hub}", "both")
            for hub in hubs
        ]
    return found


def _rot(random: Random, nodes: list[str]) -> list[Fault]:
    """Of its own, so that all else of a seed stays what it was."""
    found = []
    while random.random() < _ROT:
        at, seconds = round(random.uniform(0.5, 12.0), 3), round(random.choice((0.05, 1.0, 8.0)), 3)
        found.append(Fault("rot", at, seconds, random.choice(nodes), amount=random.choice((0.2, 0.5, 1.0))))
    return found


def _small_disks(random: Random, nodes: Sequence[str]) -> list[Fault]:
    """For a while others leave nodes room for a few units only: many at once, so that nothing goes elsewhere."""
    if random.random() >= _SMALL_DISKS:
        return []
    found = []
    for node in random.sample(nodes, random.randint(1, len(nodes))):
        at, seconds = round(random.uniform(0.2, _DURING), 3), round(random.uniform(0.5, 30.0), 3)
        found.append(Fault("disk-small", at, seconds, node, amount=float(random.randint(0, 8) * UNIT_BYTES)))
    return found


def _disconnect(random: Random) -> dict[str, object]:
    """What a run does about a cluster that is out of touch."""
    found: dict[str, object] = {}
    if random.random() < _REPLACING:
        found = {"replace": True, "lost_after": f"{random.choice((1, 2, 4, 8))}s"}
    if random.random() < _STOPPING:
        found["stop_after"] = f"{random.choice((1, 4, 10))}s"
    return found


def _keep(random: Random, disconnect: dict[str, object]) -> None:
    """Which line of a run that began again counts, if it isn't the new one."""
    if "replace" in disconnect and random.random() < 0.5:
        disconnect["keep"] = random.choice(("original", "furthest"))


def _workflow(random: Random, clusters: list[str], reserve: str, disconnect: dict[str, object]) -> dict[str, object]:
    """A chain over units, which may be split before, branch, and be gathered in the end."""
    rows: object = "inputs.rows"
    if random.random() < 0.8:
        rows = {"from": "inputs.rows", "split": {"count": random.randint(2, 5)}}
    steps = [_use(random, "first", rows, clusters)]
    for name in ("second", "third")[: random.randint(0, 2)]:
        steps.append(_use(random, name, f"{steps[-1]['name']}.rows", clusters))
    outputs = {"rows": f"{steps[-1]['name']}.rows"}
    if random.random() < 0.6:
        last = _use(random, "last", {"from": f"{steps[-1]['name']}.rows", "gather": "all"}, clusters)
        last["place"] = {"clusters": [random.choice(clusters)]}
        steps.append(last)
        outputs = {"report": "last.rows"}
    return {
        "kind": "Workflow",
        "metadata": {"name": "flow"},
        "spec": {
            "inputs": {"rows": {"dataset": "rows"}},
            "steps": steps,
            "policy": {"reserve": reserve, **({"disconnect": disconnect} if disconnect else {})},
            "outputs": outputs,
        },
    }


def _merge(random: Random, workflow: dict[str, Any]) -> None:
    """Some of what is gathered or saved is merged, and some of that on each cluster."""
    spec = workflow["spec"]
    last = spec["steps"][-1]["in"]["rows"]
    gathers = isinstance(last, dict) and "gather" in last
    if gathers and random.random() < 0.4:
        last["merge"] = "concat"
    for name, source in spec["outputs"].items():
        if random.random() < 0.3:
            spec["outputs"][name] = {"from": source, "merge": "concat"}
    if gathers:
        last["gather"] = random.choice(("all", "all", "tree", "each-cluster"))


def _quotas(random: Random, workflow: dict[str, Any]) -> list[dict[str, object]]:
    """Some runs, and some namespaces, may store but so much on each cluster: too little, just enough, or plenty."""
    documents: list[dict[str, object]] = []
    if random.random() < _QUOTAS:
        workflow["spec"]["policy"]["quota"] = _few(random) * UNIT_BYTES
    if random.random() < _QUOTAS:
        spec = {"storage": _few(random) * UNIT_BYTES}
        documents.append({"kind": "Quota", "metadata": {"name": "few"}, "spec": spec})
    return documents


def _few(random: Random) -> int:
    low, high = random.choice(((1, 4), (5, 12), (13, 40)))
    return random.randint(low, high)


def _use(random: Random, name: str, rows: object, clusters: list[str]) -> dict[str, object]:
    use: dict[str, object] = {"name": name, "use": f"{random.choice(('work', 'light'))}@1", "in": {"rows": rows}}
    if random.random() < 0.4:
        use["place"] = {"clusters": sorted(random.sample(clusters, random.randint(1, len(clusters))))}
    return use
