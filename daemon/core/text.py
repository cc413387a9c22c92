"""A child's text on its way into events: whole lines, many at a time, and nothing lost.

The pieces that come out, joined, are the bytes that went in, decoded as UTF-8 across every border;
what is no UTF-8 becomes U+FFFD.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable

PIECE_BYTES = 32 << 10
"""Bytes of the largest piece, besides up to three held back of a character that was not whole yet.

A longer line comes in several pieces, of which only the last ends in a newline.
"""

PACE = 0.004
"""Seconds between two pieces while lines come fast; the first of a burst leaves at once."""

PROMPT = 0.05
"""Seconds of silence after which an unfinished line is told, because it may be a prompt."""


class TextStream:
    """Collects one stream's chunks into pieces."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Hand each piece to `tell`."""
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = b""
        self._told_at = 0.0
        self._fed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, chunk: bytes) -> None:
        """Take a chunk as it was read."""
        data = self._rest + chunk if self._rest else chunk
        start = 0
        while len(data) - start >= PIECE_BYTES:
            end = data.rfind(b"\n", start, start + PIECE_BYTES) + 1 or start + PIECE_BYTES
            self._piece(data[start:end])
            start = end
        self._rest = data[start:] if start else data
        if not self._rest:
            return
        self._fed_at = now = self._loop.time()
        if self._due(now) <= now:
            self._tell_lines()
        self._wake_later()

    def flush(self) -> None:
        """Tell the whole lines that wait, because something after them is about to be told."""
        self._tell_lines()

    def close(self) -> None:
        """Tell the rest; the stream has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        rest, self._rest = self._rest, b""
        text = self._decoder.decode(rest, final=True)
        if text:
            self._tell(text)

    def _due(self, now: float) -> float:
        """Tell when something of the rest may leave."""
        if b"\n" in self._rest:
            return max(now, self._told_at + PACE)
        return self._fed_at + PROMPT

    def _wake_later(self) -> None:
        if not self._rest:
            return
        due = self._due(self._loop.time())
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()  # it was set for a prompt, and a whole line has come since
        self._timer = self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._rest and b"\n" not in self._rest and now >= self._fed_at + PROMPT:
            rest, self._rest = self._rest, b""
            self._piece(rest)
        elif self._rest and self._due(now) <= now:
            self._tell_lines()
        self._wake_later()

    def _tell_lines(self) -> None:
        end = self._rest.rfind(b"\n") + 1
        if end:
            lines, self._rest = self._rest[:end], self._rest[end:]
            self._piece(lines)

    def _piece(self, data: bytes) -> None:
        self._told_at = self._loop.time()
        text = self._decoder.decode(data)
        if text:  # nothing yet of a character whose first bytes these are
            self._tell(text)
