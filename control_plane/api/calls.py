"""What every call of the people's service has in common: who may make it, and how its errors are told."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from control_plane.api.errors import EXPECTED, abort
from wire.identity import Identity, Role, require

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

S = TypeVar("S")
Q = TypeVar("Q")
A = TypeVar("A")
PEOPLE = (Role.USER, Role.OPERATOR)


def answers(
    method: Callable[[S, Q, Identity], Awaitable[A]],
) -> Callable[[S, Q, Context], Awaitable[A]]:
    """A call with one answer. The method gets the caller in the place of the context."""

    @functools.wraps(method)
    async def call(self: S, request: Q, context: Context) -> A:
        caller = await require(context, *PEOPLE)
        try:
            return await method(self, request, caller)
        except EXPECTED as error:
            await abort(context, error)

    return call


def streams(
    method: Callable[[S, Q, Identity], AsyncGenerator[A]],
) -> Callable[[S, Q, Context], AsyncGenerator[A]]:
    """A call with a stream of answers."""

    @functools.wraps(method)
    async def call(self: S, request: Q, context: Context) -> AsyncGenerator[A]:
        caller = await require(context, *PEOPLE)
        try:
            async with aclosing(method(self, request, caller)) as parts:
                async for part in parts:
                    yield part
        except EXPECTED as error:
            await abort(context, error)

    return call
