"""A step executed on a sample as a node executes it, without a federation.

    step.yaml ─▶ planner's execution ─▶ node's work ─▶ runtime's worker ─▶ Execution ─▶ units of a store ─▶ files

Every part is that of a node daemon; only who gives the order is missing. What is different all the same: workers are
processes here, so the step's image is not used, and there is one task.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import wire.directories
from bdw_fed.steps.errors import StepError
from bdw_fed.steps.sample import Sample
from bdw_fed.v1 import model_pb2, node_pb2
from cluster_agent.data.base import UnitKey
from cluster_agent.data.store import DiskStore
from cluster_agent.node.directory import Directories
from cluster_agent.node.execution import Execution, Surroundings
from cluster_agent.node.logs import Logs
from cluster_agent.node.messages import Given
from cluster_agent.node.recipe import worker_spec
from cluster_agent.node.works import assignment, file_name, pool_spec, read_work
from cluster_agent.orders.messages import Failure, Order, Result, UnitInfo
from cluster_agent.orders.messages import Work as ToldWork
from cluster_agent.runtimes.errors import StartError
from cluster_agent.runtimes.process.places import open_places
from cluster_agent.runtimes.process.runtime import ProcessRuntime
from cluster_agent.runtimes.secrets import KeptSecrets
from control_plane.planner.execution import execution, of_a_slot
from wire.digests import bytes_digest, task_id, unit_id
from wire.directories import DirectoryError
from workflow.bundle import BundleError, pack, unpack
from workflow.formats import DIRECTORY
from workflow.model import Step, Value

_NAMESPACE = "default"
_RUN = "trial"
_STEP = "step"

Say = Callable[[int, bytes], None]


@dataclass(frozen=True)
class Tried:
    """What came of it: the units that were made by output port, in their order, or why there are none."""

    outputs: Mapping[str, Sequence[Path]]
    seconds: float
    failure: Failure | None = None


async def try_step(
    step: Step, folder: Path, sample: Sample, parameters: Mapping[str, Value], to: Path, python: str, say: Say
) -> Tried:
    """Execute `step`, whose bundle is relative to `folder`, and put its outputs below `to`.

    `say` gets what it writes to its standard streams, as it comes. StepError if it can't be begun.
    """
    with tempfile.TemporaryDirectory(prefix="bdw-fed-step-") as place:
        trial = _Trial(step, Path(place), python, folder / "secrets")
        try:
            return await trial.run(folder, sample, parameters, to, say)
        finally:
            await trial.close()


class _Trial:
    """The parts of a node that one task needs."""

    def __init__(self, step: Step, state: Path, python: str, secrets: Path) -> None:
        self._step = step
        self._state = state
        self._store = DiskStore(state / "store")
        self._logs = Logs(state / "logs")
        self._directories = Directories(state / "tasks")
        self._splitters = ThreadPoolExecutor(max_workers=1)
        self._runtime = ProcessRuntime(python, open_places(state), secrets=KeptSecrets(secrets, state / "secrets"))
        self._logging: asyncio.Task[None] | None = None

    async def run(self, folder: Path, sample: Sample, parameters: Mapping[str, Value], to: Path, say: Say) -> Tried:
        """Begin, and wait for the end."""
        await self._runtime.open()
        spec = self._step.spec
        digest, bundle = await asyncio.to_thread(self._bundle, folder)
        told = execution(spec.run, digest, spec.resources)
        for name, secret in spec.secrets.items():
            told.secrets[name].CopyFrom(model_pb2.SecretKey(namespace=_NAMESPACE, name=secret.name, key=secret.key))
        resources, _ = of_a_slot(spec.run, spec.resources, spec.pool)
        work = read_work(ToldWork(1, self._start(told, resources, sample, parameters).SerializeToString()), {})
        units = {name: await self._units(name, paths) for name, paths in sample.inputs.items()}
        inputs = tuple(units[port.name] for port in work.inputs)
        ids = [(port.name, [unit.id for unit in units[port.name]]) for port in work.inputs]
        task = assignment(work, Order(task_id(_NAMESPACE, _RUN, _STEP, ids), 1, inputs))
        pool = pool_spec(self._step.reference, told, resources)
        self._logging = asyncio.create_task(self._say(say))
        try:
            worker = await self._runtime.start(worker_spec(pool, told, resources.disk, bundle))
        except StartError as error:
            return Tried({}, 0.0, Failure("start", str(error), error.detail))
        around = Surroundings(self._directories, self._store, self._logs, self._splitters)
        try:
            doing = Execution(task, Given(task.key, 0.0, 0.0), around, worker, lambda _: None)
            result = await doing.run()
        finally:
            await worker.stop()
        await self._logs.end_run(_NAMESPACE, _RUN)
        await self._logging
        if result.failure is not None:
            return Tried({}, result.seconds, result.failure)
        return Tried(await asyncio.to_thread(self._fetch, result, to), result.seconds)

    async def close(self) -> None:
        """End what is left."""
        if self._logging is not None:
            self._logging.cancel()
            await asyncio.gather(self._logging, return_exceptions=True)
        await self._runtime.close()
        await self._store.close()
        await self._directories.close()
        self._splitters.shutdown()

    def _bundle(self, folder: Path) -> tuple[bytes, Path | None]:
        """The code as a node has it: packed, and unpacked again. Blocks."""
        if self._step.spec.run.bundle is None:
            return b"", None
        try:
            archive = pack(folder / self._step.spec.run.bundle)
            digest = bytes_digest(archive)
            packed, target = self._state / "bundle.tar.zst", self._state / "bundles" / digest.hex()
            packed.write_bytes(archive)
            unpack(packed, target)
            target.mkdir(parents=True, exist_ok=True)
        except BundleError as error:
            raise StepError(f"spec.run.bundle: {error}") from None
        return digest, target

    def _start(
        self,
        told: model_pb2.Execution,
        resources: model_pb2.Resources,
        sample: Sample,
        parameters: Mapping[str, Value],
    ) -> node_pb2.StartTask:
        spec = self._step.spec
        return node_pb2.StartTask(
            key=node_pb2.TaskKey(namespace=_NAMESPACE, run=_RUN),
            step=_STEP,
            definition=self._step.reference,
            execution=told,
            inputs=[
                node_pb2.TaskInput(
                    port=name,
                    format=port.format or "",
                    form="" if port.form == "path" else port.form,
                    many=not isinstance(sample.inputs[name], Path),
                )
                for name, port in sorted(spec.inputs.items())
            ],
            outputs=[
                model_pb2.OutputPort(
                    name=name,
                    format=port.written or "",
                    optional=port.optional,
                    form="" if port.form == "path" else port.form,
                )
                for name, port in sorted(spec.outputs.items())
            ],
            parameters_json=json.dumps(dict(parameters), sort_keys=True),
            resources=resources,
            timeout=spec.timeout.run,
        )

    async def _units(self, port: str, paths: Path | Sequence[Path]) -> tuple[UnitInfo, ...]:
        """The sample as units of the store: copies, so that nothing can happen to it."""
        units = []
        for index, path in enumerate([paths] if isinstance(paths, Path) else paths):
            copy = self._state / "copy"
            try:
                await asyncio.to_thread(wire.directories.pack if path.is_dir() else shutil.copyfile, path, copy)
            except DirectoryError as error:
                raise StepError(f"{path}: {error}") from None
            unit = unit_id(bytes(16), port, index)
            content = await self._store.commit(copy, UnitKey(_NAMESPACE, _RUN, unit))
            units.append(UnitInfo(unit, content.digest, content.size, name=path.name))
        return tuple(units)

    async def _say(self, say: Say) -> None:
        async for piece in self._logs.read(_NAMESPACE, _RUN, "", b"", follow=True):
            say(piece.stream, piece.data)

    def _fetch(self, result: Result, to: Path) -> dict[str, list[Path]]:
        """The outputs as they were made: one unit as one, several in a directory. Blocks."""
        made: dict[str, list[Path]] = {}
        for name, port in self._step.spec.outputs.items():
            units = [output.unit for output in result.outputs if output.port == name]
            alone = to / file_name(name, port.written or "")
            for former in (alone, to / name):
                shutil.rmtree(former) if former.is_dir() else former.unlink(missing_ok=True)
            made[name] = []
            for unit in units:
                target = alone if len(units) == 1 else to / name / unit.name
                target.parent.mkdir(parents=True, exist_ok=True)
                content = self._store.find(UnitKey(_NAMESPACE, _RUN, unit.id))
                if port.written == DIRECTORY:
                    with io.BytesIO(content.data) if content.data is not None else content.file.open("rb") as archive:
                        wire.directories.unpack(archive, target, writable=True)
                elif content.data is not None:
                    target.write_bytes(content.data)
                else:
                    shutil.copyfile(content.file, target)
                made[name].append(target)
        return made
