"""Blobs go when nobody refers to them, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from bdw_fed.v1 import control_plane_pb2 as cp
from bdw_fed.v1 import model_pb2 as m
from control_plane.blobs.collecting import collect_once
from control_plane.blobs.directory import DirectoryBlobs
from control_plane.kinds import Kinds
from wire.digests import bytes_digest


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_blob_stays_as_long_as_a_step_a_run_or_an_assignment_names_it(
    kinds: Kinds, namespace: str, tmp_path: Path
) -> None:
    blobs = DirectoryBlobs(tmp_path)
    names = ("step", "former revision", "plan", "assigned", "nobody")
    digests = {name: bytes_digest(name.encode()) for name in names}
    for name in names:
        await blobs.put(digests[name], once(name.encode()))
    steps, revisions = kinds.objects["Step"], kinds.revisions["Step"]
    fragment = m.Fragment(steps=[m.Step(execution=m.Execution(bundle=digests["assigned"]))])
    await kinds.commit(
        [
            steps.creating(steps.key(namespace, "clean", "1"), cp.Object(bundle=digests["step"])),
            revisions.creating(
                revisions.key(namespace, "clean", "1", "00000001"), cp.Object(bundle=digests["former revision"])
            ),
            kinds.runs.creating(kinds.runs.key(namespace, "run"), m.Run(plan=digests["plan"])),
            kinds.fragments.creating(kinds.fragments.key("edge", namespace, "run"), m.Assignment(fragment=fragment)),
        ]
    )
    assert await collect_once(kinds, blobs, 3600.0) == 0, "what is young may be about to be named"
    assert await collect_once(kinds, blobs, -1.0) == 1
    assert {digest async for digest in blobs.digests()} == {digests[name] for name in names[:-1]}
