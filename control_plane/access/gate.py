"""The gate before the people's service: every call to it passes here, and nothing else decides who may make it.

    call ─▶ who is it (certificate, else token) ─▶ what does it ask for ─▶ have they the roles ─▶ audit line ─▶ service

It is an interceptor, so a call that is added to the service is behind it from the first day; one whose contract states
no role is let through to nobody. A stream's caller is looked at again before each answer: with the role, or with the
token's time, the stream ends; so it does where nobody reads it. Calls to other services pass, for these look at their
callers themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog

from bdw_fed.v1.calls import ACCESS
from control_plane.access.audit import AuditLog
from control_plane.access.caller import CALLER, Caller
from control_plane.access.errors import IssuerUnavailable, NotWritten, TokenRefused
from control_plane.access.rules import SERVICE, Asked, asked, objects_of, place, role_name
from control_plane.access.users import Users
from control_plane.models import models_imported
from control_plane.store.errors import InvalidName
from control_plane.store.keys import checked_name
from wire.errors import ProblemError
from wire.identity import Role, UnknownPeerError, identity_of

if TYPE_CHECKING:
    from control_plane.access.tokens import Tokens

    Context = grpc.aio.ServicerContext[Any, Any]

_Code = grpc.StatusCode
_STALLED_SECONDS = 300.0  # a person may stop a terminal for a while
_PREFIX = f"/{SERVICE}/"
_log = structlog.get_logger(__name__)


class _Refused(Exception):
    """The call ends with this status."""

    def __init__(self, code: grpc.StatusCode, words: str, who: str = "") -> None:
        super().__init__(words)
        self.code = code
        self.who = who


class Gate(grpc.aio.ServerInterceptor):
    """See the module. Without `tokens` only certificates prove who somebody is."""

    def __init__(self, users: Users, audit: AuditLog, tokens: Tokens | None = None) -> None:
        self._users = users
        self._audit = audit
        self._tokens = tokens
        self._ending: set[asyncio.Task[None]] = set()  # streams that end as soon as what they were told is read

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, behind the gate if it is one of the people's."""
        handler = await continuation(handler_call_details)
        name: str = handler_call_details.method
        if handler is None or not name.startswith(_PREFIX):
            return handler
        method = name.removeprefix(_PREFIX)
        if handler.request_streaming and handler.response_streaming:
            raise NotImplementedError(f"{method}: no call of the people's service streams both ways")
        if handler.request_streaming:
            return self._uploaded(method, handler)
        return self._streamed(method, handler) if handler.response_streaming else self._answered(method, handler)

    # ------------------------------------------------------------------------------- the shapes of calls

    def _answered(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        async def call(request: Any, context: Context) -> Any:
            await self._admit(method, request, context)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _streamed(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            caller, wanted = await self._admit(method, request, context)
            answers = handler.unary_stream(request, context)
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None

            def give_up() -> None:
                _log.warning("a stream was ended: it is not read", call=method, by=caller.name, peer=context.peer())
                words = f"nothing was read for {_STALLED_SECONDS:.0f} seconds: ask again"
                ending = loop.create_task(context.abort(_Code.ABORTED, words))
                self._ending.add(ending)
                ending.add_done_callback(self._ended)
                loop.call_soon(task.cancel)

            stalled: asyncio.TimerHandle | None = None
            try:
                async for answer in answers:
                    await self._look_again(caller, wanted, context)
                    stalled = loop.call_later(_STALLED_SECONDS, give_up)
                    yield answer  # returns once there is room for another
                    stalled.cancel()
            finally:
                if stalled is not None:
                    stalled.cancel()
                await answers.aclose()

        return grpc.unary_stream_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _uploaded(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        async def call(requests: AsyncIterator[Any], context: Context) -> Any:
            first = await anext(aiter(requests), None)
            if first is None:
                await context.abort(_Code.INVALID_ARGUMENT, f"the first message of {method} is missing")
            await self._admit(method, first, context)

            async def all_of_them() -> AsyncIterator[Any]:
                yield first
                async for request in requests:
                    yield request

            return await handler.stream_unary(all_of_them(), context)

        return grpc.stream_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        if not ending.cancelled():
            ending.exception()  # an abort always raises

    # ------------------------------------------------------------------------------- the decision

    async def _admit(self, method: str, request: Any, context: Context) -> tuple[Caller, Asked]:
        """Let the call in, with `CALLER` set, or end it."""
        wanted: Asked | None = None
        who = ""
        try:
            if (SERVICE, method) not in ACCESS:
                raise _Refused(_Code.PERMISSION_DENIED, f"{method} is for nobody: its contract states no role")
            wanted = asked(method, request, await _objects(method, request))
            caller = await self._caller(context)
            who = caller.name
            self._judge(caller, wanted)
            _check_namespace(wanted)
            if wanted.changes:
                self._note(who, wanted, context, allowed=True)
        except NotWritten as error:
            await context.abort(_Code.UNAVAILABLE, str(error))
        except _Refused as refusal:
            who = who or refusal.who
            words = str(refusal)
            _log.warning("a call was refused", call=method, by=who, peer=context.peer(), reason=words)
            if wanted is not None and wanted.changes:
                self._note_refused(who, wanted, context, words)
            await context.abort(refusal.code, words)
        CALLER.set(caller)
        return caller, wanted

    async def _look_again(self, caller: Caller, wanted: Asked, context: Context) -> None:
        try:
            self._judge(caller, wanted)
        except _Refused as refusal:
            words = str(refusal)
            _log.warning("a stream was ended", call=wanted.method, by=caller.name, peer=context.peer(), reason=words)
            await context.abort(refusal.code, words)

    def _judge(self, caller: Caller, wanted: Asked) -> None:
        if caller.until is not None and caller.until <= time.time():
            raise _Refused(_Code.UNAUTHENTICATED, "your token has run out: log in again", caller.name)
        lacking = self._users.lacking(caller, wanted.needs)
        if lacking is None:
            return
        has = role_name(self._users.role(caller, lacking.namespace))
        where = f" --namespace {lacking.namespace}" if lacking.namespace else ""
        raise _Refused(
            _Code.PERMISSION_DENIED,
            f"you are {caller.name}, with {has} {place(lacking.namespace)}; {wanted.method} needs {lacking} or higher: "
            f"ask an admin for: bdw-fed user grant {caller.name} --role {role_name(lacking.role)}{where}",
            caller.name,
        )

    async def _caller(self, context: Context) -> Caller:
        """Who calls, by their certificate or, on a connection without one, by their token."""
        if context.auth_context().get("x509_common_name") is not None:
            return _certified(context)
        token = _bearer(context)
        if self._tokens is None:
            raise _Refused(_Code.UNAUTHENTICATED, "this hub takes no tokens: come with a user's certificate")
        if not token:
            raise _Refused(
                _Code.UNAUTHENTICATED, "nothing says who you are: set BDW_FED_TOKEN, or come with a user's certificate"
            )
        try:
            return await self._tokens.caller(token)
        except TokenRefused as error:
            raise _Refused(_Code.UNAUTHENTICATED, f"your token is not good: {error}") from error
        except IssuerUnavailable as error:
            raise _Refused(_Code.UNAVAILABLE, str(error)) from error

    def _note(self, who: str, wanted: Asked, context: Context, **more: object) -> None:
        self._audit.write(
            {
                "by": who or "nobody known",
                "from": context.peer(),
                "call": wanted.method,
                "namespace": wanted.namespace or "all",
                **wanted.about,
                **more,
            }
        )

    def _note_refused(self, who: str, wanted: Asked, context: Context, words: str) -> None:
        try:
            self._note(who, wanted, context, allowed=False, reason_refused=words)
        except NotWritten:
            return  # it is refused anyway, and the log of the hub has both


def _check_namespace(wanted: Asked) -> None:
    try:
        if wanted.namespace:
            checked_name(wanted.namespace)
    except InvalidName as error:
        raise _Refused(_Code.INVALID_ARGUMENT, f"namespace {error}") from error


def _certified(context: Context) -> Caller:
    try:
        identity = identity_of(context)
    except (UnknownPeerError, ValueError) as error:
        raise _Refused(_Code.UNAUTHENTICATED, str(error)) from error
    if identity.role is not Role.USER:
        raise _Refused(
            _Code.PERMISSION_DENIED, f"{identity} may not do this: it is for users and their roles", str(identity)
        )
    return Caller(identity.name)


def _bearer(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[:7].lower() == "bearer ":
            return value[7:].strip()
    return ""


async def _objects(method: str, request: Any) -> list[tuple[str, str]]:
    """The objects that are to be applied or deleted. Of documents that can't be read none: they are refused as such."""
    if method != "Apply":
        return objects_of(method, request)
    await models_imported()
    from control_plane.api.applying import loaded

    try:
        return [(each.kind, each.name) for each in loaded(request.namespace or "default", request.documents)]
    except ProblemError:
        return []
