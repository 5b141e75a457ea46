"""What every call of the people's service has in common: who makes it, and how its errors are told.

Whether they may has been decided by then, by the gate (`control_plane.access.gate`) that stands before the service.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from control_plane.access.caller import CALLER, Caller
from control_plane.api.errors import EXPECTED, abort

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

S = TypeVar("S")
Q = TypeVar("Q")
A = TypeVar("A")


def answers(
    method: Callable[[S, Q, Caller], Awaitable[A]],
) -> Callable[[S, Q, Context], Awaitable[A]]:
    """A call with one answer. The method gets the caller in the place of the context."""

    @functools.wraps(method)
    async def call(self: S, request: Q, context: Context) -> A:
        try:
            return await method(self, request, CALLER.get())
        except EXPECTED as error:
            await abort(context, error)

    return call


def streams(
    method: Callable[[S, Q, Caller], AsyncGenerator[A]],
) -> Callable[[S, Q, Context], AsyncGenerator[A]]:
    """A call with a stream of answers."""

    @functools.wraps(method)
    async def call(self: S, request: Q, context: Context) -> AsyncGenerator[A]:
        try:
            async with aclosing(method(self, request, CALLER.get())) as parts:
                async for part in parts:
                    yield part
        except EXPECTED as error:
            await abort(context, error)

    return call
