"""Secrets: a step's workers find them in files, and nobody else finds them anywhere."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

import pytest

from bdw_fed.v1 import model_pb2
from cluster_agent.node.messages import PoolSpec
from cluster_agent.node.recipe import worker_spec
from cluster_agent.runtimes.base import Job, Runtime, Secret, WorkerSpec
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.kubernetes.manifest import SECRETS, Settings, template
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from cluster_agent.runtimes.secrets import MOST_BYTES, KeptSecrets, pointed_to

PASSWORD = ("password", Secret("default", "db", "password"))
CODE = """
import os
from pathlib import Path

def main(out):
    directory = Path(os.environ["BDW_FED_SECRETS"])
    out["report"].write_text((directory / "password").read_text().upper())
"""


class Quiet:
    """Nobody listens to what a task writes."""

    def write(self, stream: int, data: bytes) -> None:
        pass


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    directory = tmp_path / "kept"
    (directory / "default" / "db").mkdir(parents=True)
    (directory / "default" / "db" / "password").write_text("hush")
    return directory


@pytest.fixture
async def runtime(kept: Path, tmp_path: Path) -> AsyncIterator[Runtime]:
    made = ProcessRuntime(secrets=KeptSecrets(kept, tmp_path / "given"))
    await made.open()
    yield made
    await made.close()


def job(tmp_path: Path, name: str = "task") -> Job:
    directory = tmp_path / name
    for part in ("in", "out", "tmp"):
        (directory / part).mkdir(parents=True)
    return Job(directory, {}, {"report": directory / "out" / "report"})


async def reported(runtime: Runtime, tmp_path: Path, spec: WorkerSpec, name: str = "task") -> str:
    worker = await runtime.start(spec)
    outcome = await worker.execute(job(tmp_path, name), Quiet())
    assert outcome.kind == "", outcome.message
    await worker.stop()
    return (tmp_path / name / "out" / "report").read_text()


async def test_a_command_and_a_function_find_their_secrets_in_files(runtime: Runtime, tmp_path: Path) -> None:
    show = ("sh", "-c", 'cat "$1" > "$2"', "-", "{secret.password}", "{out.report}")
    assert await reported(runtime, tmp_path, WorkerSpec("s@1", argv=show, secrets=(PASSWORD,))) == "hush"
    (tmp_path / "steps.py").write_text(CODE)
    spec = WorkerSpec("f@1", function="steps:main", bundle=tmp_path, secrets=(PASSWORD,))
    assert await reported(runtime, tmp_path, spec, "other") == "HUSH"


async def test_a_new_worker_gets_a_secret_as_it_is_now(runtime: Runtime, kept: Path, tmp_path: Path) -> None:
    show = ("cp", "{secret.password}", "{out.report}")
    spec = WorkerSpec("s@1", argv=show, secrets=(PASSWORD,))
    assert await reported(runtime, tmp_path, spec) == "hush"
    (kept / "default" / "db" / "password").write_text("new")
    assert await reported(runtime, tmp_path, spec, "other") == "new"


async def test_nobody_but_the_workers_user_can_read_them_and_they_go_with_the_daemon(
    runtime: Runtime, tmp_path: Path
) -> None:
    await runtime.start(WorkerSpec("s@1", argv=("true",), secrets=(PASSWORD,)))
    (file,) = (path for path in (tmp_path / "given").rglob("*") if path.is_file())
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file.parent.parent)} == {0o700}
    await runtime.close()
    assert not (tmp_path / "given").exists()


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (
            Secret("default", "db", "user"),
            "wants key user of secret db, and .*default/db/user can't be read: no such file",
        ),
        (Secret("other", "db", "password"), "other/db/password can't be read"),
        (Secret("default", "large", "password"), "is larger than 1 MiB"),
    ],
)
async def test_a_secret_that_can_not_be_had_is_named(runtime: Runtime, kept: Path, secret: Secret, words: str) -> None:
    (kept / "default" / "large").mkdir()
    (kept / "default" / "large" / "password").write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(StartError, match=words) as caught:
        await runtime.start(WorkerSpec("s@1", argv=("true",), secrets=(("password", secret),)))
    assert caught.value.final


async def test_a_node_without_secrets_says_how_it_gets_some(tmp_path: Path) -> None:
    without = KeptSecrets(None, tmp_path / "given")
    with pytest.raises(StartError, match="start its daemon with --secrets DIRECTORY"):
        without.give(WorkerSpec("s@1", argv=("true",), secrets=(PASSWORD,)))


def test_only_a_placeholder_is_filled_in() -> None:
    spec = WorkerSpec("s@1", argv=("a{secret.password}b", "{{secret.password}}", "{in.rows}"), secrets=(PASSWORD,))
    assert pointed_to(spec, PurePosixPath("/s")).argv == ("a/s/passwordb", "{{secret.password}}", "{in.rows}")


def test_a_pod_has_the_secrets_of_its_namespace_mounted_and_can_name_no_others() -> None:
    settings = Settings("edge1", "n1", "bdw-fed", Path("/state"), "ours", "ours", 1000, 1000)
    made = template(settings, WorkerSpec("s@1", argv=("true",), secrets=(PASSWORD,))).made["spec"]
    volume = next(each for each in made["volumes"] if each["name"] == "secrets")
    assert volume["projected"] == {
        "defaultMode": 0o400,
        "sources": [
            {"secret": {"name": "bdw-fed-secret-default-db", "items": [{"key": "password", "path": "password"}]}}
        ],
    }
    mount = next(each for each in made["containers"][0]["volumeMounts"] if each["name"] == "secrets")
    assert mount == {"name": "secrets", "mountPath": str(SECRETS), "readOnly": True}
    assert made["securityContext"]["fsGroup"] == 1000, "so that a worker that is not root can read them"
    plain = template(settings, WorkerSpec("s@1", argv=("true",))).made["spec"]
    assert "fsGroup" not in plain["securityContext"]


def test_what_travels_is_where_a_secret_lies_and_nothing_of_it() -> None:
    execution = model_pb2.Execution(command=model_pb2.Execution.Command(argv=["true"]))
    execution.secrets["password"].CopyFrom(model_pb2.SecretKey(namespace="default", name="db", key="password"))
    spec = worker_spec(PoolSpec("key", "s@1"), execution, 0, None)
    assert spec.secrets == (PASSWORD,)
