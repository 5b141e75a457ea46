"""A quota: what the runs of a namespace may have together. It is an operator's, since clusters are shared by all."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from topology.errors import WrongValue
from topology.schema import Metadata, Model, Size

MOST_RUNS: Final = 2000  # their names lie in one value of the store


class QuotaSpec(Model):
    """What a quota says; see `docs/reference/quota.md`."""

    storage: Size | None = Field(default=None, ge=1)  # bytes that may lie stored on each cluster at once
    runs: int | None = Field(default=None, ge=0, le=MOST_RUNS)  # that may be open at once

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.storage is None and self.runs is None:
            raise WrongValue("a quota without storage and runs bounds nothing", "write storage: 100GiB or runs: 20")
        return self


class Quota(Model):
    """A quota as applied. Of several in a namespace each holds."""

    kind: Literal["Quota"] = "Quota"
    metadata: Metadata
    spec: QuotaSpec
