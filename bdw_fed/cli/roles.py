"""Roles as people write them, and the options that the verbs about users share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from bdw_fed.cli.arguments import Argument, Option

if TYPE_CHECKING:
    from bdw_fed.v1 import access_pb2


class RoleName(StrEnum):
    """What --role takes; each may do what the ones before it may."""

    VIEWER = "viewer"
    EXPERT = "expert"
    ENGINEER = "engineer"
    OPERATOR = "operator"
    ADMIN = "admin"


Subject = Annotated[
    str, Argument("A user: the name in a certificate, oidc:NAME, or group:NAME for all of a group.", "USER")
]
InNamespace = Annotated[
    str | None, Option(("--namespace", "-n"), "In this namespace. Default: in all of them.", "NAME")
]
Granted = Annotated[
    RoleName, Option(("--role",), "viewer, expert, engineer, operator or admin; each may do what those before it may.")
]


def number_of(role: RoleName) -> access_pb2.Role.ValueType:
    """The role as the hub has it."""
    from bdw_fed.v1 import access_pb2

    return access_pb2.Role.Value(f"ROLE_{role.upper()}")


def said(subject: str, role: str, namespace: str | None) -> str:
    """A binding in words."""
    return f"{subject} is {role} in {f'namespace {namespace}' if namespace else 'all namespaces'}"
