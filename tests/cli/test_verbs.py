"""What verbs do beyond printing: exit codes, following, bundles, pipes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from fake_hub import RUN, FakeHub, a_run

from bdw_fed.cli.__main__ import run
from bdw_fed.cli.files import read_documents, split_documents
from bdw_fed.v1 import access_pb2
from bdw_fed.v1 import control_plane_pb2 as pb
from bdw_fed.v1 import model_pb2 as model
from wire.digests import bytes_digest


def test_a_user_that_is_made_gets_a_directory_to_work_with(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "eve"
    words = ["user", "create", "eve", "--role", "viewer", "-n", "flights", "--to", str(theirs)]
    assert run([*words, "--authority", str(tmp_path / "nowhere")]) == 2
    assert "--authority DIR" in capsys.readouterr().err
    assert not theirs.exists()
    words += ["--authority", str(hub.user.parent / "ca")]
    assert run(words) == 0
    granted = hub.asked[-1]
    assert (granted.subject, granted.namespace, granted.role) == ("eve", "flights", access_pb2.ROLE_VIEWER)
    certificate = x509.load_pem_x509_certificate((theirs / "cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["bdw-fed://user/eve"]
    for name in ("BDW_FED_HUB", "BDW_FED_CREDENTIALS"):
        monkeypatch.delenv(name)
    assert run(["get", "runs", "--state", str(theirs)]) == 0
    assert hub.asked[-1].namespace == "flights"
    assert run([*words, "--state", str(theirs)]) == 5  # a certificate is not written over
    assert run(["user", "create", "Eve!", "--role", "viewer"]) == 2


def test_watch_ends_with_the_run_and_its_exit_code(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", RUN]) == 0
    out = capsys.readouterr().out
    assert "running    clean 4/12 (3 wait, 2 run)" in out
    assert f"run {RUN} succeeded after 1m1s" in out.splitlines()[-1]
    hub.states = [a_run(model.RUN_STATE_FAILED, 3)]
    assert run(["watch", RUN]) == 1
    out = capsys.readouterr().out
    assert "failed after 1m1s: step clean failed on edge-jfk" in out
    assert "  | KeyError: 'dep_delay'" in out


def test_watch_as_json_is_a_line_for_each_change(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", RUN, "-o", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == ["RUN_STATE_RUNNING", "RUN_STATE_SUCCEEDED"]


def test_submit_and_wait_exits_as_the_run_ends(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "delays", "--wait"]) == 0
    hub.states = [a_run(model.RUN_STATE_CANCELLED)]
    assert run(["submit", "delays", "--wait", "-o", "name"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == RUN


def test_parameters_are_json_where_they_can_be(hub: FakeHub) -> None:
    assert run(["submit", "delays", "-p", "a=1", "-p", "b=x y", "-p", 'c="1"', "-p", "d=[1, 2]", "-p", "e="]) == 0
    assert json.loads(hub.asked[-1].parameters_json) == {"a": 1, "b": "x y", "c": "1", "d": [1, 2], "e": ""}


def test_a_wait_that_takes_too_long_and_a_hub_that_is_away_are_not_failures_of_the_run(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["wait", "endless", "--timeout", "0.2"]) == 4
    hub.stalled.set()
    monkeypatch.setenv("BDW_FED_HUB", "127.0.0.1:1")
    assert run(["get", "runs"]) == 4
    assert run(["status"]) == 4


def test_no_federation_at_all_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BDW_FED_HUB", raising=False)
    monkeypatch.setenv("BDW_FED_STATE", str(tmp_path))
    assert run(["get", "runs"]) == 2
    assert "bdw-fed up" in capsys.readouterr().err
    assert run(["down"]) == 0


def test_documents_keep_their_lines(tmp_path: Path) -> None:
    text = "# head\nkind: A\n---\n# only a remark\n---\nkind: B\n--- # again\nkind: C\n"
    assert [(line, part.strip().splitlines()[-1]) for line, part in split_documents(text)] == [
        (1, "kind: A"),
        (6, "kind: B"),
        (8, "kind: C"),
    ]


def test_directories_are_read_whole_but_for_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("a.yaml", "b/deep/c.yml", "b/d.txt", ".hidden/e.yaml", ".f.yaml"):
        (tmp_path / name).write_text(f"kind: {name}\n")
    found = [Path(document.file).relative_to(tmp_path).as_posix() for document in read_documents([str(tmp_path)])]
    assert found == ["a.yaml", "b/deep/c.yml"]


def test_a_step_s_code_is_packed_from_beside_its_file_and_sent_once(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "clean.py").write_text("def main(): ...\n")
    step = "kind: Step\nmetadata: {name: s, version: '1'}\nspec:\n  run: {python: 'clean:main', bundle: ./steps}\n"
    (tmp_path / "steps.yaml").write_text(f"{step}---\n{step}")
    assert run(["apply", "-f", str(tmp_path / "steps.yaml")]) == 0
    ((digest, content),) = hub.blobs.items()
    assert digest == bytes_digest(content)
    assert [document.bundle for document in hub.asked[-1].documents] == [digest, digest]


def test_a_bundle_that_is_not_there_is_a_problem_with_its_line(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text("kind: Step\nspec:\n  run: {python: 'clean:main', bundle: ./nowhere}\n")
    assert run(["apply", "-f", str(file)]) == 2
    assert f"{file}:1: spec.run.bundle: " in capsys.readouterr().err


def test_standard_input_is_a_file_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("kind: Workflow\n---\nkind: Workflow\n"))
    assert run(["apply", "-f", "-"]) == 0
    assert [(document.file, document.line) for document in hub.asked[-1].documents] == [("-", 1), ("-", 3)]


def test_the_program_itself_answers_and_a_reader_that_goes_away_is_no_error(hub: FakeHub) -> None:
    command = [sys.executable, "-m", "bdw_fed.cli", "get", "workflows"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=os.environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["NAME", "REVISION", "AGE"]
    cut = subprocess.run(
        f"{sys.executable} -m bdw_fed.cli events -f | true",
        shell=True,
        capture_output=True,
        timeout=30,
        env=os.environ,
        check=False,
    )
    assert cut.stderr == b""


def test_a_quick_verb_imports_neither_typer_nor_what_else_is_slow(hub: FakeHub) -> None:
    script = (
        "import sys; from bdw_fed.cli.__main__ import run; code = run(['get', 'runs', '-o', 'json']);"
        "slow = {'typer', 'click', 'rich', 'yaml', 'pydantic', 'aiohttp', 'cryptography', 'http.client', 'structlog',"
        " 'google.protobuf.descriptor_pb2'};"
        "print(sorted(slow & sys.modules.keys()), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, env=os.environ, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_what_is_imported_lazily_is_whole_when_it_is_used() -> None:
    script = (
        "import sys; from bdw_fed.cli.lazily import import_lazily; import_lazily('grpc', 'aio'); import grpc;"
        "assert 'grpc.aio._channel' not in sys.modules;"
        "from grpc import aio; assert aio.Channel is grpc.aio.Channel; import grpc.aio;"
        "assert 'grpc.aio._channel' in sys.modules; print(grpc.aio.secure_channel.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stderr, done.stdout.strip()) == ("", "secure_channel")


def on_a_terminal(words: list[str], environment: dict[str, str]) -> str:
    """What a person at a terminal of 100 columns sees, escape sequences and all."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "bdw_fed.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # the other end has hung up
    os.close(ours)
    assert process.wait(timeout=10) == 0
    return seen.decode()


