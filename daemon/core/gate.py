"""Back-pressure: pumps stop reading their children while the disk is behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

READ_BYTES = 64 << 10
"""What one read takes at the most; larger ones gained nothing from a pipe of 1 MiB."""

FAIR_BYTES = 4 << 10
"""What each pump may read however many there are."""


class Gate:
    """Closed while more than `limit` bytes wait for the disk; opens again at a quarter of it."""

    def __init__(self, pending: Callable[[], int], limit: int) -> None:
        """Watch how many bytes are pending."""
        self.limit = limit
        self.pumps = 0
        self._pending = pending
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def closed(self) -> bool:
        """Tell a pump to wait instead of reading on."""
        return self._pending() > self.limit

    @property
    def share(self) -> int:
        """Bytes that one pump may read at a time: its part of the limit."""
        return max(FAIR_BYTES, min(READ_BYTES, self.limit // max(1, self.pumps)))

    def wait(self, resume: Callable[[], None]) -> None:
        """Call a pump back once, in turn, when there is room."""
        self._waiting.append(resume)

    def forget(self, resume: Callable[[], None]) -> None:
        """Do not call back a pump that has ended meanwhile."""
        if resume in self._waiting:
            self._waiting.remove(resume)

    def open(self) -> None:
        """Let waiting pumps go on, in the order in which they came, once there is room."""
        if self._waiting and self._pending() <= self.limit // 4:
            waiting, self._waiting = self._waiting, deque()
            for resume in waiting:
                resume()
