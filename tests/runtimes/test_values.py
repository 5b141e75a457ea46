"""A function that takes and returns values: what it gets, what becomes of what it returns, and that nothing else of a
task is different for it. Both ways of executing a task, as a small job and in a directory, keep the same promises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio

from cluster_agent.runtimes.base import Job, Row, SmallWork, Values, Worker, WorkerSpec
from cluster_agent.runtimes.process.keep import Keeps
from cluster_agent.runtimes.process.places import Places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from tests.runtimes.test_process import until_gone
from tests.runtimes.test_small import Heard, Task

Way = Literal["small", "directory"]
CODE = """
import asyncio, os, subprocess, sys
from pathlib import Path

def add_one(unit: int) -> int:
    return unit + 1

async def add_later(unit):
    await asyncio.sleep(0)
    return unit + 1

def show(unit):
    return repr(unit)

def give(unit):
    return eval(unit)

def add(unit, by):
    unit.append(by.pop())
    return unit

def halve(unit):
    return {"low": unit[: len(unit) // 2], "high": unit[len(unit) // 2 :]}

def both(unit, table, out):
    out["copy"].write_text(table.read_text() + str(sorted(out)))
    return unit * 2

def take(unit):
    print("took", unit)

def wide(unit):
    return "x" * unit

def litter(unit):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    left = sorted(os.listdir(".")) + sorted(os.listdir("tmp"))
    inside = Path.cwd() == Path(os.getcwd()) and os.access(".", os.W_OK)
    for place in (Path("."), Path("tmp")):
        (place / "left").mkdir()
        (place / "left" / "file").write_text("x")
    seen = os.environ.get("LEFT"), os.environ["BDW_FED_TASK"], os.environ["BDW_FED_ATTEMPT"], os.environ["TMPDIR"]
    os.environ["LEFT"] = "x"
    os.environ["BDW_FED_ATTEMPT"] = "9"
    os.chdir("/")
    print("words of", unit)
    return [child.pid, left, inside, *seen]
"""


@dataclass(frozen=True)
class Ended:
    """How a task has ended: the bytes of its outputs that were written, or kind and message of its failure."""

    outputs: Mapping[str, bytes] = field(default_factory=dict)
    failure: tuple[str, str] | None = None
    words: bytes = b""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[ProcessRuntime]:
    made = ProcessRuntime(places=Places(place / "memory", place / "disk"))
    await made.open()
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessRuntime]:
    """One for all tests that only start a worker of their own in it."""
    async with opened(tmp_path_factory.mktemp("places")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def own_runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    """One for a test that looks into its places, which are the test's directory."""
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture(params=["small", "directory"])
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


class Steps:
    """Executes tasks of a function in one worker."""

    def __init__(self, worker: Worker, way: Way, place: Path) -> None:
        self.worker = worker
        self._way = way
        self._place = place
        self._count = 0

    async def call(
        self, values: Values, inputs: Mapping[str, bytes], outputs: Sequence[str] = ("unit",), **parameters: Any
    ) -> Ended:
        """One task."""
        self._count += 1
        if self._way == "directory":
            return await self._run(values, inputs, outputs, parameters)
        names_in, names_out = tuple((name, name) for name in inputs), tuple((name, name) for name in outputs)
        work = SmallWork({}, names_in, names_out, parameters, values)
        task = Task(work, b"", self._count)
        task.inputs = list(inputs.values())
        heard = Heard()
        self.worker.give([task], heard)
        await heard.until(1)
        [end] = heard.ends
        if end.failure is not None:
            return Ended({}, (end.failure.kind, end.failure.message), task.words[1])
        assert not end.again
        left = end.left / "out" if end.left is not None else None
        made = {name: data for name, data in zip(outputs, end.outputs, strict=True) if data is not None}
        if left is not None:
            made |= {path.name: path.read_bytes() for path in left.iterdir()}
            self.worker.go_on()
        return Ended(made, None, task.words[1])

    async def _run(
        self, values: Values, inputs: Mapping[str, bytes], outputs: Sequence[str], parameters: Mapping[str, Any]
    ) -> Ended:
        root = self._place / str(self._count)
        for name in ("in", "out", "tmp"):
            (root / name).mkdir(parents=True)
        for name, data in inputs.items():
            (root / "in" / name).write_bytes(data)
        env = {"BDW_FED_TASK": f"{self._count:032x}", "BDW_FED_ATTEMPT": "1", "TMPDIR": str(root / "tmp")}
        words = Task(SmallWork({}, (), (), {}), b"")
        job = Job(
            root,
            {name: root / "in" / name for name in inputs},
            {name: root / "out" / name for name in outputs},
            parameters,
            env,
            values=values,
        )
        outcome = await self.worker.execute(job, words)
        if outcome.kind:
            return Ended({}, (outcome.kind, outcome.message), words.words[1])
        return Ended({path.name: path.read_bytes() for path in (root / "out").iterdir()}, None, words.words[1])


async def start(runtime: ProcessRuntime, place: Path, way: Way, function: str) -> Steps:
    (place / "steps.py").write_text(CODE)
    worker = await runtime.start(WorkerSpec("s@1", function=f"steps:{function}", bundle=place))
    return Steps(worker, way, place / "tasks")


def one(form: str, returned: str = "", *, optional: bool = False) -> Values:
    """Both ports are called unit."""
    return Values({"unit": form}, {"unit": (returned or form, optional)})


@pytest.mark.parametrize("function", ["add_one", "add_later"])
async def test_a_value_goes_in_and_another_comes_out(
    runtime: ProcessRuntime, tmp_path: Path, way: Way, function: str
) -> None:
    steps = await start(runtime, tmp_path, way, function)
    for number in range(3):
        ended = await steps.call(one("json"), {"unit": b" %d\n" % number})
        assert ended == Ended({"unit": b"%d" % (number + 1)})


@pytest.mark.parametrize(
    ("form", "data", "seen"),
    [
        ("bytes", b"\xff\0", r"b'\xff\x00'"),
        ("text", "grün\r\n".encode(), r"'grün\r\n'"),
        ("json", '{"a": [1, 2.5, "ü", null, true]}'.encode(), "{'a': [1, 2.5, 'ü', None, True]}"),
        ("json", b"null", "None"),
        ("json", b"\n 1\r\n", "1"),
        ("json", b"\xef\xbb\xbf[1]", "[1]"),
    ],
)
async def test_a_function_is_given_what_the_unit_holds(
    runtime: ProcessRuntime, tmp_path: Path, way: Way, form: str, data: bytes, seen: str
) -> None:
    steps = await start(runtime, tmp_path, way, "show")
    ended = await steps.call(one(form, "text"), {"unit": data})
    assert ended.outputs["unit"].decode() == seen


@pytest.mark.parametrize(
    ("form", "returned", "written"),
    [
        ("bytes", "b'a\\0'", b"a\0"),
        ("bytes", "bytearray(b'a')", b"a"),
        ("text", "'grün'", "grün".encode()),
        ("text", "''", b""),
        ("json", "{'b': [1, 2.5, 'ü', None, (True,)], 'a': ''}", '{"b":[1,2.5,"ü",null,[true]],"a":""}'.encode()),
        ("json", "0", b"0"),
    ],
)
async def test_what_a_function_returns_is_the_unit(
    runtime: ProcessRuntime, tmp_path: Path, way: Way, form: str, returned: str, written: bytes
) -> None:
    steps = await start(runtime, tmp_path, way, "give")
    assert await steps.call(one("text", form), {"unit": returned.encode()}) == Ended({"unit": written})


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("json", b"{", "input unit can't be read as JSON: Expecting property name enclosed in double quotes"),
        ("json", b"1 2", "input unit can't be read as JSON: Extra data: line 1 column 3 (char 2)"),
        ("json", b"", "input unit can't be read as JSON: Expecting value: line 1 column 1 (char 0)"),
        ("text", b"\xff", "input unit can't be read as text in UTF-8: 'utf-8' codec can't decode byte 0xff"),
        ("json", b"[" * 100_000, "input unit can't be read as JSON: maximum recursion depth exceeded"),
    ],
)
async def test_a_unit_that_is_something_else_fails_the_task_by_the_ports_name(
    runtime: ProcessRuntime, tmp_path: Path, way: Way, form: str, data: bytes, message: str
) -> None:
    steps = await start(runtime, tmp_path, way, "show")
    ended = await steps.call(one(form, "text"), {"unit": data})
    assert ended.failure is not None
    assert ended.failure[0] == "exception"
    assert ended.failure[1].startswith(message)
    assert "\n" not in ended.failure[1]
    assert (await steps.call(one("text"), {"unit": b"x"})).outputs, "the worker goes on"