def test_a_person_sees_a_live_table_and_colour_unless_it_is_unwanted(hub: FakeHub) -> None:
    plain = on_a_terminal(["watch", RUN], {"NO_COLOR": "1"})
    assert "WAITING" in plain
    assert "█" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain), "no colour with NO_COLOR"
    colourful = on_a_terminal(["get", "runs"], {"NO_COLOR": ""})
    assert "\x1b[32msucceeded" in colourful


def test_json_on_a_terminal_is_json(hub: FakeHub) -> None:
    assert json.loads(on_a_terminal(["get", "workflows", "-o", "json"], {"NO_COLOR": ""}))


@pytest.mark.parametrize(
    ("words", "expected"),
    [("bdw-fed desc", "describe"), ("bdw-fed get work", "workflow"), ("bdw-fed watch delays-", "delays-1")],
)
def test_the_shell_completes_verbs_kinds_and_names(hub: FakeHub, words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_BDW_FED_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "bdw_fed.cli"],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=False,
    )
    assert expected in done.stdout.splitlines(), done.stderr


def test_the_doctor_finds_what_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--state", str(tmp_path / "state")]) == 0
    checks = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert {"python", "disk", "ports", "clock", "etcd"} <= set(checks)
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "ca.pem").touch()
    future = 4_000_000_000
    os.utime(tmp_path / "ca" / "ca.pem", (future, future))
    assert run(["doctor", "--state", str(tmp_path)]) == 1
    assert "set the clock" in capsys.readouterr().out


