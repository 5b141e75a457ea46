"""A failing scenario made small: fewer faults, runs, units, steps, nodes and clusters, as long as it goes wrong alike.

Everything is tried in its turn, the greatest cuts first, until nothing can be taken away any more. A trial is the same
whenever it is lived through, so what is left fails for certain.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from simulator.trials.faults import Fault
from simulator.trials.scenario import Scenario, ScenarioError, dumped
from simulator.trials.trial import Verdict, tried
from wire.errors import ProblemError

MOST_TRIALS = 300
_NUMBERS = re.compile(r"[0-9a-f]{16,}|\b[\d.]+\b")


def shrunk(
    scenario: Scenario, verdict: Verdict, *, most: int = MOST_TRIALS, progress: Callable[[int], None] = lambda _: None
) -> tuple[Scenario, Verdict]:
    """The smallest scenario found that goes wrong as this one does, with how it goes wrong."""
    wanted = likeness(verdict)
    count = 0
    changed = True
    while changed:
        changed = False
        for candidate in _smaller(scenario):
            if count >= most:
                return scenario, verdict
            count += 1
            progress(count)
            try:
                found = tried(candidate)
            except (ProblemError, ScenarioError):
                continue
            if found.violations and likeness(found) == wanted:
                scenario, verdict, changed = candidate, found, True
                break
    return scenario, verdict


def likeness(verdict: Verdict) -> str:
    """What kind of violation it is: its words without the numbers and names in it."""
    first = verdict.violations[0].partition(": ")[2] if verdict.violations else ""
    return " ".join(_NUMBERS.sub("", first).split()[:6])


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    yield from _fewer_faults(scenario)
    if scenario.hubs > 1:
        left = tuple(fault for fault in scenario.faults if not _is_about_another_hub(fault))
        yield replace(scenario, hubs=1, faults=left)
    for at in range(len(scenario.submissions)):
        if len(scenario.submissions) > 1:
            expected = {run: ends for run, ends in scenario.expected.items() if run != scenario.submissions[at].run}
            yield replace(scenario, submissions=_without(scenario.submissions, at), expected=expected)
    for at, submission in enumerate(scenario.submissions):
        if submission.then:
            kept = list(scenario.submissions)
            kept[at] = replace(submission, then=())
            yield replace(scenario, submissions=tuple(kept))
    yield from _fewer_objects(scenario)
    for at, fault in enumerate(scenario.faults):
        if fault.seconds > 1.0:
            shorter = list(scenario.faults)
            shorter[at] = replace(fault, seconds=round(fault.seconds / 2, 3))
            yield replace(scenario, faults=tuple(shorter))


def _is_about_another_hub(fault: Fault) -> bool:
    return any(place.startswith("hub") and place != "hub" for place in fault.on.split())


def _fewer_faults(scenario: Scenario) -> Iterator[Scenario]:
    faults = scenario.faults
    size = len(faults) // 2
    while size:
        for at in range(0, len(faults), size):
            yield replace(scenario, faults=(*faults[:at], *faults[at + size :]))
        size //= 2


def _fewer_objects(scenario: Scenario) -> Iterator[Scenario]:
    documents: list[dict[str, Any]] = list(yaml.load_all(scenario.objects, Loader=yaml.CSafeLoader))
    for clusters_gone, smaller in _cut_documents(documents):
        gone = tuple(f"/{name}" for name in clusters_gone)
        faults = tuple(
            fault
            for fault in scenario.faults
            if not any(f"{name}/" in f"{fault.on}/".replace(" ", "/ ") for name in gone)
        )
        yield replace(scenario, objects=dumped(smaller), faults=faults)


def _cut_documents(documents: list[dict[str, Any]]) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """Each cut, with the clusters and nodes that it removes."""
    for at, document in enumerate(documents):
        spec = document["spec"]
        if document["kind"] == "Quota":
            yield [], [*documents[:at], *documents[at + 1 :]]
        if document["kind"] == "Workflow" and "quota" in spec["policy"]:
            cut = copy.deepcopy(documents)
            del cut[at]["spec"]["policy"]["quota"]
            yield [], cut
        if document["kind"] == "Topology":
            for number, cluster in enumerate(spec["clusters"]):
                if len(spec["clusters"]) > 1:
                    yield [cluster["name"]], _without_cluster(documents, at, cluster)
                for node in range(len(cluster["nodes"])):
                    if len(cluster["nodes"]) > 1:
                        cut = copy.deepcopy(documents)
                        del cut[at]["spec"]["clusters"][number]["nodes"][node]
                        yield [f"{cluster['name']}/{cluster['nodes'][node]['name']}"], cut
            (kind,) = spec["datasets"][0].keys() & {"parts", "replicas"}
            for number in range(len(spec["datasets"][0][kind])):
                if len(spec["datasets"][0][kind]) > 1:
                    cut = copy.deepcopy(documents)
                    del cut[at]["spec"]["datasets"][0][kind][number]
                    yield [], cut
        if document["kind"] == "Workflow":
            for number, use in enumerate(spec["steps"]):
                for port, rows in use["in"].items():
                    count = rows.get("split", {}).get("count", 0) if isinstance(rows, Mapping) else 0
                    for fewer in sorted({1, count // 2, count - 1} & set(range(1, count))):
                        cut = copy.deepcopy(documents)
                        cut[at]["spec"]["steps"][number]["in"][port]["split"]["count"] = fewer
                        yield [], cut
            if len(spec["steps"]) > 1:
                cut = copy.deepcopy(documents)
                del cut[at]["spec"]["steps"][-1]
                before = cut[at]["spec"]["steps"][-1]["name"]
                cut[at]["spec"]["outputs"] = dict.fromkeys(spec["outputs"], f"{before}.rows")
                yield [], cut


def _without_cluster(documents: list[dict[str, Any]], at: int, cluster: dict[str, Any]) -> list[dict[str, Any]]:
    cut = copy.deepcopy(documents)
    spec = cut[at]["spec"]
    name, zone = cluster["name"], cluster["zone"]
    spec["clusters"] = [each for each in spec["clusters"] if each["name"] != name]
    if not any(each["zone"] == zone for each in spec["clusters"]):
        spec["zones"] = [each for each in spec["zones"] if each["name"] != zone]
        spec["links"] = [each for each in spec["links"] if zone not in each["between"]]
    for dataset in spec["datasets"]:
        for kind in dataset.keys() & {"parts", "replicas"}:
            dataset[kind] = [part for part in dataset[kind] if part["at"] != name]
    for document in cut:
        if document["kind"] == "Workflow":
            for use in document["spec"]["steps"]:
                if "clusters" in use.get("place", {}):
                    use["place"]["clusters"] = [each for each in use["place"]["clusters"] if each != name]
    return cut


def _without(values: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return (*values[:at], *values[at + 1 :])