@pytest.mark.parametrize(
    ("form", "returned", "message"),
    [
        (
            "json",
            "{1, 2}",
            "output unit can't be written as JSON: TypeError: Object of type set is not JSON serializable",
        ),
        ("json", "float('nan')", "output unit can't be written as JSON: ValueError: Out of range float values"),
        ("json", "'\\ud800'", "output unit can't be written as JSON: UnicodeEncodeError: "),
        ("text", "'\\ud800'", "output unit can't be written as text in UTF-8: UnicodeEncodeError: "),
        ("text", "b'a'", "output unit was returned as bytes, but expected is str, as its port says as: text"),
        ("bytes", "'a'", "output unit was returned as str, but expected is bytes, as its port says as: bytes"),
        ("json", "None", "the function returned nothing for its output unit"),
    ],
)
async def test_what_cannot_be_written_fails_the_task_by_the_ports_name(
    runtime: ProcessRuntime, tmp_path: Path, way: Way, form: str, returned: str, message: str
) -> None:
    steps = await start(runtime, tmp_path, way, "give")
    ended = await steps.call(one("text", form), {"unit": returned.encode()})
    assert ended.failure is not None
    assert ended.failure[0] == "output"
    assert ended.failure[1].startswith(message)


async def test_nothing_is_written_of_an_optional_output_that_is_not_returned(
    runtime: ProcessRuntime, tmp_path: Path, way: Way
) -> None:
    steps = await start(runtime, tmp_path, way, "give")
    assert await steps.call(one("text", "json", optional=True), {"unit": b"None"}) == Ended({})
    assert await steps.call(one("text", "json", optional=True), {"unit": b"0"}) == Ended({"unit": b"0"})


