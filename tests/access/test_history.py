"""What is in the audit logs can be asked for: by whom, since when, and what was refused; from whichever hub."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bdw_fed.v1 import access_pb2, hub_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from bdw_fed.v1.hub_pb2_grpc import HubServiceStub
from bdw_fed.v1.store_pb2 import HubRecord
from control_plane.access import history
from control_plane.access.audit import AuditLog
from control_plane.access.history import AuditHistory
from control_plane.hubs.fellows import Fellows
from tests.access.people import answer_to
from tests.hub.hub import SECONDS, RunningHub, asked_until
from tests.settings import examples
from wire.identity import Role


def line(number: int, by: str = "eve", *, allowed: bool = True, namespace: str = "here") -> dict[str, object]:
    told = {"by": by, "from": "ipv4:10.0.0.1:9", "call": "CancelRun", "namespace": namespace, "run": f"r{number}"}
    return {**told, "allowed": allowed, **({} if allowed else {"reason_refused": "no"})}


def runs(answer: cp.ReadAuditResponse) -> list[str]:
    return [each.about["run"] for each in answer.lines]


LINES = st.lists(
    st.builds(
        line,
        st.integers(0, 99),
        st.sampled_from(["eve", "bob", 'e"ve', "a\nb", "übel"]),
        allowed=st.booleans(),
        namespace=st.sampled_from(["here", "all"]),
    ),
    max_size=30,
)
ASKED = st.builds(
    cp.ReadAuditRequest,
    user=st.sampled_from(["", "eve", 'e"ve', "a\nb", "übel", "nobody"]),
    refused=st.booleans(),
    namespace=st.sampled_from(["", "here", "all"]),
    limit=st.integers(0, 12),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60))
@given(written=LINES, asked=ASKED, block=st.sampled_from([7, 300, 1 << 20]), largest=st.sampled_from([400, 1 << 20]))
def test_what_is_found_is_what_reading_all_of_it_would_find(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: list[dict[str, object]],
    asked: cp.ReadAuditRequest,
    block: int,
    largest: int,
) -> None:
    monkeypatch.setattr(history, "_BLOCK_BYTES", block)
    path = tmp_path / "audit.jsonl"
    for old in tmp_path.iterdir():
        old.unlink()
    log = AuditLog(path, largest=largest, kept=50)
    for each in written:
        log.write(each)
    log.close()
    wanted = [
        each["run"]
        for each in written
        if asked.user in ("", each["by"])
        and asked.namespace in ("", each["namespace"])
        and not (asked.refused and each["allowed"])
    ]
    answer = asyncio.run(AuditHistory(path, "hub1", kept=50).read(asked))
    limit = asked.limit or 100
    assert runs(answer) == wanted[-limit:]
    assert answer.more is (len(wanted) > limit)
    assert {each.hub for each in answer.lines} <= {"hub1"}


def written_at(path: Path, *hours: int) -> None:
    """Lines of these hours of a day."""
    with path.open("a") as file:
        for hour in hours:
            file.write(json.dumps({"at": f"2026-01-31T{hour:02}:00:00+00:00", **line(hour)}) + "\n")


async def test_only_what_came_since_is_found_also_where_the_clock_was_set_back_a_little(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written_at(path, 1, 2, 3, 5, 4, 6)
    since = datetime.datetime(2026, 1, 31, 4, tzinfo=datetime.UTC).timestamp()
    assert runs(await AuditHistory(path, "hub").read(cp.ReadAuditRequest(since=since))) == ["r5", "r4", "r6"]


async def test_a_line_that_is_being_written_and_one_that_is_spoilt_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written_at(path, 1)
    path.write_text(path.read_text() + "spoilt\n")
    written_at(path, 2)
    path.write_text(path.read_text() + '{"at":"2026-')
    assert runs(await AuditHistory(path, "hub").read(cp.ReadAuditRequest())) == ["r1", "r2"]
    assert runs(await AuditHistory(tmp_path / "none.jsonl", "hub").read(cp.ReadAuditRequest())) == []


async def test_a_file_that_is_set_aside_meanwhile_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.jsonl"
    written_at(tmp_path / "audit.jsonl.1", 1, 2)
    written_at(path, 3, 4)
    opening = os.open

    def set_aside_after(opened: Path, flags: int) -> int:
        descriptor = opening(opened, flags)
        if opened == path:
            monkeypatch.setattr("control_plane.access.history.os.open", opening)
            (tmp_path / "audit.jsonl.1").rename(tmp_path / "audit.jsonl.2")
            path.rename(tmp_path / "audit.jsonl.1")
            written_at(path, 5)
        return descriptor

    monkeypatch.setattr("control_plane.access.history.os.open", set_aside_after)
    assert runs(await AuditHistory(path, "hub").read(cp.ReadAuditRequest())) == ["r1", "r2", "r3", "r4"]


async def test_an_admin_sees_who_wanted_what_and_of_one_namespace_only_that(
    hub: RunningHub, person: ControlPlaneServiceStub
) -> None:
    await person.GrantRole(cp.GrantRoleRequest(subject="eve", role=access_pb2.ROLE_ADMIN, namespace="here"))
    async with hub.person("eve") as eve:
        await answer_to(eve, "CancelRun", cp.CancelRunRequest(run="mine", namespace="here"))
        await answer_to(eve, "CancelRun", cp.CancelRunRequest(run="yours", namespace="there"))
        everything = await person.ReadAudit(cp.ReadAuditRequest())
        told = [(each.by, each.call, each.namespace, each.refused, dict(each.about)) for each in everything.lines]
        assert told == [
            ("ada", "GrantRole", "here", False, {"subject": "eve", "role": "admin"}),
            ("eve", "CancelRun", "here", False, {"run": "mine"}),
            ("eve", "CancelRun", "there", True, {"run": "yours"}),
        ]
        assert "CancelRun needs expert in namespace there" in everything.lines[-1].reason_refused
        assert everything.lines[-1].address.startswith("ipv4:127.0.0.1:")
        assert runs(await person.ReadAudit(cp.ReadAuditRequest(refused=True))) == ["yours"]
        (mine,) = (await eve.ReadAudit(cp.ReadAuditRequest(namespace="here", user="eve"))).lines
        assert mine.about["run"] == "mine"
        assert (await answer_to(eve, "ReadAudit", cp.ReadAuditRequest()))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_each_hub_tells_what_all_of_them_have_written(hub: RunningHub, person: ControlPlaneServiceStub) -> None:
    async with hub.beside() as other, other.person() as there:
        for number, way in enumerate((person, there, person, there)):
            await answer_to(way, "CancelRun", cp.CancelRunRequest(run=f"r{number}"))
        for way in (person, there):
            found = await asked_until(  # it may have yet to hear of the other, or to connect
                partial(way.ReadAudit, cp.ReadAuditRequest()), lambda answer: len(answer.lines) >= 4
            )
            assert runs(found) == ["r0", "r1", "r2", "r3"]
            newest = await way.ReadAudit(cp.ReadAuditRequest(limit=3))
            assert (runs(newest), newest.more) == (["r1", "r2", "r3"], True)
        async with hub.members.channel(hub.address, Role.AGENT, "edge") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await HubServiceStub(channel).AskAudit(hub_pb2.AskAuditRequest())
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_hub_that_can_not_be_asked_is_named(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: object, _request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.INTERNAL, "the disk is broken")

    monkeypatch.setattr("control_plane.hubs.service.HubService.AskAudit", broken)
    async with hub.beside():
        await answer_to(person, "CancelRun", cp.CancelRunRequest(run="r"))
        answer = await asked_until(
            lambda: person.ReadAudit(cp.ReadAuditRequest()), lambda answer: list(answer.unreachable) == ["hub"]
        )
        assert runs(answer) == ["r"]


@pytest.mark.parametrize("how", ["closed", "closing"])
async def test_a_connection_that_is_made_anew_meanwhile_is_a_hub_that_could_not_be_asked(
    hub: RunningHub, person: ControlPlaneServiceStub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asked = asyncio.Event()

    async def slow(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("control_plane.hubs.service.HubService.AskAudit", slow)
    knowing = Fellows(b"us", hub.members.credentials(Role.HUB, "hub"), tuple)
    async with hub.beside() as other, asyncio.timeout(SECONDS):
        knowing.know({b"other": HubRecord(hub_id=b"other", name="other", address=other.address)})
        (fellow,) = knowing._fellows.values()
        if how == "closed":
            await fellow._line.close()
        reading = asyncio.create_task(knowing.audits(cp.ReadAuditRequest()))
        if how == "closing":
            await asked.wait()
            await fellow._line.close()
        assert await reading == ([], ["other"])
        await knowing.close()
