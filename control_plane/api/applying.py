"""What applying documents means, pure: from their text and what is stored to what would be written, or all problems.

Imported only when somebody applies, diffs, deletes or submits, because the models cost more to import than all else
that the hub needs to start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.api.errors import InUse
from control_plane.api.uses import steps_used, workflows_used
from control_plane.runs import lines
from control_plane.store.base import Stored
from topology import problems as found
from topology.model import Topology
from wire.digests import bytes_digest
from wire.errors import ProblemError
from workflow.canonical import AnyObject, canonical_json, from_canonical
from workflow.checks import check_documents, document_warnings
from workflow.diff import unified
from workflow.flow.hooks import hooks_of
from workflow.flow.nested import used_workflows
from workflow.load import Document, load
from workflow.model import Step, Workflow

StoredObjects = Mapping[tuple[str, str], Stored[cp.Object]]


@dataclass(frozen=True)
class Loaded:
    """A document as it would be stored."""

    document: Document
    namespace: str
    bundle: bytes

    @property
    def model(self) -> AnyObject:
        return self.document.model

    @property
    def kind(self) -> str:
        return self.model.kind

    @property
    def name(self) -> str:
        return self.model.reference if isinstance(self.model, Step) else self.model.metadata.name

    @property
    def uses(self) -> tuple[str, ...]:
        """The steps that it names."""
        if not isinstance(self.model, Workflow):
            return ()
        hooks = [hook.use for hook in hooks_of(self.model).values()]
        return (*hooks, *(use.use for use in self.model.spec.steps if not use.workflow))

    @property
    def workflows(self) -> tuple[str, ...]:
        """The workflows that it uses as steps."""
        return used_workflows(self.model) if isinstance(self.model, Workflow) else ()

    def problem(self, path: found.Path, message: str, remedy: str) -> found.Problem:
        """Something that is wrong with it, with its line."""
        return self.document.positions.problem(path, message, remedy)


def loaded(namespace: str, documents: Sequence[cp.Document]) -> list[Loaded]:
    """The documents read. ProblemError with all that is not well formed."""
    problems: list[found.Problem] = []
    result: list[Loaded] = []
    for given in documents:
        read = load(given.yaml, given.file, given.line or 1)
        problems += read.problems
        result += [Loaded(document, namespace, given.bundle) for document in read.documents]
    for each in result:
        other = each.model.metadata.namespace
        if other is not None and other != namespace:
            problems.append(
                each.problem(
                    ("metadata", "namespace"),
                    f"belongs to namespace {other}, but is applied to {namespace}",
                    f"leave it out, or apply it with --namespace {other}",
                )
            )
    _raise(problems)
    return result


def judged(
    documents: Sequence[Loaded], stored: StoredObjects, missing_bundles: Collection[bytes], live: Sequence[m.Run]
) -> list[cp.Applied]:
    """What would be stored, in the documents' order. ProblemError with all that does not fit together."""
    problems = _problems(documents, stored)
    for each in documents:
        there = stored.get((each.kind, each.name))
        if isinstance(each.model, Step):
            problems += _step_problems(each, there, missing_bundles)
        elif isinstance(each.model, Topology):
            problems += _topology_problems(each, each.model, live)
    _raise(problems)
    result = [_applied(each, stored.get((each.kind, each.name))) for each in documents]
    for each, applied in zip(documents, result, strict=True):
        applied.warnings.extend(told(warning) for warning in document_warnings([each.document]))
    return result


def differences(documents: Sequence[Loaded], stored: StoredObjects) -> list[cp.DiffResponse.Entry]:
    """What would change, as unified diffs. ProblemError as with applying."""
    _raise(_problems(documents, stored))
    entries = []
    for each in documents:
        there = stored.get((each.kind, each.name))
        change = _applied(each, there).change
        before = from_canonical(there.value.spec_json) if there else None
        entries.append(
            cp.DiffResponse.Entry(
                kind=each.kind,
                name=each.name,
                change=change,
                unified="" if change == cp.CHANGE_UNCHANGED else unified(before, each.model),
            )
        )
    return entries


def users(target: cp.Object, workflows: Sequence[cp.Object], live: Sequence[m.Run]) -> None:
    """Raises InUse if something stored or running needs the object."""
    here = [run for run in live if run.namespace == target.namespace]
    if target.kind == "Step":
        names = [each.name for each in workflows if target.name in steps_used(each)]
        needed = f"workflow {', '.join(names)} uses it"
    elif target.kind == "Topology":
        names = [run.name for run in here if run.topology == target.name]
        needed = f"run {', '.join(names)} goes on in it"
    elif target.kind == "Quota":
        return
    else:
        names = [run.name for run in here if run.workflow == target.name or target.name in run.workflows]
        needed = f"run {', '.join(names)} of it goes on"
        if not names:
            names = [each.name for each in workflows if target.name in workflows_used(each)]
            needed = f"workflow {', '.join(names)} uses it"
    if names:
        raise InUse(f"{target.kind} {target.name} can't be deleted: {needed}")