async def test_several_outputs_are_returned_by_their_names(runtime: ProcessRuntime, tmp_path: Path, way: Way) -> None:
    steps = await start(runtime, tmp_path, way, "give")
    values = Values({"unit": "text"}, {"low": ("text", False), "high": ("json", True)})
    named = ("low", "high")
    both = await steps.call(values, {"unit": b"{'low': 'a', 'high': [1]}"}, named)
    assert both == Ended({"low": b"a", "high": b"[1]"})
    assert await steps.call(values, {"unit": b"{'low': 'a'}"}, named) == Ended({"low": b"a"})
    failures = [
        (await steps.call(values, {"unit": returned}, named)).failure
        for returned in (b"{'high': 1}", b"None", b"('a', 'b')", b"{'low': 'a', 'hihg': 1}")
    ]
    dictionary = "but expected is a dictionary by its outputs: low, high"
    assert failures == [
        ("output", "the function returned nothing for its output low"),
        ("output", "the function returned nothing for its output low"),
        ("output", f"the function returned tuple, {dictionary}"),
        ("output", f"the function returned a dictionary with ['low', 'hihg'], {dictionary}"),
    ]


async def test_files_and_values_go_together_and_out_has_the_files_alone(
    runtime: ProcessRuntime, tmp_path: Path, way: Way
) -> None:
    steps = await start(runtime, tmp_path, way, "both")
    for number in (1, 2):
        ended = await steps.call(one("json"), {"table": b"t", "unit": b"%d" % number}, ("copy", "unit"))
        assert ended == Ended({"copy": b"t['copy']", "unit": b"%d" % (2 * number)})


async def test_a_step_with_values_in_and_no_output_is_called_without_out(
    runtime: ProcessRuntime, tmp_path: Path, way: Way
) -> None:
    steps = await start(runtime, tmp_path, way, "take")
    ended = await steps.call(Values({"unit": "text"}), {"unit": b"it"}, ())
    assert ended == Ended({}, None, b"took it\n")


