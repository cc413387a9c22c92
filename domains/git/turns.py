"""Whose turn it is: what changes one repository comes one after the other, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from daemon.core.errand import Ended
from daemon.core.errors import Conflict

QUEUED = 100
"""Operations that wait for one repository; more are refused."""


class Turns:
    """A queue for each repository, as long as anybody is in it."""

    def __init__(self) -> None:
        """Have nobody in any."""
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, key: str, called_off: asyncio.Future[None]) -> AsyncIterator[None]:
        """Wait for one's turn and have it while this is open.

        Ended where that is `called_off` meanwhile, Conflict where too many wait.
        """
        queue = self._queues.setdefault(key, deque())
        if len(queue) > QUEUED:
            raise Conflict(f"{len(queue)} operations wait for this repository; try again later")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        if queue[0] is mine:
            mine.set_result(None)
        try:
            await asyncio.wait([mine, called_off], return_when=asyncio.FIRST_COMPLETED)
            if called_off.done():
                raise Ended("cancelled", "git")
            yield
        finally:
            had_it = queue[0] is mine
            queue.remove(mine)
            if had_it and queue:
                queue[0].set_result(None)
            if not queue:
                del self._queues[key]
