"""Server and credentials are found where kubectl finds them, and what is missing is named."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from cluster_agent.runtimes.kubernetes.api.client import Client
from cluster_agent.runtimes.kubernetes.api.configuration import Source, load
from cluster_agent.runtimes.kubernetes.api.errors import ConfigurationError, Unauthorized
from cluster_agent.runtimes.kubernetes.api.objects.kinds import PODS
from tests.kubernetes.fake.server import FakeServer

ROOT = Path(__file__).resolve().parents[2]


async def works(source: Source) -> bool:
    client = await Client.connect(source)
    try:
        return await client.list(PODS, client.namespace) == []
    finally:
        await client.close()


async def test_a_named_context_of_a_named_kubeconfig(fake: FakeServer) -> None:
    access = await load(fake.source)
    assert access.server == f"https://127.0.0.1:{fake.port}"
    assert access.namespace == "team"
    assert await works(fake.source)


async def test_the_current_context_of_the_files_in_the_environment(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{fake.kubeconfig}")
    assert await works(Source())


async def test_the_service_account_of_the_pod_and_its_token_when_it_changes(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(fake.port))
    shutil.copy(fake.identity.authority, tmp_path / "ca.crt")
    (tmp_path / "token").write_text("let-me-in\n")
    (tmp_path / "namespace").write_text("team")
    source = Source(service_account=tmp_path)
    client = await Client.connect(source)
    try:
        assert client.namespace == "team"
        fake.token = "rotated"
        with pytest.raises(Unauthorized, match="have they expired"):
            await client.list(PODS, "team")
        (tmp_path / "token").write_text("rotated\n")
        assert await client.list(PODS, "team") == []
    finally:
        await client.close()


async def test_a_credential_plugin(fake: FakeServer, tmp_path: Path) -> None:
    answer = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"let-me-in"}}'
    source = with_user(
        fake,
        tmp_path,
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [answer]}},
    )
    assert await works(source)


async def test_credentials_that_a_plugin_did_not_give_are_missed_by_name(fake: FakeServer, tmp_path: Path) -> None:
    source = with_user(fake, tmp_path, {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}})
    with pytest.raises(Unauthorized, match="it gave no credentials"):
        await works(source)


def with_user(fake: FakeServer, directory: Path, user: dict[str, object]) -> Source:
    configuration = fake.configuration()
    configuration["users"][0]["user"] = user
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(configuration))
    return Source(kubeconfig=str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no kubeconfig at .*kubeconfig: name one"),
        ("a: [", "can't use the current context of kubeconfig .*kubeconfig: while parsing"),
        ("contexts: []\ncurrent-context: x\n", "can't use the current context .* with name x"),
    ],
)
async def test_a_kubeconfig_that_is_of_no_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        await load(Source(kubeconfig=str(tmp_path / "kubeconfig")))


async def test_a_context_that_there_is_not_is_named(fake: FakeServer) -> None:
    with pytest.raises(ConfigurationError, match=r"can't use context 'nowhere' of kubeconfig .*name nowhere"):
        await load(Source(context="nowhere", kubeconfig=str(fake.kubeconfig)))


async def test_a_certificate_that_is_missing_is_said_to_be(fake: FakeServer, tmp_path: Path) -> None:
    source = with_user(fake, tmp_path, {"client-certificate": "absent.crt", "client-key": "absent.key"})
    with pytest.raises(ConfigurationError, match=r"absent\.crt"):
        await load(source)


async def test_keys_of_a_kubeconfig_stay_in_no_file(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    await load(fake.source)
    await load(fake.source)
    assert list(tmp_path.iterdir()) == []


def test_the_official_clients_models_are_never_imported(tmp_path: Path) -> None:
    """They take seconds and a hundred megabytes. And without Kubernetes not even the loaders are."""
    script = f"""
import asyncio, sys
import cluster_agent.runtimes.kubernetes.api.watch.driver
from cluster_agent.runtimes.kubernetes.api.configuration import Source, load
print(sorted(name for name in sys.modules if name.startswith("kubernetes")))
try:
    asyncio.run(load(Source(kubeconfig={str(tmp_path / "absent")!r})))
except Exception as error:
    print(type(error).__name__)
loaded = [name.split(".") for name in sys.modules if name.startswith("kubernetes.")]
print([name for name in loaded if "models" in name[:-1] or "api" in name[:-1]])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "ConfigurationError", "[]"]