def _problems(documents: Sequence[Loaded], stored: StoredObjects) -> list[found.Problem]:
    steps: dict[str, Step] = {}
    workflows: dict[str, Workflow] = {}
    topologies: list[Topology] = []
    replaced = {each.name for each in documents if isinstance(each.model, Topology)}
    for (kind, name), there in stored.items():
        if kind == "Step":
            model = from_canonical(there.value.spec_json)
            if isinstance(model, Step):
                steps[name] = model
        elif kind == "Workflow":
            model = from_canonical(there.value.spec_json)
            if isinstance(model, Workflow):
                workflows[name] = model
        elif kind == "Topology" and name not in replaced:
            model = from_canonical(there.value.spec_json)
            if isinstance(model, Topology):
                topologies.append(model)
    several = len(topologies) + len(replaced) > 1
    documents_only = [each.document for each in documents]
    if several and replaced:  # with more than one topology it is not clear which a workflow is meant for
        rest = [each.document for each in documents if not isinstance(each.model, Topology)]
        others = [each.document for each in documents if isinstance(each.model, Topology)]
        return check_documents(rest, steps, None, workflows) + check_documents(others)
    return check_documents(documents_only, steps, None if several or not topologies else topologies[0], workflows)


def _step_problems(
    each: Loaded, there: Stored[cp.Object] | None, missing_bundles: Collection[bytes]
) -> list[found.Problem]:
    assert isinstance(each.model, Step)
    problems = []
    named = each.model.spec.run.bundle
    if named is not None and not each.bundle:
        message = f"the directory {named} was not packed along with the step"
        problems.append(each.problem(("spec", "run", "bundle"), message, "apply the file with `bdw-fed apply -f`"))
    elif each.bundle in missing_bundles:
        message = f"the hub does not have the bundle {each.bundle.hex()[:12]}…"
        problems.append(each.problem(("spec", "run", "bundle"), message, "upload it (PutBlob) before the step"))
    if there is not None and _digest(each) != there.value.digest:
        same_words = canonical_json(each.model) == there.value.spec_json
        what = "its bundle has other content" if same_words else "it says something else"
        version = each.model.metadata.version
        problems.append(
            each.problem(
                ("metadata", "version"),
                f"version {version} of step {each.model.metadata.name} is there already, and {what} here; "
                "a version keeps its meaning for ever",
                "give the changed step a new version",
            )
        )
    return problems


def _topology_problems(each: Loaded, model: Topology, live: Sequence[m.Run]) -> list[found.Problem]:
    clusters = {cluster.name for cluster in model.spec.clusters}
    problems = []
    for run in live:
        if (
            run.namespace == each.namespace
            and run.topology == each.name
            and (gone := {*lines.clusters(run)} - clusters)
        ):
            message = f"run {run.name} goes on on {', '.join(sorted(gone))}, which the topology has no more"
            problems.append(each.problem(("spec", "clusters"), message, "wait for the run, or cancel it first"))
    return problems


def _applied(each: Loaded, there: Stored[cp.Object] | None) -> cp.Applied:
    digest = _digest(each)
    if there is not None and there.value.digest == digest:
        return cp.Applied(object=there.value, change=cp.CHANGE_UNCHANGED)
    fresh = cp.Object(
        namespace=each.namespace,
        kind=each.kind,
        name=each.name,
        revision=there.value.revision + 1 if there else 1,
        digest=digest,
        spec_json=canonical_json(each.model),
        bundle=each.bundle if isinstance(each.model, Step) else b"",
    )
    return cp.Applied(object=fresh, change=cp.CHANGE_CONFIGURED if there else cp.CHANGE_CREATED)


def _digest(each: Loaded) -> bytes:
    """What makes two objects the same: their canonical form, and for a step the code that comes with it."""
    code = each.bundle if isinstance(each.model, Step) else b""
    return bytes_digest(canonical_json(each.model).encode() + code)


def _raise(problems: Sequence[found.Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise ProblemError([told(problem) for problem in sorted(set(errors))])


def told(problem: found.Problem) -> cp.Problem:
    """A problem as it crosses the wire."""
    return cp.Problem(
        file=problem.file,
        line=problem.line,
        field=problem.field,
        message=problem.message,
        remedy=problem.remedy,
    )
