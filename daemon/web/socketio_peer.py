"""One Socket.IO client: the cursors of /ws behind the two transports of Engine.IO."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from daemon.core import frames
from daemon.core.fanout import Batch
from daemon.core.journal import ChannelLog
from daemon.web.close import CloseCode
from daemon.web.connection import CLOSE_TIMEOUT
from daemon.web.outlet import Outlet
from daemon.web.peer import Peer

log = structlog.get_logger(__name__)

PAUSE = "6"
"""Engine.IO's packet that says nothing (NOOP, protocol 4)."""

SEPARATOR = b"\x1e"
"""Between the packets of one polling answer (protocol 4)."""

REFUSALS = ("global.error", "global.subscription_error")

serving: ContextVar[web.Request] = ContextVar("serving")
"""The request that is served; the writer of a WebSocket inherits it, and so knows its socket."""


def event_packet(payload: bytes) -> bytes:
    """Put an encoded message into the packet of `emit("message", ...)`.

    4 is Engine.IO's message, 2 Socket.IO's event.
    """
    return b'42["message",%b]' % payload


class Encoder:
    """Encodes a batch once for all Socket.IO clients: the fan-out gives it to one after another."""

    def __init__(self) -> None:
        """Begin with nothing encoded."""
        self._of: Batch | None = None
        self._packets: list[bytes] = []
        self._framed: bytes | None = None

    def packets(self, batch: Batch) -> list[bytes]:
        """Give a packet for each event."""
        if batch is not self._of:
            self._of, self._framed = batch, None
            self._packets = [event_packet(frames.payload(framed)) for framed in batch.frames]
        return self._packets

    def framed(self, batch: Batch) -> bytes:
        """Give the same as WebSocket frames in a row."""
        packets = self.packets(batch)
        if self._framed is None:
            self._framed = b"".join(map(frames.frame, packets))
        return self._framed


