"""Pods as a runtime writes them."""

from __future__ import annotations

from typing import Any


def pod(name: str, *, labels: dict[str, str] | None = None, **resources: dict[str, str]) -> dict[str, Any]:
    """A pod of one container, `worker`; `requests` and `limits` as given."""
    container = {"name": "worker", "image": "python:3.11-slim", "resources": resources}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"containers": [container]}}
