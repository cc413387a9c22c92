"""Deadlines that a suspend does not postpone, and a wall clock that jumps does not hasten.

What is told to people is wall time, `time.time()`; what is deleted by age follows the calendar.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

LOOK: Final = 5.0
"""Seconds between two looks at the clocks: timers of the loop stand still in a suspend."""

STEADY: Final = 10.0
"""Seconds for which the wall clock has to be past a deadline before that alone ends a wait."""


def boottime() -> float:
    """Return the seconds since the machine's start, those in which it was suspended included."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Deadline:
    """A moment of the wall clock that somebody waits for.

    It has come when as much time has passed as was missing at first. A clock that is set forward
    brings it nearer only when it stays so for `STEADY` seconds; one that is set back postpones it
    not at all.
    """

    def __init__(self, until: float) -> None:
        """Wait for this time, in Unix seconds."""
        self._until = until
        self._due = boottime() + until - time.time()
        self._ahead: float | None = None

    def pause(self) -> float:
        """Return the seconds after which to ask again; 0 when the moment has come."""
        now = time.monotonic()
        if time.time() < self._until:
            self._ahead = None
        elif self._ahead is None:
            self._ahead = now
        elif now - self._ahead >= STEADY:
            return 0.0
        return min(max(0.0, self._due - boottime()), LOOK)


async def wait_until(until: float) -> None:
    """Wait for a moment, given in Unix seconds."""
    deadline = Deadline(until)
    while pause := deadline.pause():  # noqa: ASYNC110  # no clock tells that it was set
        await asyncio.sleep(pause)
