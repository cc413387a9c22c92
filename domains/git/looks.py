"""The bounds of what only looks: few at once in one folder, and none for long.

A file that git reads may block it for ever: a FIFO or a device in the place of `.gitignore`, a file
on a server that does not answer. Then everybody who looks would wait, each with a process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from daemon.core.errors import Unavailable

SECONDS = 30.0
"""Time for one look, with its wait for others; `[task.kinds.git] run_timeout` says another."""

COPYING = 600.0
"""Time for one step of a snapshot, which reads all files that are new."""

AT_ONCE = 4
"""Looks at once in one folder; git uses several processors itself."""

T = TypeVar("T")


class Looks:
    """Counts the looks under way in each folder."""

    def __init__(self, allowed: float) -> None:
        """Begin with none; `allowed` are the seconds for any, 0 where that is not set."""
        self._allowed = allowed
        self._turns: dict[str, _Turn] = {}

    async def run(self, root: str, look: Coroutine[Any, Any, T], seconds: float) -> T:
        """Return what a look returns; Unavailable where it takes longer than so many seconds."""
        seconds = self._allowed or seconds
        turn = self._turns.setdefault(root, _Turn())
        turn.users += 1
        try:
            async with asyncio.timeout(seconds), turn.room:
                return await look
        except TimeoutError:
            raise Unavailable(
                f"git did not answer within {seconds:g} s in {root}; see whether a FIFO, a device "
                "or something else that blocks is in the place of a file that it reads, such as "
                ".gitignore, or allow more in [task.kinds.git] run_timeout"
            ) from None
        finally:
            look.close()  # it may never have begun
            turn.users -= 1
            if not turn.users:
                self._turns.pop(root, None)


class _Turn:
    """The looks in one folder."""

    def __init__(self) -> None:
        self.room = asyncio.Semaphore(AT_ONCE)
        self.users = 0
