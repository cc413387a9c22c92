"""One WebSocket client: its cursors, what waits for its socket, its limits and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from daemon.core import frames
from daemon.core.channel_log import Batch, ChannelLog
from daemon.web.close import CloseCode
from daemon.web.outlet import Outlet
from daemon.web.peer import Peer

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds that a peer has to take our close frame and answer it, before it is cut."""


class Connection(Peer):
    """One client. Frames are written to the transport as they are: shared bytes, no copies."""

    takes_binary = True

    def __init__(
        self,
        transport: asyncio.Transport,
        drain: Callable[[], Awaitable[None]],
        *,
        buffer_bytes: int,
        rate: int,
    ) -> None:
        """Write to this transport; `drain` waits until it takes more, or raises ConnectionError."""
        super().__init__(rate=rate)
        self.heard_at = self.pinged_at = time.monotonic()
        self._drain = drain
        self._outlet = Outlet(transport, buffer_bytes)
        self._out: list[bytes] = []
        self._farewell: asyncio.TimerHandle | None = None

    @property
    def sent(self) -> int:
        """Give the bytes that were written to the socket."""
        return self._outlet.written

    # The fan-out's side

    def has_room(self) -> bool:
        """Tell whether the socket takes more now."""
        return self._outlet.has_room()

    def take(self, batch: Batch) -> None:
        """Note a batch for the next push."""
        self._out.append(batch.joined_for(self))

    def push(self) -> None:
        """Write what was taken, in one call."""
        out, self._out = self._out, []
        self.write(b"".join(out))

    def give(self, batch: Batch) -> None:
        """Write one batch: the very bytes that all others get. The hot path of every event."""
        if self.code is None:
            self._outlet.write(batch.joined_for(self))

    async def room(self) -> bool:
        """Wait until the socket takes more; False when it is gone."""
        if not self.has_room():
            try:
                await self._drain()
            except ConnectionError:
                return False
        await asyncio.sleep(0)  # a page is a turn: others get theirs
        return self.code is None and not self._outlet.transport.is_closing()

    def overtaken(self, where: ChannelLog) -> None:
        """Cut the client off; when it resumes, the answer says `recovered: false`."""
        log.info("connection.overtaken", connection=self.id, channel=where.name)
        self.cut(CloseCode.NO_PROGRESS, "what comes next is no longer kept; resume and reload")

    # Writing

    def write(self, data: bytes) -> None:
        """Write frames that are whole."""
        if self.code is None:
            self._outlet.write(data)

    def say(self, payload: bytes) -> None:
        """Send one message."""
        self.write(frames.frame(payload))

    def ping(self) -> None:
        """Send a ping, unless the socket is full: then its progress tells enough."""
        if self.has_room():
            self.write(b"\x89\x00")

    def pong(self, payload: bytes) -> None:
        """Answer the client's ping."""
        self.write(frames.pong_frame(payload))

    def excuse(self, now: float, deaf: float) -> None:
        """Count no silence and no stall for the seconds in which it could not be heard."""
        self.heard_at = min(now, self.heard_at + deaf)
        self._outlet.excuse(now, deaf)

    def stalled(self, now: float, timeout: float) -> bool:
        """Tell whether the socket has taken nothing for a while though data waits."""
        if self._outlet.look(now, closely=now - self.heard_at > timeout):
            self.heard_at = now  # our pings wait behind the data: who takes that is there
        return self._outlet.stalled(now, timeout)

    # The end

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the peer has CLOSE_TIMEOUT seconds to answer before it is cut."""
        if self.code is None:
            self._say_close(code, reason)
            loop = asyncio.get_running_loop()
            self._farewell = loop.call_later(CLOSE_TIMEOUT, self._outlet.abort)

    def cut(self, code: CloseCode, reason: str) -> None:
        """Write the close frame if there is room, and end the connection at once."""
        if self.code is not None:
            return
        self._say_close(code, reason)
        if self._outlet.transport.get_write_buffer_size():
            self._outlet.abort()
        else:
            self._outlet.transport.close()

    def end(self) -> None:
        """Let go of the socket; what is written still leaves, if the peer takes it soon."""
        if self._farewell is not None:
            self._farewell.cancel()
        self._outlet.finish(CLOSE_TIMEOUT)

    def _say_close(self, code: int, reason: str) -> None:
        self.write(frames.close_frame(code, reason))
        self.code = code
