"""A stream cut into lines of any length, up to a limit that no honest line reaches."""

from __future__ import annotations

from collections.abc import Iterator


class Lines:
    """Collects chunks into lines; one over the limit is passed over to its newline, and counted."""

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` bytes of a line that is not whole."""
        self.overlong = 0
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Give the lines that a chunk makes whole, each without its newline."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._hold(chunk[start:end])
            start = end + 1
            line = self._whole()
            if line is not None:
                yield line
        self._hold(chunk[start:])

    def close(self) -> bytes | None:
        """Give what is left without a newline, None where that is nothing."""
        return self._whole() or None

    def _hold(self, part: bytes) -> None:
        if self._skipping:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._limit:
            self._skipping = True
            self._parts.clear()

    def _whole(self) -> bytes | None:
        line = None if self._skipping else b"".join(self._parts)
        self.overlong += self._skipping
        self._skipping = False
        self._parts.clear()
        self._size = 0
        return line
