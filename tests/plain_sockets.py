"""Sockets to a daemon without any protocol: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit


async def silent(running, count):
    """Open sockets that say nothing."""
    parts = urlsplit(running.url)
    pairs = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(count)]
    return [reader for reader, _ in pairs], [writer for _, writer in pairs]


async def end_of(reader):
    """Read to the end; gives all that came, also before a reset."""
    told = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(30):
            while piece := await reader.read(65536):
                told += piece
    return told
