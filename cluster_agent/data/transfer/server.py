"""A node's data server: gives out its units, and takes those that it expects.

    GET, HEAD /v1/{namespace}/{run}/{unit hex}   with Range; ETag is the digest
    HEAD      of an expected unit                Upload-Offset tells where to go on
    PUT       of an expected unit                Content-Range: bytes START-END/TOTAL
    POST      /v1/units                          many small units in one answer, see `many`
    POST      /v1/plain                          a port without TLS and a token for it, see `plain`

Members show certificates of the federation; nodes may write what is expected of their cluster, and who may read is said
in `readers`: a user without a certificate, too, if the hub permits it (see `callers`). Nothing of a request becomes a
path: names are looked up in the store's index, on the event loop; threads send what was found and receive what comes
(see `listener`, `answers`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

from cluster_agent.data.base import Store
from cluster_agent.data.transfer.answers import Answers
from cluster_agent.data.transfer.arrivals import Arrivals
from cluster_agent.data.transfer.callers import Callers, note_refusal
from cluster_agent.data.transfer.channel import Channel
from cluster_agent.data.transfer.listener import Listener
from cluster_agent.data.transfer.readers import Readers
from cluster_agent.data.transfer.requests import AnswerError, Request, parsed, send, unit_key
from wire.identity.revocations import Revocations

_THREADS = 64


class DataServer:
    """Serves `store` to `readers`, and hands pushes to `arrivals`. Without TLS it serves the clusters of `trust`.

    Whose certificate is among the `revocations` is refused. What goes without TLS does so at `plain_port`, 0 = any;
    whoever is told of the port dials it where it has found the other one.
    """

    def __init__(
        self,
        store: Store,
        arrivals: Arrivals,
        context: ssl.SSLContext,
        readers: Readers,
        revocations: Revocations | None = None,
        plain_port: int = 0,
    ) -> None:
        self._store = store
        self._arrivals = arrivals
        self._context = context
        context.verify_mode = ssl.CERT_OPTIONAL  # one that is shown must be good; who shows none needs a permit
        self._callers = Callers(readers, revocations or Revocations())
        self._host = ""
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="serve")
        self._listener: Listener | None = None
        self._plain: Listener | None = None
        self._plain_port = self._plain_wanted = plain_port

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. OSError if it is taken."""
        self._answers = Answers(self._store, self._arrivals, self._callers, asyncio.get_running_loop())
        self._host = host
        self._listener = Listener(self._context, self._executor, self._answer)
        return self._listener.start(host, port)

    def let_in(self, sock: socket.socket) -> None:
        """Serve a connection that has come over a relay; it begins with TLS, like all others."""
        assert self._listener is not None
        self._listener.let_in(sock)

    async def trust(self, clusters: frozenset[str]) -> None:
        """Offer transfers without TLS to these clusters, to which the topology has trusted links, and to no others."""
        self._callers.trust(clusters)
        if clusters and self._plain is None:
            plain = Listener(None, self._executor, self._answer)
            self._plain_port = plain.start(self._host, self._plain_wanted)
            self._plain = plain
        elif not clusters and self._plain is not None:
            plain, self._plain = self._plain, None
            await plain.stop()

    async def stop(self) -> None:
        """Stop listening and end the connections."""
        for listener in (self._listener, self._plain):
            if listener is not None:
                await listener.stop()
        self._executor.shutdown()

    # ------------------------------------------------------------------------------------------- in a thread

    def _answer(self, channel: Channel) -> bool:
        """Answer the next request; whether there may be another. OSError."""
        told = channel.receive_head()
        if told is None:
            return False
        first, headers = told
        try:
            self._handle(parsed(channel, first, headers))
        except AnswerError as error:
            note_refusal(channel, error)
            unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
            more = {"Connection": "close", **error.headers} if unread else error.headers
            send(channel, error.status, more, str(error).encode(), method=first.partition(" ")[0])
            if unread:
                channel.finish()
                return False
        return headers.get("connection", "").lower() != "close"

    def _handle(self, request: Request) -> None:
        match request.method, request.path:
            case ("POST", ("v1", "units")):
                self._answers.many(request)
            case ("PUT", ("v1", namespace, run, unit)):
                self._answers.put(request, unit_key(namespace, run, unit))
            case _ if request.length:
                raise AnswerError(400, "no body was expected")
            case ("POST", ("v1", "plain")):
                self._offer_plain(request)
            case (("GET" | "HEAD"), ("v1", namespace, run, unit)):
                self._answers.get(request, unit_key(namespace, run, unit))
            case _:
                raise AnswerError(404, "there is no such address")

    def _offer_plain(self, request: Request) -> None:
        token = self._callers.token(request)
        if not (token and self._plain):
            raise AnswerError(404, "the topology has no trusted link between us")
        request.answer(200, {"Content-Type": "text/plain"}, f"{self._plain_port} {token}".encode())
