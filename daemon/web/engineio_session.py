"""One Engine.IO session: what waits for a client, and the transport that takes it.

What waits is kept here, in order, and bounded by whoever asks `has_room` first. Once there is a
WebSocket, frames go straight to its transport.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from daemon.core import frames
from daemon.web.close import CloseCode
from daemon.web.connection import CLOSE_TIMEOUT
from daemon.web.http_connection import HttpConnection, connection_of
from daemon.web.outlet import Outlet
from daemon.web.websocket import WebSocket

CLOSE = b"1"
"""The packet that ends a session."""

SEPARATOR = b"\x1e"
"""Between the packets of one request or answer of the polling transport."""

IN_PAUSE = 8
"""Times the limit may wait for one who goes over to a WebSocket: before it does, it polls no more
but wants its request answered, so to hold that until it polls is to wait for each other."""


class Client(Protocol):
    """Who is at the other end, as the protocol above knows it."""

    @property
    def introduced(self) -> bool:
        """Tell whether it has been let in."""

    def hear(self, text: str) -> None:
        """Take a text message."""

    def hear_bytes(self, size: int) -> None:
        """Take a binary message of so many bytes, which nothing here wants."""

    def object_to(self, what: str) -> None:
        """Take what is none of Engine.IO's packets."""

    def left(self, reason: str) -> None:
        """Learn, once, that the session has ended."""


class Session:
    """One client's connection, whatever carries it."""

    client: Client
    on_introduction: Callable[[], None]
    """Called once, when the client has been let in."""

    def __init__(self, limit: int, token: str | None) -> None:
        """Let about `limit` bytes wait; `token` is what the handshake brought."""
        self.token = token
        self.sid = secrets.token_urlsafe(15)
        self.outlet: Outlet | None = None
        self.code: int | None = None
        self.opened = self.heard_at = self.pinged_at = self.polled_at = time.monotonic()
        self.received = 0
        self.polled = 0
        self.polling = self.answering = self.posting = self.probing = self.paused = False
        self.filled = asyncio.Event()
        self.answer: Outlet | None = None
        self.websocket: WebSocket | None = None
        self.connections: set[HttpConnection] = set()
        """Those with a request of this session under way, that of its WebSocket included."""
        self._carriers: set[asyncio.Transport] = set()
        self._limit = limit
        self._waiting: list[bytes] = []
        self._size = 0
        self._room = asyncio.Event()
        self._farewell: asyncio.TimerHandle | None = None
        self._writer: AbstractStreamWriter

    @property
    def sent(self) -> int:
        """Give the bytes that were written to it."""
        return self.polled + (self.outlet.written if self.outlet else 0)

    @property
    def waits(self) -> bool:
        """Tell whether something waits for the next poll."""
        return bool(self._waiting)

    def has_room(self, *, asked: bool = False) -> bool:
        """Tell whether more may be sent now; `asked` is what answers a request."""
        if self.outlet is not None:
            return self.outlet.has_room()
        return self._size <= self._limit * (IN_PAUSE if asked and self.paused else 1)

    async def room(self, *, asked: bool = False) -> bool:
        """Wait until there is room; False when the session has ended."""
        while not self.has_room(asked=asked) and self.code is None:
            if self.outlet is None:
                self._room.clear()
                await self._room.wait()
            else:
                try:
                    await self._writer.drain()
                except ConnectionError:
                    return False
        await asyncio.sleep(0)  # a page is a turn: others get theirs
        return self.code is None

    def send(self, *packets: bytes) -> None:
        """Send packets, or have them wait for the next poll."""
        if self.code is not None:
            return
        if self.outlet is not None:
            self.outlet.write(b"".join(map(frames.frame, packets)))
            return
        self._waiting += packets
        self._size += sum(map(len, packets))
        self.filled.set()

    def take(self) -> bytes:
        """Hand over what waits, as the answer to a poll."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._room.set()
        return SEPARATOR.join(waiting)

    def pause(self) -> None:
        """Have nobody wait for a poll that does not come: the client is about to go over."""
        self.paused = True
        self.filled.set()
        self._room.set()

    @contextmanager
    def on(self, transport: asyncio.Transport | None) -> Iterator[None]:
        """Have a connection that is of no use without this session be cut when it is forgotten."""
        if transport is None:
            yield
            return
        self._carriers.add(transport)
        try:
            yield
        finally:
            self._carriers.discard(transport)

    @contextmanager
    def served_by(self, request: web.Request) -> Iterator[None]:
        """Have a request's connection be one with a token when the client has shown its own."""
        connection = connection_of(request)
        if connection is None:
            yield
            return
        if self.client.introduced:
            connection.authenticate()
        self.connections.add(connection)
        try:
            yield
        finally:
            self.connections.discard(connection)

    def pong(self, payload: bytes) -> None:
        """Answer a ping of the WebSocket itself."""
        if self.outlet is not None and self.code is None:
            self.outlet.write(frames.pong_frame(payload))

    def go_over(self, request: web.Request, transport: asyncio.Transport) -> None:
        """Go on over this WebSocket, with what waits first."""
        self.outlet = Outlet(transport, self._limit)
        self._writer = request.writer
        waiting, self._waiting, self._size = self._waiting, [], 0
        self.outlet.write(b"".join(map(frames.frame, waiting)))
        self._room.set()
        self.filled.set()  # a poll that waits is of no use any more

    def excuse(self, now: float, deaf: float) -> None:
        """Count no silence and no stall for the seconds in which it could not be heard."""
        self.opened = min(now, self.opened + deaf)
        self.heard_at = min(now, self.heard_at + deaf)
        self.polled_at = min(now, self.polled_at + deaf)
        for outlet in (self.outlet, self.answer):
            if outlet is not None:
                outlet.excuse(now, deaf)

    def stalled(self, now: float, timeout: float) -> bool:
        """Tell whether nothing has been taken for a while though data waits."""
        if self.outlet is not None:
            if self.outlet.look(now, closely=now - self.heard_at > timeout):
                self.heard_at = now  # our pings wait behind the data: who takes that is there
            return self.outlet.stalled(now, timeout)
        if self.answer is not None:
            if self.answer.look(now, closely=True):
                self.heard_at = self.polled_at = now  # it reads yet what it has polled
            if self.answering:
                self.polled_at = now
                return self.answer.stalled(now, timeout)
        if self.polling or not self._size:
            self.polled_at = now
        return now - self.polled_at > timeout

    def end(self, code: int, reason: str) -> None:
        """End it: the WebSocket after what is written, or with the next poll; once."""
        if self.code is not None:
            return
        if self.outlet is None:
            self.send(CLOSE)
        self.code = code
        self._room.set()
        self.filled.set()
        if code == CloseCode.NO_PROGRESS and self.answer is not None and self.answering:
            self.answer.abort()
        if self.outlet is not None and code == CloseCode.NO_PROGRESS:
            self.outlet.abort()
        elif self.outlet is not None:
            self.outlet.write(frames.close_frame(code, reason))
            loop = asyncio.get_running_loop()
            self._farewell = loop.call_later(CLOSE_TIMEOUT, self.outlet.abort)
        self.client.left(reason)

    def abandon(self) -> None:
        """Cut what still reads or writes for a session that is over."""
        for transport in self._carriers:
            transport.abort()

    def part(self) -> None:
        """Let go of the WebSocket: its client has heard our goodbye, or said its own."""
        if self._farewell is not None:
            self._farewell.cancel()
        if self.outlet is not None:
            self.outlet.finish(CLOSE_TIMEOUT)
