"""A client that speaks messages, whatever its door: who it is, its limits, and its answers."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated

import msgspec
import structlog

from daemon.core import frames
from daemon.core.channel_log import Subscribed
from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError, BadMessage
from daemon.core.events import Event
from daemon.core.fanout import Subscriber
from daemon.core.section import Bytes, Seconds, Section, described
from daemon.web.close import CloseCode
from daemon.web.messages import Error, SubscriptionSuccess

log = structlog.get_logger(__name__)

STRIKES = 3
"""Bad messages until a connection is closed."""


class WebSettings(Section):
    """Limits of the connections."""

    max_connections: Annotated[int, described("Open connections with a token", ge=1)] = 1000
    max_unauthenticated: Annotated[
        int,
        described("Connections without a token yet, apart from others; the oldest go first", ge=1),
    ] = 128
    unauthenticated_bytes: Annotated[
        int, described("Largest message or body of a connection without a token yet", ge=1024)
    ] = 16 << 10
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
    socketio: Annotated[bool, described("Serve Socket.IO clients at /socket.io/")] = True


class Peer(Subscriber):
    """One client. A door fills in how a message leaves, and how the connection ends."""

    takes_binary = False
    """Whether the door has frames for bytes."""

    def __init__(self, *, rate: int) -> None:
        """Allow `rate` messages a second."""
        super().__init__()
        self.caller: Caller | None = None
        self.code: int | None = None
        self.strikes = 0
        self.commands = 0
        self.looks: set[asyncio.Task[None]] = set()
        self.received = 0
        self.on_renewal: Callable[[Caller], None] = lambda _: None
        self.opened = self._counted_at = time.monotonic()
        self._rate = rate
        self._allowance = float(rate)
        self._excess = 0.0

    def admit(self, caller: Caller) -> None:
        """Let a caller in, or renew one; what it asks for comes from this connection."""
        self.caller = msgspec.structs.replace(caller, connection=self.id)

    def may_write(self, channel: str) -> bool:
        """Tell whether its token grants that."""
        return self.caller is not None and self.caller.may("write", channel)

    def resynced(self, told: Subscribed) -> None:
        """Say that a subscription goes on later, as after one that could not be recovered."""
        self.send(SubscriptionSuccess.of(told), channel=told.channel)

    # The door's side

    @abstractmethod
    def say(self, payload: bytes) -> None:
        """Send one encoded message."""

    @abstractmethod
    def close(self, code: CloseCode, reason: str) -> None:
        """Say goodbye and end the connection; a second time changes nothing."""

    @property
    @abstractmethod
    def sent(self) -> int:
        """Give the bytes that were written to it."""

    # Answers

    def answer(self, type_: str, data: bytes, *, channel: str = "global", id_: bytes = b"") -> None:
        """Send an answer with its encoded data."""
        self.say(frames.answer(type_, data, channel=channel, id_=id_))

    def send(self, message: Event, *, channel: str = "global", id_: bytes = b"") -> None:
        """Send one message of the connection itself."""
        encoded = frames.encode(message)
        self.answer(message.__event__.name, encoded, channel=channel, id_=id_)

    def refuse(self, error: AgentcmdError, *, channel: str = "global", id_: bytes = b"") -> None:
        """Send the error as `global.error`."""
        message = Error(code=error.code, message=error.message, details=error.details)
        self.send(message, channel=channel, id_=id_)

    def log_end(self, door: str, code: int | None, reason: str = "") -> None:
        """Log the end of the connection, with what passed, and end its looks."""
        for look in self.looks:
            look.cancel()
        log.info(
            "connection.closed",
            connection=self.id,
            user=self.caller.sub if self.caller else None,
            door=door,
            code=code,
            reason=reason,
            sent=self.sent,
            received=self.received,
            seconds=round(time.monotonic() - self.opened, 3),
        )

    # Limits

    def strike(self, error: BadMessage, *, id_: bytes = b"") -> None:
        """Answer what is no message; the third time ends the connection."""
        self.strikes += 1
        if self.strikes < STRIKES:
            self.refuse(error, id_=id_)
        else:
            self.close(CloseCode.BAD_MESSAGE, error.message)

    def over_rate(self, cost: float = 1.0) -> bool:
        """Count one message; True when it is over the limit."""
        now = time.monotonic()
        back, self._counted_at = (now - self._counted_at) * self._rate, now
        self._allowance += back
        if self._allowance > self._rate:
            self._allowance = float(self._rate)
        if self._excess:
            self._excess = max(0.0, self._excess - back)
        if self._allowance >= cost:
            self._allowance -= cost
            return False
        self._excess += cost
        return True

    @property
    def flooding(self) -> bool:
        """Tell whether a second's worth of messages has come over the limit, less what passed."""
        return self._excess >= self._rate
