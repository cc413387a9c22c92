"""Clients without a token, many at once, as a process of their own: `strangers.py URL KIND COUNT`.

Each does its worst and stays until it is dropped or standard input ends; then it is over.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import suppress
from urllib.parse import urlsplit

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
POLL = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n"
MIB = 1 << 20

KINDS = {
    "image": POLL + b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n\r\n",
    "session": POLL + b"\r\n",
    "silent": b"",
    "websocket": HANDSHAKE,
    "half": b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nX-Filling: " + b"x" * 15_000,
    "frame": HANDSHAKE + b"\x81\xff" + (MIB - 1).to_bytes(8) + bytes(4) + b"x" * (MIB - 2),
    "body": b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 1000000\r\n\r\n" + b"x" * 900_000,
    "reader": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
"""What each sends, by its kind."""

DEAF = (b"GET /openapi.json",)
"""How those begin that read nothing of the answer."""

AT_ONCE = 100


async def stay(host: str, port: int, said: bytes, places: asyncio.Semaphore) -> None:
    """Connect, say it, and stay."""
    with suppress(OSError):
        async with places:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(said)
            with suppress(TimeoutError):  # who is not read any more
                await asyncio.wait_for(writer.drain(), 5)
        while not said.startswith(DEAF) and await reader.read(65536):
            pass
        await asyncio.Future()  # it has been dropped, and keeps its half


async def main(url: str, kind: str, count: int) -> None:
    """Have them all come; the line says when they have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parts = urlsplit(url)
    places = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(stay(parts.hostname or "", parts.port or 0, KINDS[kind], places))
        for _ in range(count)
    ]
    while places.locked() or places._waiters:
        await asyncio.sleep(0.01)
    print("all are there", flush=True)  # noqa: T201  # for the test
    await loop.run_in_executor(None, sys.stdin.read)
    for each in tasks:
        each.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
