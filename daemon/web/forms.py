"""The file in a form (`multipart/form-data`, RFC 7578), as it comes: bounded, in linear time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from aiohttp import StreamReader

from daemon.core.errors import BadRequest

TYPE_BYTES = 512
"""Longest Content-Type of a form."""

HEAD_BYTES = 16 << 10
"""Longest head of one part."""

MAX_PARTS = 16
BEFORE_BYTES = 1 << 20
"""Parts and bytes that may come before the file."""

_BOUNDARY = re.compile(r';[ \t]*boundary="?([0-9A-Za-z\'()+_,./:=? -]{1,70})', re.IGNORECASE)
_NO_FILE = "the form has no file: send it as a part with a filename"


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a form; None where a Content-Type is of no form.

    BadRequest for a form without a boundary.
    """
    if content_type[:TYPE_BYTES].partition(";")[0].strip().lower() != "multipart/form-data":
        return None
    found = _BOUNDARY.search(content_type) if len(content_type) <= TYPE_BYTES else None
    if found is None:
        raise BadRequest("the Content-Type of a form needs a boundary, of 70 characters at most")
    return found[1].rstrip().encode()


class Form:
    """Reads one form from a request's body."""

    def __init__(self, content: StreamReader, boundary: bytes, patience: float) -> None:
        """Read from `content`, of which something has to come every `patience` seconds."""
        self._content = content
        self._patience = patience
        self._mark = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # before the first boundary, too
        self._before = 0

    async def file(self) -> AsyncIterator[bytes]:
        """Yield the first part that is a file; BadRequest where there is none."""
        async for skipped in self._up_to_mark():
            self._count(skipped)
        for _ in range(MAX_PARTS):
            if _is_file(await self._head()):
                async for piece in self._up_to_mark():
                    yield piece
                return
            async for skipped in self._up_to_mark():
                self._count(skipped)
        raise BadRequest(_NO_FILE)

    async def _head(self) -> bytes:
        """Read the head of the part that begins here."""
        while len(self._buffer) < 2:
            await self._fill()
        if self._buffer.startswith(b"--"):
            raise BadRequest(_NO_FILE)
        while b"\r\n\r\n" not in self._buffer[:HEAD_BYTES]:
            if len(self._buffer) >= HEAD_BYTES:
                raise BadRequest(f"the head of a part has {HEAD_BYTES} bytes at most")
            await self._fill()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        # A part may be empty: then the line break of its head is that of the mark, too.
        self._buffer = b"\r\n" + rest if rest.startswith(self._mark[2:]) else rest
        return head

    async def _up_to_mark(self) -> AsyncIterator[bytes]:
        """Yield what comes before the next boundary, and pass over it."""
        keep = len(self._mark) - 1
        while (at := self._buffer.find(self._mark)) < 0:
            if len(self._buffer) > keep:
                yield self._buffer[:-keep]
                self._buffer = self._buffer[-keep:]
            await self._fill()
        yield self._buffer[:at]
        self._buffer = self._buffer[at + len(self._mark) :]

    async def _fill(self) -> None:
        async with asyncio.timeout(self._patience):
            piece = await self._content.readany()
        if not piece:
            raise BadRequest("the form breaks off")
        self._buffer += piece

    def _count(self, skipped: bytes) -> None:
        self._before += len(skipped)
        if self._before > BEFORE_BYTES:
            raise BadRequest("the file comes too late in the form; send it first")


def _is_file(head: bytes) -> bool:
    """Return whether the head of a part names a file."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return b"filename" in value.lower()
    return False
