"""Strategies for objects of all kinds, as an author could have written them: plain values for the models."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Plain = dict[str, Any]

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
# Text that YAML can hold; what it can't is the loader's business.
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
sizes = st.integers(0, 2**50) | st.sampled_from(["4Gi", "512 MiB", "100MB", "1.5Ki"])
durations = st.integers(0, 10**6) | st.sampled_from(["20ms", "1h30m", "2d", 0.25])
labels = st.dictionaries(names, texts, max_size=2)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = scalars | st.lists(scalars, max_size=3)


def some(required: Plain, optional: Plain | None = None) -> st.SearchStrategy[Plain]:
    """A mapping that may leave out what is optional."""
    return st.fixed_dictionaries(required, optional=optional or {})


disconnects = some(
    {},
    {
        "lost_after": durations,
        "stop_after": durations,
        "replace": st.booleans(),
        "keep": st.just("replacement"),
    },
)
policies = some(
    {}, {"reserve": st.sampled_from(["none", "hold", "lend"]), "disconnect": disconnects}
).filter(  # slots are reserved once, so such a run replaces no cluster
    lambda policy: policy.get("reserve", "none") == "none" or not policy.get("disconnect", {}).get("replace")
)
places = some(
    {},
    {
        "tier": st.sampled_from(["edge", "fog", "cloud"]),
        "clusters": st.lists(names, max_size=2),
        "labels": labels,
        "tolerate": st.lists(some({"key": names}, {"seconds": durations}), max_size=2),
    },
)
metadata = some({"name": names}, {"namespace": names, "labels": labels, "description": texts})
parameters = st.dictionaries(
    identifiers,
    some({"type": st.sampled_from(["string", "integer", "array"])}, {"default": values, "description": texts}),
    max_size=3,
)
resources = some({}, {"cpus": st.sampled_from([1, 0.5, "250m"]), "memory": sizes, "disk": sizes})
pools = some({}, {"min": st.integers(0, 5), "max": st.integers(0, 50), "idle": durations})
retries = some({}, {"attempts": st.integers(1, 9), "backoff": durations, "factor": st.floats(1, 10), "max": durations})
forms = st.sampled_from(["path", "bytes", "text", "json"])
ports = st.dictionaries(
    identifiers, some({}, {"format": st.just("csv"), "optional": st.booleans(), "as": forms}), max_size=3
)
splits = (
    some({"size": st.integers(1, 2**40)}, {"header": st.booleans(), "format": st.sampled_from(["csv", "text"])})
    | some({"lines": st.integers(1, 100)})
    | some({"records": st.integers(1, 100)}, {"format": st.sampled_from(["jsonl", "parquet", "tar"])})
    | some({"per": st.sampled_from(["slot", "member"])})
)
references = st.builds("{}.{}".format, names, identifiers)
bindings = references | some(
    {"from": references},
    {"split": splits, "gather": st.just("all"), "merge": st.just("csv"), "same": st.just("cluster")},
)

runtimes = st.sampled_from(["process", "kubernetes"]) | some(
    {"kubernetes": some({}, {"context": names, "namespace": names})}
)
clusters = some(
    {"name": names, "zone": names},
    {
        "runtime": runtimes,
        "nodes": st.lists(some({"name": names}, {"cpus": st.just(2), "memory": sizes, "labels": labels}), max_size=2),
        "taints": st.lists(some({"key": names}, {"value": texts, "effect": st.just("NoExecute")}), max_size=2),
        "disconnect": disconnects,
    },
)
links = some(
    {
        "between": st.lists(names, min_size=2, max_size=2, unique=True),
        "bandwidth": st.sampled_from(["100Mbit", "3.5MB/s", "7bit", "1Gbps"]),
    },
    {"latency": durations, "cost_per_gb": st.floats(0, 10), "distance": st.integers(1, 9), "trusted": st.booleans()},
)
parts = st.lists(some({"at": names, "path": st.just("data/f.csv")}, {"size": sizes}), min_size=1, max_size=2)
datasets = some({"name": names, "parts": parts}) | some({"name": names, "replicas": parts})

topologies = some(
    {
        "kind": st.just("Topology"),
        "metadata": metadata,
        "spec": some(
            {
                "zones": st.lists(some({"name": names, "tier": st.just("edge")}, {"labels": labels}), max_size=2),
                "clusters": st.lists(clusters, max_size=2),
            },
            {"links": st.lists(links, max_size=2), "datasets": st.lists(datasets, max_size=2)},
        ),
    }
)
environments = st.fixed_dictionaries({"A": st.just("1")})  # each its own: wrong ones are planted in what is made
steps = some(
    {
        "kind": st.just("Step"),
        "metadata": some({"name": names, "version": st.sampled_from(["1", "2.0"])}, {"labels": labels}),
        "spec": some(
            {
                "run": some({"python": st.just("a.b:c")}, {"bundle": st.just("./code"), "env": environments})
                | some({"command": st.lists(texts.filter(bool), min_size=1, max_size=3)})
            },
            {
                "parameters": parameters,
                "inputs": ports,
                "outputs": ports,
                "resources": resources,
                "pool": pools,
                "retry": retries,
                "timeout": durations,
            },
        ),
    }
)
uses = some(
    {"name": names, "use": st.just("clean@1")},
    {
        "in": st.dictionaries(identifiers, bindings, max_size=2),
        "parameters": st.dictionaries(identifiers, values, max_size=2),
        "place": places,
        "preemptible": st.booleans(),
        "retry": retries,
        "pool": pools,
        "resources": resources,
        "timeout": durations,
    },
)
workflows = some(
    {
        "kind": st.just("Workflow"),
        "metadata": metadata,
        "spec": some(
            {"steps": st.lists(uses, min_size=1, max_size=3)},
            {
                "parameters": parameters,
                "inputs": st.dictionaries(identifiers, some({"dataset": names}), max_size=2),
                "outputs": st.dictionaries(
                    identifiers,
                    references | some({"from": references}, {"file": st.just("a.csv"), "merge": st.just("concat")}),
                    max_size=2,
                ),
                "policy": policies,
            },
        ),
    }
)
objects = topologies | steps | workflows
