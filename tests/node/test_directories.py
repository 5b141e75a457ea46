"""A unit that is a directory: whole, the same wherever it is made, and a copy for each task that reads it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from bdw_fed.v1 import node_pb2
from cluster_agent.orders.messages import Result, UnitInfo
from tests.fixtures import words
from tests.node.cluster import NAMESPACE, Cluster, command, content, given, merger, order, python, source, splitter

LARGE = 40_000  # bytes that are not kept in the journal
MAKES = (
    "mkdir -p {out.model}/empty {out.model}/bin; echo $0 > {out.model}/name;"
    "head -c %d /dev/zero > {out.model}/weights;"
    "echo '#!/bin/sh\ncat \"$1\"' > {out.model}/bin/show; chmod +x {out.model}/bin/show"
)


async def result_of(edge: Cluster, task: words.Task) -> Result:
    edge.agent.start(task)
    return await edge.agent.result(task.key)


async def made(edge: Cluster, name: str = "one", number: int = 0, size: int = LARGE) -> UnitInfo:
    """The directory that a step makes."""
    task = order("make", command("sh", "-c", MAKES % size, name), outputs=["model:directory"], number=number)
    result = await result_of(edge, task)
    assert result.failure is None, result.failure
    [output] = result.outputs
    assert (output.port, output.index, output.unit.name) == ("model", 0, "model")
    return output.unit


def a_directory(port: str, *units: UnitInfo, many: bool = False) -> words.Given:
    return given(port, *units, many=many, kind="directory")


@pytest.mark.parametrize("size", [0, LARGE])
async def test_a_directory_is_one_unit_and_the_next_step_gets_it_whole(edge: Cluster, size: int) -> None:
    node = await edge.start()
    unit = await made(edge, size=size)
    script = "{in.model}/bin/show {in.model}/name; ls {in.model}; stat -c %s {in.model}/weights"
    read = order("read", command("sh", "-c", f"({script}) > {{out.told}}"), inputs=[a_directory("model", unit)])
    read.start.outputs.add(name="told")
    result = await result_of(edge, read)
    assert result.failure is None, result.failure
    told = content(node, result.outputs[0].unit).decode().split()
    assert told == ["one", "bin", "empty", "name", "weights", str(size)]
    assert not list((node.state / "store" / "partial").iterdir())


async def test_the_same_directory_made_again_has_the_same_digest(edge: Cluster) -> None:
    await edge.start()
    first, second, other = await made(edge), await made(edge, number=1), await made(edge, "other", number=2)
    assert first.digest == second.digest != other.digest
    assert first.id != second.id


async def test_many_directories_come_in_their_order_and_a_function_is_given_their_paths(
    edge: Cluster, tmp_path: Path
) -> None:
    node = await edge.start()
    units = [await made(edge, name, number) for number, name in enumerate(("one", "two"))]
    code = tmp_path / "code"
    code.mkdir()
    (code / "code.py").write_text(
        "def join(models, out):\n"
        "    out['all'].mkdir()\n"
        "    for model in models:\n"
        "        (model / 'name').rename(out['all'] / model.name)\n"
    )
    task = order(
        "join",
        python("code:join", edge.agent.add_bundle(code)),
        inputs=[a_directory("models", *units, many=True)],
        outputs=["all:directory"],
    )
    result = await result_of(edge, task)
    assert result.failure is None, result.failure
    with tarfile.open(fileobj=io.BytesIO(content(node, result.outputs[0].unit))) as tar:
        assert [(member.name, tar.extractfile(member).read()) for member in tar] == [  # type: ignore[union-attr]
            ("00000", b"one\n"),
            ("00001", b"two\n"),
        ]
    again = order(
        "again", command("cat", "{in.model}/name"), inputs=[a_directory("model", units[0])], outputs=["nothing?"]
    )
    assert (await result_of(edge, again)).failure is None, "what a task does with its copy is nobody else's matter"


async def test_its_files_are_the_members_that_a_split_makes_units_of(edge: Cluster) -> None:
    await edge.start()
    unit = await made(edge)
    task = order("s", splitter(members=True, format="tar"), inputs=[given("in", unit, kind="tar")], outputs=["out"])
    result = await result_of(edge, task)
    assert [output.unit.name for output in result.outputs] == ["show", "name", "weights"]
    assert sum(output.unit.size for output in result.outputs) == LARGE + 4 + 19


async def test_parts_and_merged_directories_are_directories_again(edge: Cluster) -> None:
    node = await edge.start()
    unit = await made(edge)
    cut = order("c", splitter(records=2), inputs=[a_directory("in", unit)], outputs=["out:directory"])
    parts = [output.unit for output in (await result_of(edge, cut)).outputs]
    assert len(parts) == 3
    together = order("m", merger("tar"), inputs=[a_directory("in", *parts, many=True)], outputs=["out:directory"])
    [whole] = (await result_of(edge, together)).outputs
    read = order(
        "read",
        command("sh", "-c", "(cd {in.model}; find . | sort) > {out.told}"),
        inputs=[a_directory("model", whole.unit)],
        outputs=["told"],
    )
    result = await result_of(edge, read)
    assert result.failure is None, result.failure
    found = content(node, result.outputs[0].unit).decode().split()
    assert found == [".", "./bin", "./bin/show", "./empty", "./name", "./weights"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("true", "ended without its output model"),
        ("touch {out.model}", "out/model is no directory, which the output model is to be"),
        (
            "mkdir {out.model}; ln -s /etc {out.model}/x",
            "output model can't be kept as a directory: x is a link",
        ),
        ("ln -s /etc {out.model}", "out/model is no directory"),
        ("mkdir {out.model}; mkfifo {out.model}/x", "x is neither a file nor a directory"),
    ],
)
async def test_what_cannot_be_such_a_unit_is_told(edge: Cluster, script: str, says: str) -> None:
    node = await edge.start()
    task = order("cmd", command("sh", "-c", script), outputs=["model:directory"])
    result = await result_of(edge, task)
    assert result.failure is not None
    assert (result.failure.kind, result.outputs) == ("output", ())
    assert says in result.failure.message
    assert not list((node.state / "store" / "partial").iterdir())


async def test_a_unit_that_is_no_directory_ends_its_task_by_its_content(edge: Cluster) -> None:
    await edge.start()
    unit = await source(edge, "rows.csv", b"a,b\n" * LARGE)
    task = order("cmd", command("ls", "{in.model}"), inputs=[a_directory("model", words.info(unit))])
    failure = (await result_of(edge, task)).failure
    assert failure is not None
    assert failure.kind == "content"
    assert failure.message.startswith("rows.csv on input model: it is no directory's archive")


async def opened(edge: Cluster, path: str) -> node_pb2.SourceOpened:
    step = "inputs.models"
    edge.agent.say(
        open=node_pb2.OpenSource(namespace=NAMESPACE, run="run1", step=step, index=1, path=path, directory=True)
    )
    return await edge.agent.hear("source", lambda told: told.step == step)  # type: ignore[no-any-return]


def lay_out(edge: Cluster) -> Path:
    part = edge.data_root / "models" / "one"
    (part / ".cache" / "empty").mkdir(parents=True)
    (part / "weights").write_bytes(bytes(LARGE))
    (part / "run").write_text("#!/bin/sh\necho ran\n")
    (part / "run").chmod(0o700)
    return part


async def test_a_part_of_a_dataset_is_one_unit_whatever_is_in_it(edge: Cluster) -> None:
    node = await edge.start()
    part = lay_out(edge)
    [made] = (await opened(edge, "models/one")).units
    assert (made.port, made.index, made.unit.name) == ("out", 0, "one")
    script = "({in.model}/run; cd {in.model}; find . | sort) > {out.told}"
    task = order(
        "read", command("sh", "-c", script), inputs=[a_directory("model", words.info(made.unit))], outputs=["told"]
    )
    result = await result_of(edge, task)
    assert result.failure is None, result.failure
    told = content(node, result.outputs[0].unit).decode().split()
    assert told == ["ran", ".", "./.cache", "./.cache/empty", "./run", "./weights"]
    assert not list((node.state / "store" / "partial").iterdir())
    os.utime(part / "weights", ns=(1, 1))
    assert (await opened(edge, "models/one")).units[0].unit == made.unit, "the same names and contents, the same unit"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("models/one/run", "models/one/run is no directory; spec.inputs.models.format is directory"),
        ("models/linked", "it can't be kept as a directory: away is a link"),
        (".", ". is the data root itself"),
        ("models/none", "models/none: there is no"),
        ("../..", "which is not below the data root"),
    ],
)
async def test_a_part_that_can_be_no_such_unit_is_told(edge: Cluster, path: str, says: str) -> None:
    node = await edge.start()
    lay_out(edge)
    (edge.data_root / "models" / "linked").mkdir()
    (edge.data_root / "models" / "linked" / "away").symlink_to("/etc/passwd")
    told = await opened(edge, path)
    assert says in told.error
    assert not told.units
    assert not list((node.state / "store" / "partial").iterdir())


async def test_one_that_the_disk_has_damaged_is_to_be_made_again(edge: Cluster) -> None:
    node = await edge.start()
    unit = await made(edge)
    kept = node.state / "store" / "units" / "default" / "run1" / unit.id.hex()
    stamp = kept.stat()
    kept.chmod(0o600)
    with kept.open("r+b") as file:
        file.seek(148)
        file.write(b"7")  # of the first header's checksum
    os.utime(kept, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    task = order("cmd", command("ls", "{in.model}"), inputs=[a_directory("model", unit)])
    failure = (await result_of(edge, task)).failure
    assert failure is not None
    assert failure.kind == "data"
