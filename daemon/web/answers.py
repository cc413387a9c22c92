"""What HTTP answers: values and errors as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from daemon.core import frames
from daemon.core.errors import AgentcmdError


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
    more = dict(headers or {})
    if error.code == "unauthorized":
        more["WWW-Authenticate"] = "Bearer"
    return web.Response(
        body=error_body(error),
        status=status or error.status,
        headers=more,
        content_type="application/json",
    )


def error_body(error: AgentcmdError) -> bytes:
    """Encode an error as every answer of HTTP has it."""
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.details:
        told["details"] = error.details
    return frames.encode({"error": told})
