"""HTTP connections below the routes: what one may hold without a token, parser errors, half-close.

aiohttp reads the requests; this adds to its handler of one connection what it has no setting for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http_exceptions import LineTooLong

from daemon.core.errors import AgentcmdError, BadRequest, TooLarge
from daemon.web.answers import error_body, refusal
from daemon.web.departure import Departure
from daemon.web.errors import as_agentcmd_error
from daemon.web.looks import looks
from daemon.web.unauthenticated import Unauthenticated

log = structlog.get_logger(__name__)

LINE_BYTES = 256 << 10
"""Longest first line of a request: what is asked by GET stands in it, as a search or many paths."""

MAX_HEADERS = 128

PATH_BYTES = 4096
"""Longest path, without the query."""

HEADER_BYTES = 64 << 10
"""Longest header: a browser sends the cookies of all servers of a machine to each of its ports."""

HEAD_BYTES = 128 << 10
"""Bytes of all headers of a request."""

BODY_BUFFER = 64 << 10
"""Bytes of a body that are read ahead of whoever reads it."""

CONTINUE = "100-continue"

READ_BYTES = 256 << 10
"""Bytes of one read from a client with a token; asyncio's own default."""

SWEEP = 0.5
"""Seconds between two looks at the connections without a token."""

LINGER = 1.0
"""Seconds in which what a client still sends is read after a parser error, so that no reset hides
the answer."""

BUSY_TIMEOUT = 60.0
"""Seconds, at most, from a request without a token to the end of its answer."""


