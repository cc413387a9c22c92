"""One WebSocket client: its cursors, what waits for its socket, its limits and its end."""

from __future__ import annotations

import asyncio
import fcntl
import secrets
import struct
import termios
import time
from collections.abc import Callable
from typing import Annotated

import structlog
from aiohttp import WSMsgType, web

from daemon.core import frames
from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError
from daemon.core.events import Event
from daemon.core.fanout import Batch, Subscriber
from daemon.core.journal import ChannelLog
from daemon.core.section import Bytes, Seconds, Section, described
from daemon.web.messages import Error

log = structlog.get_logger(__name__)

NORMAL = 1000
TOO_BIG = 1009
RESTART = 1012
BAD_MESSAGE = 4400
UNAUTHORIZED = 4401
REFUSED = 4403
NO_PROGRESS = 4408
TOO_MANY = 4409
RATE_LIMIT = 4429

STRIKES = 3
"""Bad messages until a connection is closed."""

MAX_REASON = 120
"""Bytes; a control frame carries 125, two of them the code (RFC 6455, section 5.5)."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a peer has to take our close frame and answer it, before it is cut."""


class WebSettings(Section):
    """Limits of the connections."""

    max_connections: Annotated[int, described("Open connections in all", ge=1)] = 1000
    max_subscriptions: Annotated[int, described("Subscriptions of one connection", ge=1)] = 256
    max_message_bytes: Annotated[Bytes, described("Largest message that a client may send")] = (
        1 << 20
    )
    messages_per_second: Annotated[int, described("Messages of one connection", ge=1)] = 200
    max_commands: Annotated[int, described("Commands of one connection under way", ge=1)] = 64
    heartbeat: Annotated[Seconds, described("Seconds between two pings")] = 25.0
    peer_timeout: Annotated[Seconds, described("Seconds of silence that end a connection")] = 60.0
    stall_timeout: Annotated[
        Seconds, described("Seconds without a byte taken, with data waiting, that end a connection")
    ] = 10.0
    buffer_bytes: Annotated[
        Bytes, described("Bytes buffered for one socket beyond the kernel's")
    ] = 256 << 10
    reconnect_ms: Annotated[
        int, described("Spread of the reconnect delay that a drain asks for, in ms", ge=0)
    ] = 2000


