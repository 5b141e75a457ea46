"""Each kind with its place in the API and what decodes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec

from cluster_agent.runtimes.kubernetes.api.objects.event import Event
from cluster_agent.runtimes.kubernetes.api.objects.limits import LimitRange, ResourceQuota
from cluster_agent.runtimes.kubernetes.api.objects.meta import ListMeta, Object, Struct
from cluster_agent.runtimes.kubernetes.api.objects.node import Node
from cluster_agent.runtimes.kubernetes.api.objects.pod import Pod

ObjectT = TypeVar("ObjectT", bound=Object)


class Items(Struct, Generic[ObjectT]):
    """A page of a list. Servers write an empty one as `null`, too."""

    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    items: list[ObjectT] | None = None


@dataclass(frozen=True, slots=True)
class Kind(Generic[ObjectT]):
    """A kind: `plural` names it in addresses, `type` is what it is decoded to."""

    name: str
    plural: str
    type: type[ObjectT]
    api_version: str = "v1"
    namespaced: bool = True
    decoder: msgspec.json.Decoder[ObjectT] = field(init=False, compare=False)
    list_decoder: msgspec.json.Decoder[Items[ObjectT]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.type))
        object.__setattr__(self, "list_decoder", msgspec.json.Decoder(Items[self.type]))  # type: ignore[name-defined]

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """The address of one object, a part of it (`log`), or all in a namespace; no namespace = those of all."""
        root = "api/v1" if self.api_version == "v1" else f"apis/{self.api_version}"
        place = ["namespaces", namespace, self.plural] if self.namespaced and namespace else [self.plural]
        segments = [*place, *([name] if name else []), *([part] if part else [])]
        return f"/{root}/" + "/".join(quote(segment, safe="") for segment in segments)

    def complete(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The manifest with its kind and version in it, as the server wants them."""
        return {"apiVersion": self.api_version, "kind": self.name, **manifest}


PODS: Final = Kind("Pod", "pods", Pod)
NODES: Final = Kind("Node", "nodes", Node, namespaced=False)
EVENTS: Final = Kind("Event", "events", Event)
QUOTAS: Final = Kind("ResourceQuota", "resourcequotas", ResourceQuota)
LIMIT_RANGES: Final = Kind("LimitRange", "limitranges", LimitRange)