T = TypeVar("T")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpConnection(web.RequestHandler):
    """One connection; counted as unauthenticated until a request on it has shown a token."""

    __slots__ = (
        "_broken",
        "_ended",
        "_http",
        "_payload",
        "answered_at",
        "authenticated",
        "departure",
        "half_closed",
        "lasting",
        "on_drop",
        "received",
    )

    def __init__(self, server: HttpServer, **options: Any) -> None:
        """Handle one connection of this server."""
        super().__init__(server, **options)
        self.authenticated = False
        self.answered_at = time.monotonic()
        self.received = 0
        """Bytes since the last answer, as long as there was no token."""
        self.lasting = False
        """Whether its request is answered for as long as the client stays."""
        self.on_drop: Callable[[], None] | None = None
        self._http = server
        self._payload: StreamReader | None = None
        self.half_closed = self._broken = False
        self._ended: asyncio.Future[None] | None = None
        self.departure = Departure()

    @property
    def idle(self) -> bool:
        """Return whether no whole request waits for its answer."""
        return not self._request_in_progress and not self._messages

    def authenticate(self) -> None:
        """Stop counting this connection as unauthenticated: a request on it has shown a token."""
        if not self.authenticated:
            self.authenticated = True
            self.on_drop = None
            self._http.forget(self)
            _read_at_once(self.transport, READ_BYTES)

    def drop(self) -> None:
        """End a connection without a token that takes too long, or makes room for another."""
        begun = self.received
        self._http.forget(self)
        if self.on_drop is not None:
            self.on_drop()
        elif self.transport is not None and begun and self.idle:
            told = BadRequest("no whole request came in time")
            self.transport.write(_raw_refusal(b"408 Request Timeout", told))
            self.transport.close()
        elif self.transport is not None:
            self.transport.abort()

    # What asyncio and aiohttp call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count a new connection."""
        super().connection_made(transport)
        _read_at_once(self.transport, self._http.allowed_bytes)
        self._http.unauthenticated.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no longer."""
        self._http.forget(self)
        self._end()
        super().connection_lost(exc)
        self.departure.leave()

    def data_received(self, data: bytes) -> None:
        """Parse what was read; without a token it counts."""
        if self._broken:
            return
        if data and not self.authenticated:
            self._http.count(self, len(data))
        super().data_received(data)
        if self._messages:
            self._payload = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own is bool | None
        """Keep a connection of which the client has closed its side, until all is answered."""
        self._end()
        if self.lasting or self._payload is None or not self._payload.is_eof():
            return False
        if self._waiter is not None and not self._messages:
            return False  # nothing is to be answered
        self.half_closed = True
        self.departure.half_close(self.transport)
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Finish an answer; after the last one, a connection that is half closed ends."""
        finished = await super().finish_response(request, resp, start_time)
        self.answered_at = time.monotonic()
        self.lasting = False
        self._http.uncount(self)
        if self.half_closed and not self._messages:
            self.close()
        if self._broken:
            await self._linger()
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP request, or was answered with what is no response, as JSON."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        error: AgentcmdError
        if isinstance(exc, LineTooLong) and str(LINE_BYTES) in map(str, exc.args[1:2]):
            status = 414
            error = TooLarge(f"the first line of a request has {LINE_BYTES} bytes at most")
        elif isinstance(exc, LineTooLong) or "Too many headers" in (message or ""):
            status = 431
            error = TooLarge(
                f"a request has {MAX_HEADERS} headers at most, each of {HEADER_BYTES} bytes"
            )
        elif status < 500:
            error = BadRequest(f"this is no HTTP request: {(message or '').strip()[:200]}")
        else:
            failure = exc if isinstance(exc, Exception) else RuntimeError(message)
            error = as_agentcmd_error(failure, where=f"{request.method} {request.path}")
        if status < 500:
            self._broken = True
            log.debug("request.unreadable", status=status, message=error.message)
        response = refusal(error, status=status if status < 500 else None)
        response.force_close()
        return response

    # Inside

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _linger(self) -> None:
        """Read and forget until the client has closed its side, for a moment."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self._ended = asyncio.get_running_loop().create_future()
        with suppress(OSError):  # among them TimeoutError
            transport.write_eof()
            async with asyncio.timeout(LINGER):
                await self._ended


class HttpServer(web.Server):
    """Makes the connections, and bounds what those without a token hold."""

    def __init__(
        self,
        server: web.Server,
        *,
        stripped: Callable[[web.Request], web.Request],
        limit: int,
        allowed_bytes: int,
        timeout: float,
        options: dict[str, Any],
    ) -> None:
        """Serve what `server` would, requests as `stripped` gives them back.

        `timeout` is the seconds in which a token has to be shown.
        """
        make = server.request_factory

        def made(*parts: Any) -> web.BaseRequest:
            request = make(*parts)
            return stripped(request) if isinstance(request, web.Request) else request

        super().__init__(_bounded(server.request_handler), request_factory=made)
        self.allowed_bytes = allowed_bytes
        self.unauthenticated = Unauthenticated(limit, HttpConnection.drop)
        self._budget = limit * allowed_bytes
        self._excess = 0
        self._timeout = timeout
        self._options = options

    def __call__(self) -> HttpConnection:
        """Make the handler of a connection that has been accepted."""
        return HttpConnection(self, loop=asyncio.get_running_loop(), **self._options)

    async def run(self) -> None:
        """Drop, until cancelled, who takes too long."""
        async for now, deaf in looks(SWEEP):
            self.sweep(now, deaf)

    def sweep(self, now: float, deaf: float) -> None:
        """Look at all without a token; for `deaf` seconds before that nobody could be heard."""
        for each in self.unauthenticated:
            each.answered_at = min(now, each.answered_at + deaf)
            timeout = self._timeout if each.idle else self._timeout + BUSY_TIMEOUT
            if now - each.answered_at > timeout:
                self.unauthenticated.drop(each)
        self.unauthenticated.make_room(now)

    def count(self, connection: HttpConnection, size: int) -> None:
        """Count bytes without a token: what is over the bytes of each is bounded for all."""
        before = self._excess_of(connection)
        connection.received += size
        self._excess += self._excess_of(connection) - before
        if self._excess > self._budget:
            self.unauthenticated.drop(max(self.unauthenticated, key=lambda each: each.received))

    def uncount(self, connection: HttpConnection) -> None:
        """Count what a connection has sent no longer: it is answered."""
        self._excess -= self._excess_of(connection)
        connection.received = 0

    def forget(self, connection: HttpConnection) -> None:
        """Count a connection no longer."""
        self.uncount(connection)
        self.unauthenticated.discard(connection)

    def _excess_of(self, connection: HttpConnection) -> int:
        return max(0, connection.received - self.allowed_bytes)


class HttpRunner(web.AppRunner):
    """Runs an application on connections of ours."""

    def __init__(
        self,
        application: web.Application,
        *,
        stripped: Callable[[web.Request], web.Request],
        limit: int,
        allowed_bytes: int,
        timeout: float,
        shutdown_timeout: float,
    ) -> None:
        """Prepare; `setup` makes the server."""
        super().__init__(
            application, handle_signals=False, access_log=None, shutdown_timeout=shutdown_timeout
        )
        self._stripped = stripped
        self._limits = {"limit": limit, "allowed_bytes": allowed_bytes, "timeout": timeout}

    async def _make_server(self) -> HttpServer:
        server = await super()._make_server()
        options = {
            "access_log": None,
            "max_line_size": LINE_BYTES,
            "max_field_size": HEADER_BYTES,
            "max_headers": MAX_HEADERS,
            "read_bufsize": BODY_BUFFER,
            "auto_decompress": False,
        }
        self.http = HttpServer(
            server,
            stripped=self._stripped,
            options=options,
            **self._limits,  # type: ignore[arg-type]
        )
        return self.http


def _bounded(handle: Handler) -> Handler:
    """Refuse large heads, and paths of a length whose square a look-up would take."""

    async def bounded(request: web.BaseRequest) -> web.StreamResponse:
        if len(request.raw_path.partition("?")[0]) > PATH_BYTES:
            return refusal(TooLarge(f"a path has {PATH_BYTES} bytes at most"), status=414)
        if sum(len(name) + len(value) for name, value in request.raw_headers) > HEAD_BYTES:
            return refusal(TooLarge(f"all headers have {HEAD_BYTES} bytes at most"), status=431)
        if request.headers.get("Expect", CONTINUE).strip().lower() != CONTINUE:
            return refusal(BadRequest(f"the only expectation met here is {CONTINUE}"), status=417)
        return await handle(request)

    return bounded


def connection_of(request: web.BaseRequest) -> HttpConnection | None:
    """Return the connection that a request came on; None once it is lost."""
    connection = request.protocol
    return connection if isinstance(connection, HttpConnection) else None


def authenticate(request: web.BaseRequest) -> None:
    """Mark the connection of a request as authenticated."""
    if (connection := connection_of(request)) is not None:
        connection.authenticate()


def answers_for_long(request: web.BaseRequest) -> None:
    """Have a request end with its client, which is gone when it closes its side.

    BadRequest where it has done so already.
    """
    if (connection := connection_of(request)) is not None:
        connection.lasting = True
        if connection.half_closed:
            raise BadRequest("this is answered as long as the client stays, and it has gone")


async def while_client_stays(request: web.BaseRequest, answered: Awaitable[T]) -> T:
    """Await what nobody else needs; it is cancelled, with its request, when the client leaves."""
    connection, task = connection_of(request), asyncio.current_task()
    if connection is None or task is None:
        return await answered
    probes = request.version >= HttpVersion11  # an older client knows no interim response
    with connection.departure.ending(task.cancel, probes=probes):
        return await answered


def _read_at_once(transport: asyncio.Transport | None, size: int) -> None:
    """Bound the bytes of one read; what is not read stays in the kernel."""
    if hasattr(transport, "max_size"):  # as the transports of asyncio's own loops have it
        setattr(transport, "max_size", size)  # noqa: B010  # no declared attribute


def _raw_refusal(status: bytes, error: AgentcmdError) -> bytes:
    """Encode a whole answer for a connection that has no request to answer."""
    body = error_body(error)
    head = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d" % len(body)
    return b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, head, body)
