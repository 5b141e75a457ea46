"""Every change leaves one line that says who wanted what, from where, and whether they might; a look leaves none."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import grpc
import pytest

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.calls import ACCESS
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.access.audit import AuditLog
from control_plane.access.errors import NotWritten
from tests.access.people import SERVICE, answer_to, audited, everybody, name_of
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import ALL
from wire.identity import Role


async def test_each_changing_call_leaves_one_line_refused_or_not_and_a_look_leaves_none(hub: RunningHub) -> None:
    async with everybody(hub) as people:
        for method in SERVICE.methods:
            access = ACCESS[SERVICE.full_name, method.name]
            for role, allowed in ((access.needs - 1, False), (access.needs, True)):
                before = len(audited(hub))
                await answer_to(people[role], method.name)
                lines = audited(hub)[before:]
                assert len(lines) == int(access.changes), (method.name, allowed, lines)
                for line in lines:
                    assert (line["by"], line["call"], line["allowed"]) == (name_of(role), method.name, allowed)
                    assert line["from"].startswith("ipv4:127.0.0.1:")
                    assert ("reason_refused" in line) is not allowed


async def test_a_line_names_what_was_to_be_changed_and_never_a_value(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await apply(person, ALL)
    await person.GrantRole(cp.GrantRoleRequest(subject="group:lab", role=access_pb2.ROLE_EXPERT, namespace="here"))
    secret = cp.SubmitRequest(workflow="counting", run="mine", parameters_json='{"limit": "hunter2"}')
    await answer_to(person, "Submit", secret)
    applied, granted, submitted = audited(hub)
    assert applied["objects"] == ["Topology/pair", "Step/count@1", "Workflow/counting"]
    assert (applied["namespace"], granted["namespace"]) == ("default", "here")
    assert (granted["subject"], granted["role"]) == ("group:lab", "expert")
    assert (submitted["workflow"], submitted["run"]) == ("counting", "mine")
    assert "hunter2" not in hub.audit.read_text()
    assert stat.S_IMODE(hub.audit.stat().st_mode) == 0o600


async def test_a_dry_run_changes_nothing_and_leaves_no_line(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    await apply(person, ALL, dry_run=True)
    await apply(person, ALL)
    await answer_to(person, "Submit", cp.SubmitRequest(workflow="counting", dry_run=True))
    assert [line["call"] for line in audited(hub)] == ["Apply"]


async def test_who_is_no_user_leaves_a_line_as_well(hub: RunningHub) -> None:
    async with hub.members.channel(hub.address, Role.AGENT, "edge") as channel:
        await answer_to(ControlPlaneServiceStub(channel), "CancelRun", cp.CancelRunRequest(run="r"))
    (line,) = audited(hub)
    assert (line["by"], line["run"], line["allowed"]) == ("agent edge", "r", False)


async def test_a_name_can_not_forge_a_line(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    forged = 'x"}\n{"by":"ada","allowed":true}'
    await answer_to(person, "CancelRun", cp.CancelRunRequest(run=forged))
    (line,) = audited(hub)
    assert line["run"] == forged


async def test_a_change_that_can_not_be_written_down_is_not_made(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("control_plane.access.audit.os.write", full)
        request = cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_ADMIN)
        code, words = await answer_to(person, "GrantRole", request)
        assert (code, "nothing was changed" in words) == (grpc.StatusCode.UNAVAILABLE, True)
        assert (await answer_to(person, "ListRoles"))[0] is grpc.StatusCode.OK  # a look needs no line
    assert not (await person.ListRoles(cp.ListRolesRequest())).bindings


def lines(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_the_log_is_set_aside_when_it_has_grown_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, largest=150, kept=3)
    for number in range(12):  # two a file
        log.write({"number": number, "fill": "x" * 10})
    log.close()
    kept = [lines(tmp_path / f"audit.jsonl.{number}") for number in (3, 2, 1)] + [lines(path)]
    assert kept == [[4, 5], [6, 7], [8, 9], [10, 11]]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["audit.jsonl", *(f"audit.jsonl.{n}" for n in (1, 2, 3))]


def test_the_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in range(3):
        log = AuditLog(tmp_path / "audit.jsonl")
        log.write({"number": number})
        log.close()
    assert lines(tmp_path / "audit.jsonl") == [0, 1, 2]


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.write({"number": 1})
    whole = os.write
    with monkeypatch.context() as patched:
        patched.setattr("control_plane.access.audit.os.write", lambda file, data: whole(file, data[:5]))
        with pytest.raises(NotWritten):
            log.write({"number": 2})
    log.write({"number": 3})
    log.close()
    assert lines(tmp_path / "audit.jsonl") == [1, 3]
