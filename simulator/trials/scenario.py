"""A scenario: what is submitted to which federation, what goes wrong meanwhile, and how it must end.

Written, it is one document of kind Scenario before the documents of the topology, the steps and the workflows, which
are those that people write. Drawn, it follows from a seed alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from simulator.trials.faults import KINDS, Fault
from topology.model import Topology
from topology.questions import Questions
from workflow.load import load
from workflow.model import Quota, Workflow

ACTIONS = ("cancel", "suspend", "resume")
BY_QUOTA = "failed-by-quota"
ENDS = ("succeeded", "failed", BY_QUOTA, "cancelled", "refused")
MOST_HUBS = 3
DURABILITIES = ("process", "power")
# As a file names a fault's fields: to YAML, `on` is a truth.
_FAULT = {"at": "at", "kind": "kind", "where": "on", "how": "how", "amount": "amount", "seconds": "seconds"}


class ScenarioError(ValueError):
    """A scenario file is wrong; says which, where, what was expected."""


@dataclass(frozen=True)
class Submission:
    """A run that a user submits at some second, and what is done to it `then`: (action, at)."""

    run: str
    workflow: str
    at: float
    then: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Scenario:
    """See the module. `seconds`: of a task by step. `expected`: how a run may end; one that is not named succeeds.

    `hubs`: how many share the store.
    """

    name: str
    seed: int
    objects: str
    submissions: tuple[Submission, ...]
    faults: tuple[Fault, ...] = ()
    durability: str = "process"
    hubs: int = 1
    seconds: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    why: str = ""

    @property
    def clusters(self) -> dict[str, dict[str, float]]:
        """Nodes with their processors, by cluster."""
        return _clusters(self.objects)

    @property
    def hub_names(self) -> list[str]:
        """The hubs' places: hub, hub2, …"""
        return ["hub", *(f"hub{number}" for number in range(2, self.hubs + 1))]

    @property
    def relays(self) -> dict[str, list[frozenset[str]]]:
        """The pairs of clusters that reach each other over relays alone, by the relays' names."""
        return _relays(self.objects)

    @property
    def gathers_apart(self) -> bool:
        """Whether it depends on where tasks are executed which units are put together."""
        return _gathers_apart(self.objects)

    @property
    def is_bounded(self) -> bool:
        """Whether there is a quota, of runs or of their namespace."""
        return _is_bounded(self.objects)

    @property
    def loses_disks(self) -> bool:
        """Whether what is stored may be gone at the end."""
        return any(fault.kind in ("disk-lost", "rot") for fault in self.faults)

    @property
    def revoked(self) -> set[str]:
        """The clusters that are cut off for good."""
        return {fault.on.partition("/")[2] for fault in self.faults if fault.kind == "revoke"}

    @property
    def quiet_from(self) -> float:
        """When the last fault is over."""
        return max((fault.at + fault.seconds for fault in self.faults), default=0.0)


@lru_cache(maxsize=256)
def _topology(objects: str) -> Topology:
    for document in load(objects, "scenario").documents:
        if isinstance(document.model, Topology):
            return document.model
    raise ScenarioError("a scenario needs a topology: expected a document of kind Topology after the Scenario")


@lru_cache(maxsize=256)
def _gathers_apart(objects: str) -> bool:
    workflows = [each.model for each in load(objects, "scenario").documents if isinstance(each.model, Workflow)]
    bindings = (binding for each in workflows for use in each.spec.steps for binding in use.inputs.values())
    return any(binding.gather in ("tree", "each-cluster") for binding in bindings)


@lru_cache(maxsize=256)
def _is_bounded(objects: str) -> bool:
    models = [each.model for each in load(objects, "scenario").documents]
    return any(isinstance(each, Quota) or (isinstance(each, Workflow) and each.spec.policy.quota) for each in models)


def without_quotas(objects: str) -> str:
    """The same documents where nothing bounds what is stored."""
    documents = [each for each in yaml.load_all(objects, Loader=yaml.CSafeLoader) if each["kind"] != "Quota"]
    for each in documents:
        if each["kind"] == "Workflow":
            each["spec"].get("policy", {}).pop("quota", None)
    return dumped(documents)


def _clusters(objects: str) -> dict[str, dict[str, float]]:
    return {each.name: {node.name: node.cpus for node in each.nodes} for each in _topology(objects).spec.clusters}


@lru_cache(maxsize=256)
def _relays(objects: str) -> dict[str, list[frozenset[str]]]:
    questions = Questions(_topology(objects))
    found: dict[str, list[frozenset[str]]] = {relay.name: [] for relay in questions.topology.spec.relays}
    for one, other in itertools.combinations(questions.clusters, 2):
        for relay in questions.relays(one, other):
            found[relay.name].append(frozenset((one, other)))
    return found


def dumped(documents: Sequence[Mapping[str, object]]) -> str:
    """Documents as YAML."""
    return "---\n".join(
        yaml.dump(dict(each), Dumper=yaml.CSafeDumper, sort_keys=False, width=110, default_flow_style=None)
        for each in documents
    )


