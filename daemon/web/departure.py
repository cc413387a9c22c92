"""A client that goes away while its request is answered, where nobody else needs the answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROBE = 0.5
PROBE_MOST = 8.0
"""Seconds before the first probe of a client that has closed its side, and at most between two."""

ECHO = 0.1
"""Seconds after a probe in which a client that is gone is mostly heard of; else the next fails."""

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What a client passes over before its answer (RFC 9110, 15.2), and the kernel of one that is gone
rejects: to close a connection and to close one's side of it look the same until something is sent.
"""


class Departure:
    """Whether the client of one connection has left; at most one request waits for that."""

    def __init__(self) -> None:
        """Begin with a client that is there."""
        self._on_gone: Callable[[], object] | None = None
        self._gone = False
        self._half_closed: asyncio.Transport | None = None
        self._probes = False
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def ending(self, end: Callable[[], object], *, probes: bool) -> Iterator[None]:
        """Call `end` when the client leaves while this is open.

        One that has closed its side may still read: `probes` has it asked.
        """
        self._on_gone, self._probes = end, probes
        self._probe_later(PROBE)
        if self._gone:
            end()
        try:
            yield
        finally:
            self._on_gone = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def half_close(self, transport: asyncio.Transport | None) -> None:
        """Record that the client has closed its side of this transport."""
        self._half_closed = transport
        self._probe_later(PROBE)

    def leave(self) -> None:
        """Record that the client is gone."""
        self._gone, self._half_closed = True, None
        if self._on_gone is not None:
            self._on_gone()

    def _probe_later(self, seconds: float) -> None:
        if self._half_closed is not None and self._on_gone is not None and self._probes:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self._probe, self._half_closed, seconds)

    def _probe(self, transport: asyncio.Transport, seconds: float) -> None:
        transport.write(INTERIM)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(ECHO, self._hear, transport, seconds)

    def _hear(self, transport: asyncio.Transport, seconds: float) -> None:
        """Look for what the probe has brought: nobody reads a side that is closed."""
        if _has_failed(transport):
            transport.abort()
        else:
            self._probe_later(min(2 * seconds, PROBE_MOST))


def _has_failed(transport: asyncio.Transport) -> bool:
    connected = transport.get_extra_info("socket")
    return connected is not None and bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
