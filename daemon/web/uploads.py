"""`/api/uploads`: files larger than a message, sent ahead and named by their ids at any door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, NotFound, Unauthorized
from daemon.core.events import Answer
from daemon.core.uploads import IMAGE_TYPES, OTHER, Uploads
from daemon.web.answers import json_answer
from daemon.web.auth import Admission
from daemon.web.border import check_conditions, require_plain
from daemon.web.forms import Form, boundary_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""A download is shown at most: nothing in it runs, and nothing is loaded for it."""


class UploadKept(Answer):
    """An upload: name it as `uploadId`, or read it at `href`.

    `media_type` is told by its first bytes: that of an image that browsers show, or of mere bytes.
    `size` is in bytes.
    """

    upload_id: str
    href: str
    media_type: str
    size: int


class UploadRoutes:
    """Takes files in, and gives them out as what cannot do harm."""

    def __init__(
        self,
        uploads: Uploads,
        admission: Admission,
        *,
        before: Callable[[web.Request], str],
        patience: float,
    ) -> None:
        """Serve these; `before` gives what stands before our paths for a client.

        `patience` is the seconds in which something of a body has to come.
        """
        self._uploads = uploads
        self._admission = admission
        self._before = before
        self._patience = patience

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Put the routes."""
        router.add_post("/api/uploads", self._post)
        router.add_get("/api/uploads/{id}", self._get)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        require_plain(request)
        boundary = boundary_of(request.headers.get("Content-Type", ""))
        if boundary is None:
            pieces = self._of_body(request)
        else:
            pieces = Form(request.content, boundary, self._patience).file()
        try:
            kept = await self._uploads.keep(caller, pieces)
        except TimeoutError:
            raise BadRequest(f"nothing of the upload came for {self._patience:g} seconds") from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise BadRequest(f"the upload cannot be read: {str(error)[:200]}") from None
        href = f"{self._before(request)}/api/uploads/{kept.id}"
        answer = UploadKept(
            upload_id=kept.id, href=href, media_type=kept.media_type, size=kept.size
        )
        return json_answer(answer, status=201, headers={"Location": href})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        upload = self._uploads.find(request.match_info["id"], self._caller(request))
        check_conditions(request)
        path = self._uploads.path(upload)
        if not path.is_file():
            raise NotFound(f"the upload {upload.id} has made room for newer ones")
        return web.FileResponse(path, headers=harmless(upload.media_type))

    async def _of_body(self, request: web.Request) -> AsyncIterator[bytes]:
        while True:
            async with asyncio.timeout(self._patience):
                piece = await request.content.readany()
            if not piece:
                return
            yield piece

    def _caller(self, request: web.Request) -> Caller:
        caller = self._admission.caller(request)
        if caller is None:
            raise Unauthorized("a token is needed: send 'Authorization: Bearer $(agentcmd token)'")
        return caller


def harmless(media_type: str) -> dict[str, str]:
    """Return the headers of what somebody else has made: an image is shown, anything else saved."""
    shown = media_type in IMAGE_TYPES
    return {
        "Content-Type": media_type if shown else OTHER,
        "Content-Disposition": "inline" if shown else "attachment",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=3600, immutable",
    }
