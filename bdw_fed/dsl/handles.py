"""What stands for data while a workflow's function is called: it has no content yet.

A `Data` is a port of a step, or an input of the workflow, together with how the next step reads it; its methods give
another one with one more word about that. Handed to a parameter of a step, it is the value that will be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from bdw_fed.dsl.conditions import MadeValue
from bdw_fed.dsl.errors import BuildError


@dataclass(frozen=True)
class Data:
    """The units of a port: hand it to a step, or return it from the workflow's function as an output.

    `reference` is STEP.PORT or inputs.NAME; `words` are the fields of the binding, as the workflow's YAML has them.
    """

    reference: str
    words: Mapping[str, Any] = field(default_factory=dict)
    saved_as: str = ""

    def split(self, **measure: Any) -> Data:
        """Cut each unit: `records=100`, `size="4MiB"`, `per="slot"`, `header=True`; see docs/reference/workflow.md."""
        return self.read(split=measure)

    def gather(self, how: str = "all") -> Data:
        """One task is to get everything, once all is there; or one on each cluster: `each-cluster`; or `tree`."""
        return self.read(gather=how)

    def batch(self, **bounds: Any) -> Data:
        """Each task is to get several units: `count=100`, `size="64MiB"`, `wait="5s"`."""
        return self.read(batch=bounds)

    def group(self, by: str = "key") -> Data:
        """Each task is to get all units whose names have the same key: `key`, or a pattern like `{key}-*.csv`."""
        return self.read(group={"by": by})

    def zip(self) -> Data:
        """Each task is to get one unit of this data and of the others that are zipped, of the same lineage."""
        return self.read(zip=True)

    def cross(self) -> Data:
        """There is to be a task for each pair of a unit of this data and one of that which drives the step."""
        return self.read(cross=True)

    def broadcast(self) -> Data:
        """Each task is to get all units of this data, whichever cluster they were made on."""
        return self.read(broadcast=True)

    def merge(self, form: str, gather: str = "all") -> Data:
        """Everything as one file: `csv`, `jsonl`, `parquet`, `tar` or `concat`; of a step, or of the workflow.

        `gather` is as of `gather`, for a step: one file of each cluster, or of these one.
        """
        return self.read(gather=gather, merge=form)

    def same_cluster(self) -> Data:
        """Each task is to get all units of this data that stem from the cluster of its own unit."""
        return self.read(same="cluster")

    def read(self, **words: Any) -> Data:
        """With further fields of the binding, under the names that they have in YAML."""
        return replace(self, words={**self.words, **words})

    @property
    def value(self) -> MadeValue:
        """The one value that the step makes, to be compared: `with when(data.value > 3):`."""
        if self.reference.startswith("inputs."):
            raise BuildError(f"{self.reference} is data, and a condition compares values: let a step make one of it")
        return MadeValue(f"{{{self.reference}}}")

    def file(self, name: str) -> Data:
        """As an output of the workflow: the name to save it under."""
        return replace(self, saved_as=name)

    def __iter__(self) -> NoReturn:
        raise BuildError(
            f"{self.reference} can't be gone through while the workflow is built: its units exist only in a run; "
            "hand it to a step, which has one task for each of them"
        )

    def __bool__(self) -> NoReturn:
        raise BuildError(f"whether {self.reference} has units is known only in a run: a workflow can't decide on it")


class Outputs:
    """The ports of a use of a step that has several: `cleaned.rows`, `cleaned["rows"]`."""

    def __init__(self, name: str, ports: Mapping[str, Data]) -> None:
        self._name = name
        self._ports = ports

    def __getitem__(self, port: str) -> Data:
        if port not in self._ports:
            raise BuildError(f"{self._name} has no output {port}; it has {', '.join(self._ports)}")
        return self._ports[port]

    def __getattr__(self, port: str) -> Data:
        if port.startswith("_"):
            raise AttributeError(port)
        return self[port]


class Dataset(Data):
    """The annotation of a workflow function's argument that stands for a dataset of the topology."""