def test_a_wrong_topology_is_told_with_its_own_line_although_sizes_are_added(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bdw_fed.client import Profile

    Profile(hub.address, hub.user, data_root=tmp_path).write(tmp_path)
    (tmp_path / "a.csv").write_text("12345")
    topology = (
        "kind: Topology\nmetadata: {name: t}\nspec:\n  zones: [{name: z, tier: edge}]\n"
        "  clusters: [{name: c, zone: z, nodes: [{name: n}]}]\n  datasets: [{name: d, parts: [{at: c, path: a.csv}]}]\n"
    )
    file = tmp_path / "t.yaml"
    file.write_text(topology)
    assert run(["apply", "-f", str(file), "--state", str(tmp_path)]) == 0
    assert "size: 5" in hub.asked[-1].documents[0].yaml
    capsys.readouterr()
    for right, wrong, told in (
        ("tier: edge", "tier: sky", "4: spec.zones[0].tier: "),
        ("zone: z,", "zone: y,", "5: spec.clusters[0].zone: there is no zone y"),
        ("at: c", "at: d", "6: spec.datasets[0].parts[0].at: there is no cluster d"),
    ):
        file.write_text(topology.replace(right, wrong))
        assert run(["apply", "-f", str(file), "--state", str(tmp_path)]) == 2
        assert f"{file}:{told}" in capsys.readouterr().err


def test_who_applies_a_topology_is_warned_of_data_that_is_not_there(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bdw_fed.client import Profile

    Profile(hub.address, hub.user, data_root=tmp_path).write(tmp_path)
    file = tmp_path / "t.yaml"
    file.write_text(
        "kind: Topology\nmetadata: {name: t}\nspec:\n  zones: [{name: z, tier: edge}]\n"
        "  clusters: [{name: c, zone: z, nodes: [{name: n}]}]\n"
        "  datasets:\n  - name: d\n    parts:\n    - at: c\n      path: a.csv\n"
    )
    assert run(["apply", "-f", str(file), "--state", str(tmp_path)]) == 0
    warned = capsys.readouterr().err
    assert f"warning: {file}:10: spec.datasets[0].parts[0].path: there is no {tmp_path}/a.csv" in warned
    (tmp_path / "a.csv").write_text("1")
    assert run(["apply", "-f", str(file), "--state", str(tmp_path)]) == 0
    assert not capsys.readouterr().err


def test_warnings_of_what_is_applied_are_told_beside_it(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    warning = pb.Problem(file="s.yaml", line=5, field="spec.inputs.rows", message="it does not", remedy="leave it out")
    hub.warnings = [warning]
    source = str(Path(__file__).parents[2] / "examples" / "flights" / "workflow.yaml")
    assert run(["apply", "-f", source]) == 0
    out, told = capsys.readouterr()
    assert "warning: s.yaml:5: spec.inputs.rows: it does not\n  leave it out\n" in told
    assert "created" in out


def test_an_output_that_is_lost_is_said_to_be_lost_with_what_to_do(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    output = a_run(model.RUN_STATE_SUCCEEDED, 3).outputs[0]
    output.lost, output.node = "its bytes were damaged where they lay", ""
    hub.located = [pb.OutputsResponse.Located(output=output)]
    assert run(["outputs", RUN]) == 0
    told = capsys.readouterr().out
    assert "cloud    lost" in told
    assert "report.csv is lost: its bytes were damaged where they lay; resubmit the run to have it made again" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["get", "runs", "-o", "xml"], "'xml' is not one of 'table', 'wide', 'json', 'yaml', 'name'"),
        (["user", "grant", "eve", "--role", "boss"], "'--role': 'boss' is not one of 'viewer', "),
        (["audit", "--limit", "some"], "'--limit': expected a whole number"),
        (["wait", RUN, "--timeout", "long"], "'--timeout': expected a number"),
        (["describe", RUN], f"of which kind is {RUN}? Say for example run {RUN}; the kinds are runs, "),
        (["describe", "run"], "which run? Say run NAME or run/NAME"),
        (["describe", "frobs/one"], "there is no kind 'frobs'; expected one of runs, "),
    ],
)
def test_what_is_typed_wrongly_is_told_in_the_words_of_who_types(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert run(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert told in said
    assert "Value error" not in said


def test_an_output_that_a_run_does_not_have_is_not_found(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.located = [pb.OutputsResponse.Located(output=a_run(model.RUN_STATE_SUCCEEDED, 3).outputs[0])]
    assert run(["outputs", RUN, "report"]) == 0
    capsys.readouterr()
    assert run(["outputs", RUN, "reprot"]) == 3
    assert f"run {RUN} has no output reprot (it has: report)" in capsys.readouterr().err


def test_services_work_with_directories_that_are_named_relative_to_where_they_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wire.service.run_service", lambda _serve, config, *_rest: configured.append(config))
    monkeypatch.setattr("wire.logging.configure", lambda *_words, **_options: None)
    monkeypatch.setattr("wire.identity.Credentials.load", lambda place: place)
    words = ["--cluster", "c", "--directory", "state"]
    assert run(["node", *words, "--node", "n1", "--agent", "a:1", "--secrets", "secrets"]) == 0
    assert run(["agent", *words, "--hub", "h:1", "--data-root", "data"]) == 0
    files = ["--credentials", "files", "--etcd-credentials", "files"]
    assert run(["server", "--directory", "state", *files, "--etcd", "e:1"]) == 0
    node, agent, _ = configured
    assert [each.state for each in configured] == [tmp_path / "state"] * 3
    assert (node.secrets, agent.data_root) == (tmp_path / "secrets", tmp_path / "data")


def test_a_failure_that_is_of_no_task_names_neither_node_nor_attempt(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = a_run(model.RUN_STATE_FAILED, 3)
    failure = model.Failure(step="inputs.rows", cluster="edge-jfk", kind="data", message="there is no rows.csv")
    failed.fragments["edge-jfk"].failures.append(failure)
    hub.states = [failed]
    assert run(["watch", RUN]) == 1
    assert "Failed: inputs.rows on edge-jfk (data): there is no rows.csv\n" in capsys.readouterr().out
