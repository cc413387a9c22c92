"""The pace of all runs: they take turns, so that those that never wait hold up nobody else."""

from __future__ import annotations

import asyncio
from collections import deque

from daemon.core.gate import Gate

SLICE = 0.001
"""Seconds that a run may do one step after the other before others have their turn."""

TURNS = 2
"""Runs that are let on in one turn of the loop."""


class Pace:
    """Lets runs on, a few in each turn of the loop, first come, first served.

    None while the disk is behind: what they would write meanwhile is memory.
    """

    def __init__(self, gate: Gate) -> None:
        """Let the first ones on at once."""
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._left = TURNS
        self._scheduled = False

    async def turn(self) -> float:
        """Wait for a turn; gives until when it lasts, in the loop's time."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next)
        if self._left > 0 and not self._waiting and not self._gate.closed:
            self._left -= 1
        else:
            turn = self._loop.create_future()
            self._waiting.append(turn)
            await turn
        return self._loop.time() + SLICE

    def _next(self) -> None:
        if self._gate.closed:
            self._gate.wait(self._next)
            return
        self._scheduled = self._left < TURNS or bool(self._waiting)
        self._left = TURNS
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever was cancelled needs none
                turn.set_result(None)
                self._left -= 1
        if self._scheduled:
            self._loop.call_soon(self._next)