def written(scenario: Scenario) -> str:
    """As a file."""
    head: dict[str, Any] = {"kind": "Scenario", "name": scenario.name}
    if scenario.why:
        head["why"] = scenario.why
    head |= {"seed": scenario.seed, "durability": scenario.durability, "seconds": dict(scenario.seconds)}
    if scenario.hubs > 1:
        head["hubs"] = scenario.hubs
    head["submissions"] = [
        {"run": each.run, "workflow": each.workflow, "at": each.at}
        | ({"then": [{action: at} for action, at in each.then]} if each.then else {})
        for each in scenario.submissions
    ]
    head["faults"] = [
        {name: value for name, field in _FAULT.items() if (value := getattr(fault, field))} for fault in scenario.faults
    ]
    head["expected"] = {run: list(ends) for run, ends in scenario.expected.items()}
    return dumped([head]) + "---\n" + scenario.objects


def read(text: str, file: str) -> Scenario:
    """What `written` writes, or a person. ScenarioError."""
    first, separator, objects = text.removeprefix("---\n").partition("\n---\n")
    try:
        head = yaml.load(first, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{file}: not YAML: {error}") from error
    if not isinstance(head, dict) or head.get("kind") != "Scenario" or not separator:
        raise ScenarioError(
            f"{file}: expected a document of kind Scenario, then '---' and the topology, steps and workflows"
        )
    at = _Field(file, head)
    known = {"kind", "name", "why", "seed", "durability", "hubs", "seconds", "submissions", "faults", "expected"}
    at.only(known)
    submissions = tuple(_submission(each) for each in at.many("submissions"))
    if not submissions:
        raise ScenarioError(f"{file}: submissions: expected at least one run, {{run: r1, workflow: NAME, at: 1.0}}")
    runs = {submission.run for submission in submissions}
    expected = {}
    for run, ends in at.mapping("expected").items():
        if run not in runs:
            raise ScenarioError(f"{file}: expected.{run}: there is no such run; the runs are {', '.join(sorted(runs))}")
        given = [ends] if isinstance(ends, str) else list(ends)
        if wrong := [end for end in given if end not in ENDS]:
            raise ScenarioError(f"{file}: expected.{run}: {wrong[0]!r} is no end; expected some of {', '.join(ENDS)}")
        expected[run] = tuple(given)
    scenario = Scenario(
        name=at.text("name"),
        seed=int(at.number("seed", 0)),
        objects=objects,
        submissions=submissions,
        faults=tuple(sorted((_fault(each) for each in at.many("faults")), key=lambda fault: fault.at)),
        durability=at.one_of("durability", DURABILITIES, "process"),
        hubs=at.count("hubs", 1, MOST_HUBS),
        seconds={str(step): float(value) for step, value in at.mapping("seconds").items()},
        expected=expected,
        why=at.text("why", ""),
    )
    _check_places(scenario, file)
    return scenario


def _submission(at: _Field) -> Submission:
    at.only({"run", "workflow", "at", "then"})
    then = []
    for each in at.many("then"):
        ((action, when),) = each.value.items()
        if action not in ACTIONS:
            raise ScenarioError(f"{each.where}: {action!r} is nothing to do to a run; expected {', '.join(ACTIONS)}")
        then.append((action, float(when)))
    return Submission(at.text("run"), at.text("workflow"), at.number("at", 0.0), tuple(then))


def _fault(at: _Field) -> Fault:
    at.only(set(_FAULT))
    kind = at.one_of("kind", tuple(KINDS))
    hows = KINDS[kind].how
    how = at.one_of("how", hows) if hows else ""
    return Fault(kind, at.number("at"), at.number("seconds", 0.0), at.text("where", ""), how, at.number("amount", 0.0))


def _check_places(scenario: Scenario, file: str) -> None:
    from simulator.trials.world import places_of

    try:
        places = places_of(scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{file}: {error}") from error
    for number, fault in enumerate(scenario.faults):
        possible = places.of(KINDS[fault.kind].about)
        if fault.on not in possible:
            raise ScenarioError(
                f"{file}: faults[{number}].where: {fault.on!r} can't have a {fault.kind}; expected one of "
                + ", ".join(possible)
            )


class _Field:
    """A mapping in a file, that knows where it stands."""

    def __init__(self, where: str, value: Mapping[str, Any]) -> None:
        self.where = where
        self.value = value

    def only(self, known: set[str]) -> None:
        if unknown := sorted(self.value.keys() - known):
            raise ScenarioError(f"{self.where}: {unknown[0]} is not known; expected {', '.join(sorted(known))}")

    def _get(self, name: str, default: object) -> Any:
        if name in self.value:
            return self.value[name]
        if default is None:
            raise ScenarioError(f"{self.where}: {name} is missing")
        return default

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise ScenarioError(f"{self.where}: {name}: expected a text, not {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ScenarioError(f"{self.where}: {name}: expected a number, not {value!r}")
        return float(value)

    def count(self, name: str, default: int, most: int) -> int:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ScenarioError(f"{self.where}: {name}: expected a number from 1 to {most}, not {value!r}")
        return value

    def one_of(self, name: str, known: Sequence[str], default: str | None = None) -> str:
        value = self.text(name, default)
        if value not in known:
            raise ScenarioError(f"{self.where}: {name}: {value!r} is not known; expected one of {', '.join(known)}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise ScenarioError(f"{self.where}: {name}: expected a mapping, not {value!r}")
        return value

    def many(self, name: str) -> list[_Field]:
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise ScenarioError(f"{self.where}: {name}: expected a list of mappings")
        return [_Field(f"{self.where}: {name}[{at}]", each) for at, each in enumerate(value)]
