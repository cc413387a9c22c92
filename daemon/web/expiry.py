"""The end of a token in the middle of a connection: a warning, then 4401."""

from __future__ import annotations

import asyncio
import time

from daemon.core.commands import Caller
from daemon.core.errors import Unauthorized
from daemon.web.close import CloseCode
from daemon.web.messages import TokenExpiring
from daemon.web.peer import Peer


class Expiry:
    """Warns a connection before its token expires, and ends it when it has."""

    def __init__(self, peer: Peer, warning: float) -> None:
        """Watch one connection."""
        self._peer = peer
        self._warning = warning
        self._timers: list[asyncio.TimerHandle] = []

    def arm(self, caller: Caller) -> None:
        """Set the timers anew, for this token."""
        self.disarm()
        loop = asyncio.get_running_loop()
        left = caller.expires_at - time.time()
        self._timers = [
            loop.call_later(max(0.0, left - self._warning), self._warn, caller.expires_at),
            loop.call_later(max(0.0, left), self._end),
        ]

    def disarm(self) -> None:
        """Stop watching."""
        for timer in self._timers:
            timer.cancel()

    def _warn(self, expires_at: float) -> None:
        self._peer.send(TokenExpiring(expires_at=expires_at))

    def _end(self) -> None:
        self._peer.refuse(Unauthorized("the token has expired; connect with a fresh one"))
        self._peer.close(CloseCode.UNAUTHORIZED, "unauthorized")
