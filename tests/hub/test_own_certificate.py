"""The hub's own certificate: with the authority the hub needs nobody to renew it, for whatever it is used."""

from __future__ import annotations

import time
from pathlib import Path

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from tests.fixtures.etcd import EtcdServer
from tests.hub.agent import FakeAgent
from tests.hub.hub import Members, RunningHub, apply
from tests.hub.objects import ALL
from tests.hub.test_runs import output, submit, until
from wire import permits
from wire.identity import Identity, Role


async def test_a_hub_whose_first_certificate_has_ended_serves_and_permits_with_its_next(
    empty_server: EtcdServer, tmp_path: Path
) -> None:
    members = Members.create(tmp_path / "members")
    given = tmp_path / "members" / Role.HUB / "hub"
    members.authority.issue(Identity(Role.HUB, "hub"), given, days=-1 / 86_400)
    endpoint, tls = empty_server.etcd.config.endpoint, empty_server.tls
    async with (
        RunningHub(members, endpoint, tls, tmp_path / "hub") as hub,
        hub.person() as person,
        FakeAgent(hub, "edge") as edge,
        FakeAgent(hub, "cloud") as cloud,
    ):
        for agent in (edge, cloud):
            await agent.beat(cp.NodeStatus(name="n1", ready=True, cpus=2, data_address="127.0.0.1:99"))
        await apply(person, ALL)
        run = (await submit(person)).run.name
        await edge.end(await edge.assigned(run))
        await cloud.end(await cloud.assigned(run), outputs=[output(1)])
        await until(person, run, m.RUN_STATE_SUCCEEDED)
        permit = (await person.Outputs(cp.OutputsRequest(namespace="default", run=run))).permit
    ca = members.credentials(Role.HUB, "hub").ca
    assert permits.checked(permits.header(permit), ca, now=time.time()).run == run
