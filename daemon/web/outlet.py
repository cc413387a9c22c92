"""A socket as the fan-out writes to it: shared bytes, no copies, and a watch on what is taken."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
import time

from aiohttp import web

WRITE_BYTES = 16 << 10
"""Bytes of one write of `write_patiently`."""


class Outlet:
    """The writing side of one transport. Whoever else writes to it does so in whole frames."""

    __slots__ = ("_left", "_limit", "_taken", "progress_at", "transport", "written")

    def __init__(self, transport: asyncio.Transport, limit: int) -> None:
        """Let about `limit` bytes wait beyond what the kernel takes."""
        self.transport = transport
        self.written = 0
        self.progress_at = time.monotonic()
        self._taken = self._left = 0
        self._limit = limit
        transport.set_write_buffer_limits(high=limit, low=limit // 4)

    def has_room(self) -> bool:
        """Tell whether the socket takes more now; one that is lost says yes, and takes nothing."""
        return self.transport.get_write_buffer_size() <= self._limit

    def write(self, data: bytes) -> None:
        """Write frames that are whole; a lost socket swallows them, and its handler ends."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return  # it is lost; asyncio would drop this as well, and warn again and again
        self.written += len(data)
        self.transport.write(data)

    def look(self, now: float, *, closely: bool) -> bool:
        """Note what the peer has taken; True when some of what waited at the last look is gone.

        What the kernel has not got rid of counts as waiting: it asks for more in steps of about a
        third of its buffer, and a reader may need a minute for that. Where nothing waits here the
        kernel is asked only when looking `closely`.
        """
        waiting = self.transport.get_write_buffer_size()
        left = waiting
        if waiting or closely:
            left += _in_kernel(self.transport)
        taken = self.written - left
        moving = taken > self._taken
        caught_up = moving and self._left > 0
        if moving or not waiting:
            self.progress_at = now
        self._taken, self._left = taken, left
        return caught_up

    def excuse(self, now: float, deaf: float) -> None:
        """Count no stall for the seconds in which nothing could be written."""
        self.progress_at = min(now, self.progress_at + deaf)

    def stalled(self, now: float, timeout: float) -> bool:
        """Tell whether nothing was taken for so many seconds though data waits."""
        return now - self.progress_at > timeout

    def abort(self) -> None:
        """Cut the socket at once."""
        self.transport.abort()

    def finish(self, patience: float) -> None:
        """Let what is written leave within so many seconds, and close."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(patience, self.transport.abort)


async def write_patiently(response: web.StreamResponse, data: bytes, patience: float) -> None:
    """Write to an HTTP response; TimeoutError when nothing of it is taken for so many seconds.

    Each small write has the whole time, so that a slow reader is not taken for dead.
    """
    for start in range(0, len(data), WRITE_BYTES):
        async with asyncio.timeout(patience):
            await response.write(data[start : start + WRITE_BYTES])
        await asyncio.sleep(0)  # the kernel may take all of it, and a piece is a turn


def _in_kernel(transport: asyncio.Transport) -> int:
    """Give the bytes that the kernel holds and the peer has not taken (tcp(7), SIOCOUTQ)."""
    try:
        left = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except (OSError, ValueError, AttributeError):
        return 0  # not every system tells, nor does a socket that is closed: its number is -1
    return int(struct.unpack("i", left)[0])
