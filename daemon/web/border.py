"""Around every HTTP request: whom we answer at all, its id in the log, and what a failure says."""

from __future__ import annotations

import re
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from daemon.core.errors import AgentcmdError, BadRequest, NotFound, TooLarge, Unauthorized
from daemon.web.answers import refusal
from daemon.web.auth import Admission, Doorkeeper, is_forwarded
from daemon.web.errors import as_agentcmd_error

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-Id"
"""Given back with every answer, and in every line of the log; a client may bring its own."""

ID = web.RequestKey("id", str)
"""Where a request keeps its id."""

ASKING = ("/api/", "/ws", "/socket.io/")
"""Where a token is asked for in any case."""

KEPT_HEADERS = ("Allow", "Sec-WebSocket-Version")
"""Headers of the framework's refusals that a client needs."""

IDENTITY = "identity"
WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Compressions of a body that are read here: aiohttp holds the loop for as long as it takes."""

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": f"Authorization, Content-Type, Last-Event-ID, {REQUEST_ID}",
    "Access-Control-Max-Age": "600",
}

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Border:
    """What all doors have in common."""

    def __init__(self, doorkeeper: Doorkeeper, admission: Admission) -> None:
        """Refuse what the doorkeeper refuses; `admission` reads the tokens of what is forwarded."""
        self._doorkeeper = doorkeeper
        self._admission = admission

    def surround(self, app: web.Application) -> None:
        """Stand around an application's routes."""
        app.middlewares.append(self.pass_through)
        app.on_response_prepare.append(self._sign)

    @web.middleware
    async def pass_through(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse strangers, and answer every failure as JSON with its code."""
        brought = request.headers.get(REQUEST_ID, "")
        request[ID] = brought if _ID.fullmatch(brought) else secrets.token_hex(6)
        began = time.monotonic()
        with structlog.contextvars.bound_contextvars(request=request[ID]):
            response = await self._answered(request, handler)
            log.debug(
                "request",
                method=request.method,
                path=request.path[:200],
                status=response.status,
                seconds=round(time.monotonic() - began, 4),
            )
        return response

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._doorkeeper.check(request.headers)
            if self._is_preflight(request):
                return web.Response(status=204, headers=PREFLIGHT)
            self._doorkeeper.check_site(request)
            self._check_forwarded(request)
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return refusal(TooLarge("the body is over the limit of [web] max_message_bytes"))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            kept = {name: error.headers[name] for name in KEPT_HEADERS if name in error.headers}
            return refusal(_of_http(error, request), status=error.status, headers=kept)
        except Exception as error:  # noqa: BLE001  # the border of a request
            return refusal(as_agentcmd_error(error, where=f"{request.method} {request.path}"))

    def _check_forwarded(self, request: web.Request) -> None:
        """Ask what a proxy hands on for a token; a proxy on this machine makes nobody local."""
        asks_itself = request.path == "/health" or request.path.startswith(ASKING)
        if asks_itself or not is_forwarded(request.headers):
            return
        if self._admission.caller(request) is None:
            raise Unauthorized("a token is needed, as a proxy hands this on: Authorization: Bearer")

    def _is_preflight(self, request: web.Request) -> bool:
        """Tell whether a browser asks what a page of another origin may send."""
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return asks and self._doorkeeper.from_elsewhere(request.headers)

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Put the request's id on the answer, and let an allowed page read it."""
        if ID in request:
            response.headers[REQUEST_ID] = request[ID]
        if self._doorkeeper.from_elsewhere(request.headers) and response.status != 403:
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = f"Location, {REQUEST_ID}"
            response.headers.add("Vary", "Origin")


def require_plain(request: web.Request) -> None:
    """Raise BadRequest for a compressed body where it is read as it comes."""
    if request.headers.get("Content-Encoding", IDENTITY).strip().lower() != IDENTITY:
        raise BadRequest("send the body uncompressed, without Content-Encoding")


def check_conditions(request: web.Request) -> None:
    """Raise BadRequest for a Range, or a date, that sending a file would break off at."""
    try:
        _ = request.http_range, request.if_range
        _ = request.if_modified_since, request.if_unmodified_since
    except (ValueError, OverflowError):
        raise BadRequest(
            "a Range is one of bytes, as in bytes=0-99, and a date one of HTTP"
        ) from None


async def read_body(request: web.Request, limit: int | None = None) -> bytes:
    """Read the body of a request; BadRequest where it cannot be read or breaks off.

    TooLarge where it is over `limit`, in bytes; without one over `[web] max_message_bytes`.
    """
    encoding = request.headers.get("Content-Encoding", IDENTITY).strip().lower()
    if encoding != IDENTITY:
        limit = request.client_max_size if limit is None else limit
        return _decompressed(await _read(request, limit), encoding, limit)
    return await _read(request, limit)


async def _read(request: web.Request, limit: int | None) -> bytes:
    try:
        if limit is None:
            return await request.read()
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > limit:
                raise TooLarge(f"a body has {limit} bytes at most here")
        return bytes(body)
    except web.RequestPayloadError as error:
        raise BadRequest(f"the body cannot be read: {error}") from None
    except ConnectionError:
        raise BadRequest("the body broke off") from None


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress a body, no further than the limit: a few bytes may stand for very many."""
    if encoding not in WINDOW:
        raise BadRequest(f"a body is sent plain, or as {' or '.join(WINDOW)}")
    try:
        reader = zlib.decompressobj(WINDOW[encoding])
        plain = reader.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body cannot be read: {error}") from None
    if len(plain) > limit:
        raise TooLarge("the body is over the limit of [web] max_message_bytes")
    if not reader.eof:
        raise BadRequest("the body broke off")
    return plain


def _of_http(error: web.HTTPException, request: web.Request) -> AgentcmdError:
    """Say in our words what the framework refused."""
    if error.status == 404:
        return NotFound(f"there is no {request.path[:200]}; the API is under /api")
    return BadRequest(f"{request.method} {request.path[:200]}: {error.reason}")