async def test_values_of_many_units_are_a_list(runtime: ProcessRuntime, tmp_path: Path) -> None:
    steps = await start(runtime, tmp_path, "directory", "show")
    for name, data in {"0.json": b"1", "1.json": b"[2]", "bad.json": b"?"}.items():
        (tmp_path / name).write_bytes(data)
    for paths, expected in ((["0.json", "1.json"], "[1, [2]]"), ([], "[]")):
        job = Job(
            tmp_path,
            {"unit": [tmp_path / path for path in paths]},
            {"unit": tmp_path / "shown"},
            values=one("json", "text"),
        )
        outcome = await steps.worker.execute(job, Task(SmallWork({}, (), (), {}), b""))
        assert outcome.kind == ""
        assert (tmp_path / "shown").read_text() == expected
    job = Job(tmp_path, {"unit": [tmp_path / "bad.json"]}, {}, values=Values({"unit": "json"}))
    outcome = await steps.worker.execute(job, Task(SmallWork({}, (), (), {}), b""))
    assert outcome.kind == "exception"
    assert outcome.message.startswith("input unit can't be read as JSON: ")


async def test_no_task_sees_what_another_did_to_its_values(runtime: ProcessRuntime, tmp_path: Path, way: Way) -> None:
    steps = await start(runtime, tmp_path, way, "add")
    for _ in range(2):
        assert await steps.call(one("json"), {"unit": b"[1]"}, by=[2]) == Ended({"unit": b"[1,2]"})


async def test_a_large_value_is_a_file_and_those_behind_it_go_on(
    runtime: ProcessRuntime, tmp_path: Path, way: Way
) -> None:
    steps = await start(runtime, tmp_path, way, "wide")
    for size in (1, 1_000_000, 2, 20_000, 3):
        assert await steps.call(one("json", "text"), {"unit": b"%d" % size}) == Ended({"unit": b"x" * size})


async def test_what_a_task_leaves_is_gone_before_the_next(own_runtime: ProcessRuntime, tmp_path: Path) -> None:
    """Files where it runs, processes, environment; what it says is its own."""
    steps = await start(own_runtime, tmp_path, "small", "litter")
    work = SmallWork({"TMPDIR": "x"}, (("unit", "unit"),), (("unit", "unit"),), {}, one("json"))
    jobs = [Task(work, b"%d" % number, number) for number in range(4)]
    heard = Heard()
    steps.worker.give(jobs, heard)
    await heard.until(4)
    for number, end in enumerate(heard.ends):
        assert end.failure is None
        pid, left, inside, variable, task, attempt, temporary = json.loads(end.outputs[0] or b"")
        await until_gone(pid)
        assert (left, inside, variable) == (["tmp"], True, None)
        assert (task, attempt) == (f"{number:032x}", "1")
        assert Path(temporary).resolve() == (tmp_path / "disk" / "1").resolve()
        assert jobs[number].words[1] == b"words of %d\n" % number
    await steps.worker.stop()


async def test_a_task_of_values_alone_makes_no_file_and_renames_nothing(
    own_runtime: ProcessRuntime, tmp_path: Path
) -> None:
    steps = await start(own_runtime, tmp_path, "small", "add_one")
    await steps.call(one("json"), {"unit": b"1"})
    home = tmp_path / "memory" / "1"
    before = (sorted(home.iterdir()), home.stat().st_mtime_ns)
    for number in range(10):
        await steps.call(one("json"), {"unit": b"%d" % number})
    assert (sorted(home.iterdir()), home.stat().st_mtime_ns) == before


async def test_in_a_row_each_takes_what_the_one_before_returned(tmp_path: Path) -> None:
    places, keeps = Places(tmp_path / "memory", tmp_path / "disk"), Keeps(tmp_path / "rows")
    runtime = ProcessRuntime(places=places, keeps=keeps)
    await runtime.open()
    steps = await start(runtime, tmp_path, "small", "add_one")
    work = SmallWork({}, (("unit", "unit"),), (("unit", "unit"),), {}, one("json"))
    row = [Task(work, b"1", number) for number in range(30)]
    for linked in row[1:]:
        linked.inputs, linked.link = [], 0
    heard = Heard()
    steps.worker.give(row, heard, Row(b"said", durable=False))
    await heard.until(30)
    assert [end.outputs for end in heard.ends] == [[b"%d" % number] for number in range(2, 32)]
    await runtime.close()
