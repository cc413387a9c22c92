"""The written reference over HTTP: /docs, /openapi.json and /asyncapi.json, read when asked for."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from aiohttp import ETag, web

from daemon.web.outlet import write_patiently

FILES = {
    "/openapi.json": ("openapi.json", "application/json"),
    "/asyncapi.json": ("asyncapi.json", "application/json"),
    "/docs": ("index.html", "text/html"),
    "/docs/": ("index.html", "text/html"),
}
"""Each path with its file in the folder `docs` beside this module, and its content type."""

STALL = 10.0
"""Seconds in which some of a document has to be taken."""

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


class Document(NamedTuple):
    """A file as it is served; `policy` is its Content-Security-Policy."""

    body: bytes
    media: str
    tag: str
    policy: str


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve the documents; a file is read the first time that somebody wants it, and then kept."""
    read = lru_cache(maxsize=None)(read_document)
    for path, (name, media) in FILES.items():
        router.add_get(path, _serving(read, name, media))


def _serving(
    read: Callable[[str, str], Document], name: str, media: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        """Send the document, or say that the client has it already."""
        document = read(name, media)
        offered = request.if_none_match or ()
        known = any(each.value in (document.tag, "*") for each in offered)
        response = web.StreamResponse(status=304 if known else 200)
        if not known:
            response.content_type = document.media
            response.charset = "utf-8"
            response.content_length = len(document.body)
        response.etag = ETag(document.tag)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = document.policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        await response.prepare(request)
        if not known and request.method == "GET":
            await _send(request, response, document.body)
        return response

    return serve


async def _send(request: web.Request, response: web.StreamResponse, body: bytes) -> None:
    """Send a body at the pace of its reader: nothing of it waits here, as nobody needs a token."""
    try:
        await write_patiently(response, body, STALL)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


def read_document(name: str, media: str) -> Document:
    """Read one of the package's documents (half a millisecond, so it may be on the loop)."""
    body = (resources.files("daemon.web") / "docs" / name).read_bytes()
    tag = hashlib.sha256(body).hexdigest()[:32]
    return Document(body, media, tag, _policy(body if media == "text/html" else b""))


def _policy(page: bytes) -> str:
    """Allow a page exactly the scripts and styles that stand in it, and nothing from anywhere."""
    allowed: dict[str, str] = {
        kind.decode(): f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
        for kind, text in _INLINE.findall(page)
    }
    inline = [f"{kind}-src {digest}" for kind, digest in sorted(allowed.items())]
    closed = ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'")
    return "; ".join(("default-src 'none'", *inline, *closed))
