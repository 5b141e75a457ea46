"""What is secret is in no log: keys, tokens, permits, parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import structlog

from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1.control_plane_pb2_grpc import ControlPlaneServiceStub
from control_plane.access.tokens import Issuer
from tests.access.issuer import CLIENT, local_issuer
from tests.access.people import answer_to
from tests.access.test_tokens import with_token
from tests.fixtures.ports import free_port
from tests.hub.hub import RunningHub, apply
from tests.hub.objects import ALL
from wire.identity import Role
from wire.logging import configure


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The log of all that goes on in this process, with everything that is ever logged."""
    path = tmp_path / "all.log"
    configure("hub", "hub", level="debug", path=path)
    structlog.configure(cache_logger_on_first_use=False)  # else the loggers would keep to the file
    yield path
    structlog.get_config()["logger_factory"]._file.close()
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


async def test_no_secret_is_in_any_log(
    hub: RunningHub, person: ControlPlaneServiceStub, tmp_path: Path, log: Path
) -> None:
    async with local_issuer(tmp_path) as issuer:
        await hub.stop()
        hub.listen_users = f"127.0.0.1:{free_port()}"
        hub.issuer = Issuer(issuer.url, CLIENT, ca=issuer.ca)
        await hub.start()
        async with hub.person() as admin:
            await apply(admin, ALL)
            await admin.GrantRole(cp.GrantRoleRequest(subject="oidc:ann", role=access_pb2.ROLE_EXPERT))
            submitted = cp.SubmitRequest(workflow="counting", parameters_json='{"password": "hunter2"}')
            await answer_to(admin, "Submit", submitted)
        tokens = [
            issuer.token("ann"),
            issuer.token("bob"),
            issuer.token(exp=1.0),
            issuer.token(aud="else"),
            "nonsense-token",
        ]
        for token in tokens:
            async with with_token(hub, token) as stub:
                code, words = await answer_to(stub, "Submit", submitted)
                assert (code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)) is (
                    token != tokens[0]
                )
                assert token not in words
    logged = log.read_text() + hub.audit.read_text()
    assert logged.count("a call was refused") == len(tokens) - 1
    keys = [hub.members.credentials(role, name).key for role, name in ((Role.HUB, "hub"), (Role.USER, "ada"))]
    secrets = [*tokens, *(token.split(".")[-1] for token in tokens), "hunter2", "PRIVATE KEY"]
    secrets += [line for key in keys for line in key.read_text().splitlines()[1:-1]]
    assert [secret for secret in secrets if secret in logged] == []
