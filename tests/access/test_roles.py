"""Each call is for those who have its role, where they have it, and for nobody else."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import federation_pb2 as f
from bdw_fed.v1.calls import ACCESS
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.access.rules import KINDS
from tests.access.people import REFUSALS, ROLES, SERVICE, answer_to, everybody, name_of
from tests.hub.agent import FakeAgent
from tests.hub.hub import SECONDS, RunningHub, apply, asked_until
from tests.hub.objects import ALL, STEP, TOPOLOGY, WORKFLOW
from wire.identity import Role

METHODS = [method.name for method in SERVICE.methods]
QUOTA = "kind: Quota\nmetadata: {name: small}\nspec: {runs: 2}\n"


def test_every_call_of_the_contract_states_its_role() -> None:
    stated = {method for service, method in ACCESS if service == SERVICE.full_name}
    assert stated == set(METHODS)
    assert all(access.needs in ROLES for access in ACCESS.values())


async def test_a_role_too_low_is_refused_on_every_call_and_the_very_role_is_not(hub: RunningHub) -> None:
    async with everybody(hub) as people:
        for method in METHODS:
            needs = ACCESS[SERVICE.full_name, method].needs
            with capture_logs() as logs:
                code, words = await answer_to(people[needs - 1], method)
            assert code is grpc.StatusCode.PERMISSION_DENIED, (method, code, words)
            assert f"you are {name_of(needs - 1)}" in words
            assert f"needs {name_of(needs)}" in words
            assert f"bdw-fed user grant {name_of(needs - 1)} --role {name_of(needs)}" in words
            assert [log["call"] for log in logs if log["event"] == "a call was refused"] == [method]
            code, words = await answer_to(people[needs], method)
            assert code not in REFUSALS, (method, code, words)


@pytest.mark.parametrize(
    ("kind", "text"), [("Topology", TOPOLOGY), ("Step", STEP), ("Workflow", WORKFLOW), ("Quota", QUOTA)]
)
async def test_applying_and_deleting_need_the_role_of_the_kind(hub: RunningHub, kind: str, text: str) -> None:
    needs, _ = KINDS[kind]
    name = {"Topology": "pair", "Step": "count@1", "Workflow": "counting", "Quota": "small"}[kind]
    async with everybody(hub) as people:
        await apply(people[access_pb2.ROLE_ADMIN], ALL + "\n---\n" + QUOTA)
        for dry_run in (False, True):
            request = cp.ApplyRequest(documents=[cp.Document(file="f", line=1, yaml=text)], dry_run=dry_run)
            code, words = await answer_to(people[needs - 1], "Apply", request)
            assert (code, f"needs {name_of(needs)}" in words) == (grpc.StatusCode.PERMISSION_DENIED, True), words
            assert (await answer_to(people[needs], "Apply", request))[0] is grpc.StatusCode.OK
        delete = cp.DeleteRequest(kind=kind, name=name)
        assert (await answer_to(people[needs - 1], "Delete", delete))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert (await answer_to(people[needs], "Delete", delete))[0] not in REFUSALS


async def test_one_document_of_many_is_enough_to_be_refused_and_nothing_is_stored(hub: RunningHub) -> None:
    async with everybody(hub) as people:
        request = cp.ApplyRequest(documents=[cp.Document(file="f", line=1, yaml=ALL)])
        code, words = await answer_to(people[access_pb2.ROLE_ENGINEER], "Apply", request)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "needs operator in all namespaces" in words
        for kind in ("Topology", "Step", "Workflow"):
            assert not (await people[access_pb2.ROLE_VIEWER].List(cp.ListRequest(kind=kind))).objects


async def test_documents_that_can_not_be_read_are_no_way_around(hub: RunningHub) -> None:
    """Read as a whole or not at all: a topology beside nonsense is neither judged as something less nor stored."""
    async with everybody(hub) as people:
        request = cp.ApplyRequest(documents=[cp.Document(file="f", line=1, yaml=f"{TOPOLOGY}---\nkind: Nonsense\n")])
        code, _ = await answer_to(people[access_pb2.ROLE_EXPERT], "Apply", request)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert not (await people[access_pb2.ROLE_VIEWER].List(cp.ListRequest(kind="Topology"))).objects


async def test_a_role_holds_in_its_namespace_and_nowhere_else(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with hub.person("eve") as eve:
        await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_ADMIN, namespace="here"))
        for method, request in (
            ("List", cp.ListRequest(kind="Run", namespace="here")),
            ("GrantRole", cp.GrantRoleRequest(subject="bob", role=access_pb2.ROLE_VIEWER, namespace="here")),
            ("ListRoles", cp.ListRolesRequest(namespace="here")),
            ("Status", cp.StatusRequest(namespace="here")),
        ):
            assert (await answer_to(eve, method, request))[0] is grpc.StatusCode.OK, method
            for other in ("there", ""):
                request.namespace = other
                code, words = await answer_to(eve, method, request)
                assert code is grpc.StatusCode.PERMISSION_DENIED, (method, other, words)
        topology = cp.ApplyRequest(documents=[cp.Document(yaml=TOPOLOGY)], namespace="here")
        assert "in all namespaces" in (await answer_to(eve, "Apply", topology))[1]


async def test_who_may_see_a_cluster_sees_of_its_runs_only_their_own(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    held = [cp.HeldSlots(namespace=name, run=name, step="s", held=1) for name in ("here", "there")]
    await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_VIEWER, namespace="here"))
    agent = FakeAgent(hub, "edge")
    agent.beats = False
    async with agent as edge, hub.person("eve") as eve, asyncio.timeout(SECONDS):
        await edge.say_soft(heartbeat=f.Heartbeat(status=cp.ClusterStatus(name="edge", held=held)))
        while True:
            shown = (await person.Status(cp.StatusRequest())).clusters
            if shown and [each.run for each in shown[0].held] == ["here", "there"]:
                break
        (cluster,) = (await eve.Status(cp.StatusRequest(namespace="here"))).clusters
        assert [each.run for each in cluster.held] == ["here"]
        found = await eve.Get(cp.GetRequest(kind="Agent", name="edge", namespace="here"))
        assert "there" not in found.object.spec_json


async def test_a_role_that_is_granted_or_revoked_counts_from_the_next_call_on(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    look = cp.ListRequest(kind="Run")
    async with hub.person("eve") as eve:
        for _ in range(3):
            assert (await answer_to(eve, "List", look))[0] is grpc.StatusCode.PERMISSION_DENIED
            await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_EXPERT))
            assert (await answer_to(eve, "List", look))[0] is grpc.StatusCode.OK
            await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_VIEWER))
            assert (await answer_to(eve, "CancelRun"))[0] is grpc.StatusCode.PERMISSION_DENIED
            await person.RevokeRole(cp.RevokeRoleRequest(subject="eve"))
        code, _ = await answer_to(person, "RevokeRole", cp.RevokeRoleRequest(subject="eve"))
        assert code is grpc.StatusCode.NOT_FOUND


async def test_a_stream_ends_before_its_next_word_once_the_role_is_gone(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_VIEWER))
    async with hub.person("eve") as eve, asyncio.timeout(SECONDS):
        now = (await person.List(cp.ListRequest(kind="Topology"))).store_revision
        watch = eve.Watch(cp.WatchRequest(kind="Topology", store_revision=now))
        await apply(person, TOPOLOGY)
        assert (await watch.read()).object.name == "pair"  # type: ignore[union-attr]
        await person.RevokeRole(cp.RevokeRoleRequest(subject="eve"))
        await apply(person, TOPOLOGY.replace("5ms", "6ms"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_roles_outlive_the_hub_and_another_hub_hears_of_them(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_VIEWER, namespace="here"))
    await hub.stop()
    await hub.start()
    async with hub.person() as again, hub.person("eve") as eve, hub.beside() as other:
        listed = (await again.ListRoles(cp.ListRolesRequest())).bindings
        assert [(each.subject, each.namespace, each.role, each.granted_by) for each in listed] == [
            ("eve", "here", access_pb2.ROLE_VIEWER, "ada")
        ]
        look = cp.ListRequest(kind="Run", namespace="here")
        assert (await answer_to(eve, "List", look))[0] is grpc.StatusCode.OK
        await again.RevokeRole(cp.RevokeRoleRequest(subject="eve", namespace="here"))
        async with other.person("eve") as there:
            await asked_until(
                lambda: answer_to(there, "List", look), lambda answer: answer[0] is not grpc.StatusCode.OK
            )


@pytest.mark.parametrize(
    "subject", ["", "A", "a b", "../x", "a/b", "a\0b", "group:", "oidc: x", "oidc:a\nb", "x" * 300]
)
async def test_what_names_nobody_is_granted_nothing(person: ControlPlaneServiceStub, subject: str) -> None:
    request = cp.GrantRoleRequest(subject=subject, role=access_pb2.ROLE_VIEWER)
    code, words = await answer_to(person, "GrantRole", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "names nobody" in words
    assert not (await person.ListRoles(cp.ListRolesRequest())).bindings


@pytest.mark.parametrize(("role", "name"), [(Role.AGENT, "edge"), (Role.NODE, "edge/n1"), (Role.HUB, "hub")])
async def test_members_that_are_no_users_may_do_nothing_here(hub: RunningHub, role: Role, name: str) -> None:
    async with hub.members.channel(hub.address, role, name) as channel:
        for method in METHODS:
            code, words = await answer_to(ControlPlaneServiceStub(channel), method)
            assert (code, "for users" in words) == (grpc.StatusCode.PERMISSION_DENIED, True), (method, words)