class SocketIoPeer(Peer):
    """One client. It is *direct* while its events go straight to its WebSocket.

    Before that, while it polls, and from a `hold` on, they wait here for its turn: a packet in
    Engine.IO's queue, so that whatever was queued before it has left when the turn comes.
    """

    def __init__(
        self,
        *,
        sid: str,
        eio_sid: str,
        rate: int,
        limit: int,
        encoder: Encoder,
        queue_turn: Callable[[SocketIoPeer], None],
        see_off: Callable[[SocketIoPeer], None],
    ) -> None:
        """Let about `limit` bytes wait; `see_off` ends the connection once `code` is set."""
        super().__init__(rate=rate)
        self.sid = sid
        self.eio_sid = eio_sid
        self.reason = ""
        self.acks: dict[bytes, asyncio.Future[dict[str, Any]]] = {}
        self.outlet: Outlet | None = None
        self._limit = limit
        self._encoder = encoder
        self._queue_turn = queue_turn
        self._see_off = see_off
        self._direct = self._turn_queued = self._gone = False
        self._waiting: list[bytes] = []
        self._size = self._polled = 0
        self._polled_at = self.opened
        self._room = asyncio.Event()
        self._writer: AbstractStreamWriter

    @property
    def sent(self) -> int:
        """Give the bytes of messages that were written to it."""
        return self._polled + (self.outlet.written if self.outlet else 0)

    # The fan-out's side

    def has_room(self) -> bool:
        """Tell whether more may wait, or the WebSocket takes more now."""
        return self._size <= self._limit and (self.outlet is None or self.outlet.has_room())

    def take(self, batch: Batch) -> None:
        """Note a batch for the next push."""
        if self.code is not None:
            return
        packets = self._encoder.packets(batch)
        self._waiting += packets
        self._size += sum(map(len, packets))

    def push(self) -> None:
        """Write what was taken, or have it wait for the next turn."""
        if self._direct:
            self._write(b"".join(map(frames.frame, self._waiting)))
            self._empty()
        elif self._waiting:
            self._ask_turn()

    def give(self, batch: Batch) -> None:
        """Write one batch: the very bytes that all Socket.IO clients get."""
        if self._direct and self.code is None:
            self._write(self._encoder.framed(batch))
        else:
            self.take(batch)
            self.push()

    async def room(self) -> bool:
        """Wait until there is room; False when the client is gone."""
        while not self.has_room() and not self._lost():
            if self._size > self._limit:
                self._room.clear()
                await self._room.wait()
            elif not await self._drained():
                return False
        await asyncio.sleep(0)  # a page is a turn: others get theirs
        return not self._lost()

    def overtaken(self, where: ChannelLog) -> None:
        """Cut the client off; when it resumes, the answer says `recovered: false`."""
        log.info("connection.overtaken", connection=self.id, channel=where.name)
        self.close(CloseCode.NO_PROGRESS, "what comes next is no longer kept; resume and reload")

    # Turns

    def hold(self) -> None:
        """Have all that comes wait for a turn, which comes after what is being answered now."""
        self._direct = False
        self._ask_turn()

    def leave(self, polled: bool) -> str:  # as Engine.IO asks
        """Give what waits, at our turn; on a WebSocket all but the last is written by ourselves."""
        self._turn_queued = False
        waiting = self._waiting
        self._empty()
        if polled:
            self._polled_at = time.monotonic()
            self._polled += sum(map(len, waiting))
            return SEPARATOR.join(waiting).decode() or PAUSE
        self._direct = True
        if self.outlet is None:
            self._open_outlet()
        if not waiting:
            return PAUSE
        self._write(b"".join(map(frames.frame, waiting[:-1])))
        return waiting[-1].decode()

    def _ask_turn(self) -> None:
        if not self._turn_queued:
            self._turn_queued = True
            self._queue_turn(self)

    # Messages of the connection

    def say(self, payload: bytes) -> None:
        """Send one message."""
        packet = event_packet(payload)
        self._waiting.append(packet)
        self._size += len(packet)
        self.push()

    def answer(self, type_: str, data: bytes, *, channel: str = "global", id_: bytes = b"") -> None:
        """Acknowledge the request with this id; a refusal is told as a message, too.

        A client that asked for no acknowledgement would otherwise not learn of it.
        """
        waits = self.acks.pop(id_, None)
        if waits is not None and not waits.done():
            decoded = msgspec.json.decode(data)
            waits.set_result({"channel": channel, "type": type_, "data": decoded})
        if waits is None or type_ in REFUSALS:
            super().answer(type_, data, channel=channel)

    # The end

    def stalled(self, now: float, timeout: float) -> bool:
        """Tell whether nothing has been taken for a while though data waits."""
        if self.outlet is not None:
            self.outlet.look(now, closely=False)
            return self.outlet.stalled(now, timeout)
        if not self._size:
            self._polled_at = now
        return now - self._polled_at > timeout

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection, after what waits where that is polite."""
        if self.code is None:
            self.code, self.reason = code, reason
            self._see_off(self)

    def part(self) -> None:
        """Close the WebSocket, where there is one: Engine.IO leaves that to the client."""
        if self.outlet is not None:
            self.outlet.write(frames.close_frame(self.code or CloseCode.NORMAL, self.reason))
            self.outlet.finish(CLOSE_TIMEOUT)

    def end(self) -> None:
        """Let go of everything: the connection has ended."""
        self._gone = True
        self._room.set()

    def _lost(self) -> bool:
        return self._gone or self.code is not None

    def _empty(self) -> None:
        self._waiting, self._size = [], 0
        self._room.set()

    def _write(self, data: bytes) -> None:
        if self.outlet is not None and data:
            self.outlet.write(data)

    def _open_outlet(self) -> None:
        """Take over the WebSocket whose writer asks: the request it inherited has the transport."""
        request = serving.get()
        if request.transport is not None:
            self.outlet = Outlet(request.transport, self._limit)
            self._writer = request.writer

    async def _drained(self) -> bool:
        try:
            await self._writer.drain()
        except ConnectionError:
            return False
        return True
