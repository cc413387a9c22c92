"""Around every HTTP request: whom we answer at all, its id in the log, and what a failure says."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

from daemon.core import frames
from daemon.core.errors import AgentcmdError, BadRequest, NotFound, TooLarge
from daemon.web.auth import Doorkeeper
from daemon.web.errors import as_agentcmd_error

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-Id"
"""Given back with every answer, and in every line of the log; a client may bring its own."""

ID = web.RequestKey("id", str)
"""Where a request keeps its id."""

KEPT_HEADERS = ("Allow", "Sec-WebSocket-Version")
"""Headers of the framework's refusals that a client needs."""

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": f"Authorization, Content-Type, Last-Event-ID, {REQUEST_ID}",
    "Access-Control-Max-Age": "600",
}

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Border:
    """What all doors have in common."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        """Refuse what the doorkeeper refuses."""
        self._doorkeeper = doorkeeper

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


async def read_body(request: web.Request) -> bytes:
    """Read the body of a request; BadRequest where it cannot be read or breaks off."""
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        raise BadRequest(f"the body cannot be read: {error}") from None
    except ConnectionError:
        raise BadRequest("the body broke off") from None


def json_answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with a value as JSON."""
    return web.Response(
        body=frames.encode(value), status=status, headers=headers, content_type="application/json"
    )


def refusal(
    error: AgentcmdError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with an error, as all of HTTP does."""
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.details:
        told["details"] = error.details
    more = dict(headers or {})
    if error.code == "unauthorized":
        more["WWW-Authenticate"] = "Bearer"
    return json_answer({"error": told}, status=status or error.status, headers=more)


def _of_http(error: web.HTTPException, request: web.Request) -> AgentcmdError:
    """Say in our words what the framework refused."""
    if error.status == 404:
        return NotFound(f"there is no {request.path[:200]}; the API is under /api")
    return BadRequest(f"{request.method} {request.path[:200]}: {error.reason}")