class Connection(Subscriber):
    """One client. Frames are written to the transport as they are: shared bytes, no copies."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        *,
        buffer_bytes: int,
        rate: int,
    ) -> None:
        """Take over a prepared WebSocket; it must not compress, since shared frames do not."""
        super().__init__()
        self.id = secrets.token_hex(6)
        self.caller: Caller | None = None
        self.code: int | None = None
        self.strikes = 0
        self.commands = 0
        self.on_renewal: Callable[[Caller], None] = lambda _: None
        self.opened = self.heard_at = self.pinged_at = self.progress_at = time.monotonic()
        self.received = 0
        self.written = 0
        self._taken = self._left = 0
        self._ws = ws
        self._transport = transport
        self._limit = buffer_bytes
        self._out: list[bytes] = []
        self._rate = rate
        self._allowance = float(rate)
        self._counted_at = self.opened
        self._excess = 0.0
        self._farewell: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=buffer_bytes, low=buffer_bytes // 4)

    # The fan-out's side

    def has_room(self) -> bool:
        """Tell whether the socket takes more now; one that is lost says yes, and takes nothing."""
        return self._transport.get_write_buffer_size() <= self._limit

    def take(self, batch: Batch) -> None:
        """Note a batch for the next push."""
        self._out.append(batch.joined)

    def push(self) -> None:
        """Write what was taken, in one call."""
        out, self._out = self._out, []
        self.write(b"".join(out))

    def give(self, batch: Batch) -> None:
        """Write one batch: the very bytes that all others get. The hot path of every event."""
        if self.code is None:
            data = batch.joined
            self.written += len(data)
            self._transport.write(data)

    async def room(self) -> bool:
        """Wait until the socket takes more; False when it is gone."""
        if not self.has_room():
            try:
                # With writer_limit=0 this awaits the transport; the peer ignores the empty PONG.
                await self._ws.send_frame(b"", WSMsgType.PONG)
            except (ConnectionError, RuntimeError):
                return False
        await asyncio.sleep(0)  # a page is a turn: others get theirs
        return not self._transport.is_closing() and not self._ws.closed

    def overtaken(self, where: ChannelLog) -> None:
        """Cut the client off; when it resumes, the answer says `recovered: false`."""
        log.info("connection.overtaken", connection=self.id, channel=where.name)
        self.cut(NO_PROGRESS, "what comes next is no longer kept; resume and reload")

    # Writing

    def write(self, data: bytes) -> None:
        """Write frames that are whole; a lost socket swallows them, and its handler ends."""
        if self.code is None:
            self.written += len(data)
            self._transport.write(data)

    def send(self, message: Event, *, channel: str = "global", id_: bytes = b"") -> None:
        """Send one message of the connection itself."""
        encoded = frames.encode(message)
        self.answer(message.__event__.name, encoded, channel=channel, id_=id_)

    def answer(self, type_: str, data: bytes, *, channel: str = "global", id_: bytes = b"") -> None:
        """Send an answer with its encoded data."""
        self.write(frames.frame(frames.answer(type_, data, channel=channel, id_=id_)))

    def refuse(self, error: AgentcmdError, *, channel: str = "global", id_: bytes = b"") -> None:
        """Send the error as `global.error`."""
        message = Error(code=error.code, message=error.message, details=error.details)
        self.send(message, channel=channel, id_=id_)

    # Limits

    def over_rate(self) -> bool:
        """Count one message; True when it is over the limit."""
        now = time.monotonic()
        passed, self._counted_at = now - self._counted_at, now
        self._allowance = min(float(self._rate), self._allowance + passed * self._rate)
        self._excess = max(0.0, self._excess - passed * self._rate)
        if self._allowance >= 1.0:
            self._allowance -= 1.0
            return False
        self._excess += 1.0
        return True

    @property
    def flooding(self) -> bool:
        """Tell whether a second's worth of messages has come over the limit, less what passed."""
        return self._excess >= self._rate

    def stalled(self, now: float, timeout: float) -> bool:
        """Tell whether the socket has taken nothing for a while though data waits.

        What the kernel has not got rid of counts as waiting: it asks for more in steps of about a
        third of its buffer, and a reader may need a minute for that.
        """
        waiting = self._transport.get_write_buffer_size()
        left = waiting
        if waiting or now - self.heard_at > timeout:  # else there is no need to ask the kernel
            left += _in_kernel(self._transport)
        taken = self.written - left
        moving = taken > self._taken
        if moving and self._left:
            self.heard_at = now  # our pings wait behind the data: who takes that is there
        if moving or not waiting:
            self.progress_at = now
        self._taken, self._left = taken, left
        return now - self.progress_at > timeout

    def ping(self) -> None:
        """Send a ping, unless the socket is full: then its progress tells enough."""
        if self.has_room():
            self.write(b"\x89\x00")

    def pong(self, payload: bytes) -> None:
        """Answer the client's ping (RFC 6455, section 5.5.3)."""
        self.write(bytes((0x8A, len(payload))) + payload)

    # The end

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; the peer has CLOSE_TIMEOUT seconds to answer before it is cut."""
        if self.code is None:
            self._say_close(code, reason)
            loop = asyncio.get_running_loop()
            self._farewell = loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def cut(self, code: int, reason: str) -> None:
        """Write the close frame if there is room, and end the connection at once."""
        if self.code is not None:
            return
        self._say_close(code, reason)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def end(self) -> None:
        """Let go of the socket; what is written still leaves, if the peer takes it soon."""
        if self._farewell is not None:
            self._farewell.cancel()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _say_close(self, code: int, reason: str) -> None:
        payload = struct.pack("!H", code) + reason.encode()[:MAX_REASON]
        self.write(bytes((0x88, len(payload))) + payload)
        self.code = code


def _in_kernel(transport: asyncio.Transport) -> int:
    """Give the bytes that the kernel holds and the peer has not taken (tcp(7), SIOCOUTQ)."""
    try:
        left = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except (OSError, AttributeError):
        return 0  # not every system tells, nor does a socket that is closed
    return int(struct.unpack("i", left)[0])
