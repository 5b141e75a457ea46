"""Objects are judged as a whole, kept in revisions, written all or none, and not deleted while something needs them."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.federation_pb2_grpc import FederationServiceStub
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply
from tests.hub.objects import ALL, STEP, TOPOLOGY, WORKFLOW
from wire.digests import bytes_digest
from wire.errors import problems_from_error
from wire.identity import Role


def changes(response: cp.ApplyResponse) -> list[tuple[str, str, int]]:
    return [
        (each.object.kind, cp.Change.Name(each.change).removeprefix("CHANGE_"), each.object.revision)
        for each in response.applied
    ]


async def refused(call: object, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is code, caught.value.details()
    return caught.value


async def test_the_same_words_in_another_spelling_change_nothing(person: ControlPlaneServiceStub) -> None:
    assert changes(await apply(person, ALL)) == [
        ("Topology", "CREATED", 1),
        ("Step", "CREATED", 1),
        ("Workflow", "CREATED", 1),
    ]
    spelled = TOPOLOGY.replace("10Mbit", '"10000kbit"').replace("\n", "\n\n")
    assert [change for _, change, _ in changes(await apply(person, ALL.replace(TOPOLOGY, spelled)))] == [
        "UNCHANGED"
    ] * 3


async def test_every_revision_is_kept(person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    assert changes(await apply(person, TOPOLOGY.replace("10Mbit", "20Mbit"))) == [("Topology", "CONFIGURED", 2)]
    newest = await person.Get(cp.GetRequest(kind="Topology", name="pair"))
    first = await person.Get(cp.GetRequest(kind="Topology", name="pair", revision=1))
    assert ("20Mbit" in newest.object.spec_json, "10Mbit" in first.object.spec_json) == (True, True)
    assert (newest.object.applied_by, newest.object.revision) == ("ada", 2)
    await refused(person.Get(cp.GetRequest(kind="Topology", name="pair", revision=3)), grpc.StatusCode.NOT_FOUND)


async def test_all_problems_come_at_once_with_file_line_field_and_remedy(person: ControlPlaneServiceStub) -> None:
    await apply(person, STEP)
    other_step = STEP.replace("[wc, ", "[cat, ")
    wrong = WORKFLOW.replace("inputs.rows", "inputs.lines").replace(
        "use: count@1, in: {rows: {from: count", "use: sum@1, in: {rows: {from: count"
    )
    error = await refused(
        apply(person, "\n---\n".join([TOPOLOGY, other_step, wrong])), grpc.StatusCode.INVALID_ARGUMENT
    )
    problems = problems_from_error(error)
    assert all(
        problem.file == "all.yaml" and problem.line and problem.message and problem.remedy for problem in problems
    )
    text = "\n".join(problem.message for problem in problems)
    assert "version 1 of step count is there already" in text
    assert "sum@1" in text
    assert len(problems) >= 3
    await refused(person.Get(cp.GetRequest(kind="Topology", name="pair")), grpc.StatusCode.NOT_FOUND)


async def test_a_dry_run_and_a_diff_store_nothing(person: ControlPlaneServiceStub) -> None:
    assert changes(await apply(person, ALL, dry_run=True))[0] == ("Topology", "CREATED", 1)
    await refused(person.Get(cp.GetRequest(kind="Topology", name="pair")), grpc.StatusCode.NOT_FOUND)
    await apply(person, ALL)
    document = cp.Document(yaml=TOPOLOGY.replace("10Mbit", "20Mbit"))
    diff = await person.Diff(cp.DiffRequest(documents=[document]))
    assert [(entry.kind, entry.name, entry.change) for entry in diff.entries] == [
        ("Topology", "pair", cp.CHANGE_CONFIGURED)
    ]
    assert "-  - bandwidth: 10Mbit" in diff.entries[0].unified or "10Mbit" in diff.entries[0].unified
    assert not (await person.Diff(cp.DiffRequest(documents=[cp.Document(yaml=TOPOLOGY)]))).entries[0].unified


async def test_what_is_not_at_the_expected_revision_is_left_alone(person: ControlPlaneServiceStub) -> None:
    await apply(person, TOPOLOGY, expected_revisions={"Topology/pair": 0})
    changed = TOPOLOGY.replace("10Mbit", "20Mbit")
    error = await refused(apply(person, changed, expected_revisions={"Topology/pair": 0}), grpc.StatusCode.ABORTED)
    assert "is at revision 1, expected was 0" in (error.details() or "")
    await apply(person, changed, expected_revisions={"Topology/pair": 1})


async def test_a_bundle_must_be_there_before_its_step(person: ControlPlaneServiceStub) -> None:
    code = b"an archive"
    step = STEP.replace("run: {command", "run: {bundle: ./code, command")
    digest = bytes_digest(code)
    request = cp.ApplyRequest(documents=[cp.Document(file="s.yaml", line=1, yaml=step)])
    error = await refused(person.Apply(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert "was not packed along" in problems_from_error(error)[0].message
    request.documents[0].bundle = digest
    await refused(person.Apply(request), grpc.StatusCode.INVALID_ARGUMENT)
    assert (await person.HasBlobs(cp.HasBlobsRequest(digests=[digest]))).missing == [digest]

    async def pieces() -> object:
        yield cp.PutBlobRequest(digest=digest, chunk=code[:4])
        yield cp.PutBlobRequest(chunk=code[4:])

    assert (await person.PutBlob(pieces())).size == len(code)
    assert not (await person.HasBlobs(cp.HasBlobsRequest(digests=[digest]))).missing
    assert (await person.Apply(request)).applied[0].object.bundle == digest
    got = [part.chunk async for part in person.GetBlob(cp.GetBlobRequest(digest=digest))]
    assert b"".join(got) == code
    other = cp.ApplyRequest(documents=request.documents)
    other.documents[0].bundle = bytes_digest(b"")

    async def empty() -> object:
        yield cp.PutBlobRequest(digest=bytes_digest(b""))

    await person.PutBlob(empty())
    error = await refused(person.Apply(other), grpc.StatusCode.INVALID_ARGUMENT)
    assert "its bundle has other content" in problems_from_error(error)[0].message


async def test_what_something_needs_is_not_deleted(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    error = await refused(
        person.Delete(cp.DeleteRequest(kind="Step", name="count@1")), grpc.StatusCode.FAILED_PRECONDITION
    )
    assert "workflow counting uses it" in (error.details() or "")
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        submitted = await person.Submit(cp.SubmitRequest(workflow="counting", idempotency_key="k"))
    for kind, name in (("Topology", "pair"), ("Workflow", "counting"), ("Run", submitted.run.name)):
        await refused(person.Delete(cp.DeleteRequest(kind=kind, name=name)), grpc.StatusCode.FAILED_PRECONDITION)


async def test_what_is_deleted_can_be_made_again_from_revision_one(person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    await apply(person, TOPOLOGY.replace("10Mbit", "20Mbit"))
    for kind, name in (("Workflow", "counting"), ("Step", "count@1"), ("Topology", "pair")):
        await person.Delete(cp.DeleteRequest(kind=kind, name=name))
        await refused(person.Delete(cp.DeleteRequest(kind=kind, name=name)), grpc.StatusCode.NOT_FOUND)
    assert {revision for _, _, revision in changes(await apply(person, ALL))} == {1}


async def test_objects_are_listed_in_pages_and_watched_from_there(person: ControlPlaneServiceStub) -> None:
    steps = [STEP.replace("name: count", f"name: count-{number}") for number in range(5)]
    await apply(person, "\n---\n".join(steps))
    names: list[str] = []
    token = ""
    while True:
        page = await person.List(cp.ListRequest(kind="Step", limit=2, page_token=token))
        names += [each.name for each in page.objects]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"count-{number}@1" for number in range(5)]
    watch = person.Watch(cp.WatchRequest(kind="Step", store_revision=page.store_revision))
    await apply(person, STEP)
    await person.Delete(cp.DeleteRequest(kind="Step", name="count-0@1"))
    seen = [await asyncio.wait_for(watch.read(), SECONDS) for _ in range(2)]
    assert [(each.object.name, each.deleted) for each in seen] == [("count@1", False), ("count-0@1", True)]
    watch.cancel()


async def test_writers_at_once_all_succeed_and_none_is_lost(person: ControlPlaneServiceStub) -> None:
    bandwidths = [f"{number}Mbit" for number in range(11, 19)]
    await apply(person, TOPOLOGY)
    done = await asyncio.gather(*(apply(person, TOPOLOGY.replace("10Mbit", each)) for each in bandwidths))
    assert sorted(each.applied[0].object.revision for each in done) == list(range(2, 10))


async def test_a_live_run_keeps_its_clusters_in_the_topology(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL)
    async with FakeAgent(hub, "edge"), FakeAgent(hub, "cloud"):
        await person.Submit(cp.SubmitRequest(workflow="counting"))
    without = TOPOLOGY.replace("    - {name: cloud, zone: there, nodes: [{name: n1, cpus: 2}]}\n", "")
    error = await refused(apply(person, without), grpc.StatusCode.INVALID_ARGUMENT)
    assert "which the topology has no more" in problems_from_error(error)[0].message


@pytest.mark.parametrize("name", ["../secrets", "a/b", "", "A B"])
async def test_names_reach_nowhere_else(person: ControlPlaneServiceStub, name: str) -> None:
    for kind in ("Topology", "Step", "Workflow", "Run"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await person.Get(cp.GetRequest(kind=kind, name=name))
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    await refused(person.Get(cp.GetRequest(namespace="../x", kind="Run", name="a")), grpc.StatusCode.INVALID_ARGUMENT)


async def test_each_role_may_do_its_own_things_only(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with hub.members.channel(hub.address, Role.AGENT, "edge") as channel:
        await refused(
            ControlPlaneServiceStub(channel).List(cp.ListRequest(kind="Step")), grpc.StatusCode.PERMISSION_DENIED
        )
    async with hub.members.channel(hub.address, Role.USER, "ada") as channel:
        call = FederationServiceStub(channel).Session()
        await refused(call.read(), grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
        await FakeAgent(hub, "edge").connect(as_cluster="cloud")
    async with FakeAgent(hub, "edge"):
        listed = await person.List(cp.ListRequest(kind="Agent"))
        assert [each.name for each in listed.objects] == ["edge"]


async def test_what_was_meant_is_found_among_all_steps_that_there_are(person: ControlPlaneServiceStub) -> None:
    other = STEP.replace("name: count", "name: sum")
    assert other != STEP
    await apply(person, "\n---\n".join([TOPOLOGY, STEP, other]))
    for wrong, remedy in (
        ("coutn@1", "did you mean count@1? The steps are "),
        ("count@7", "there is count in version 1"),
    ):
        request = apply(person, WORKFLOW.replace("use: count@1", f"use: {wrong}", 1))
        problems = problems_from_error(await refused(request, grpc.StatusCode.INVALID_ARGUMENT))
        assert remedy in next(each.remedy for each in problems if wrong in each.message)
    for name, told in (("count", "there is count@1"), ("cuont@1", "did you mean count@1?")):
        error = await refused(person.Get(cp.GetRequest(kind="Step", name=name)), grpc.StatusCode.NOT_FOUND)
        assert f"there is no step {name} in namespace default: {told}" in (error.details() or "")
        error = await refused(person.Delete(cp.DeleteRequest(kind="Step", name=name)), grpc.StatusCode.NOT_FOUND)
        assert told in (error.details() or "")


async def test_what_was_hardly_meant_is_applied_with_a_warning(person: ControlPlaneServiceStub) -> None:
    await apply(person, TOPOLOGY + "\n---\n" + STEP)
    [applied] = (await apply(person, WORKFLOW)).applied
    [warning] = applied.warnings
    assert (warning.file, warning.field, warning.message, warning.remedy) == (
        "all.yaml",
        "spec.parameters.limit",
        "no step uses parameter limit",
        "leave it out",
    )
    assert warning.line
