"""Locks by key: those who ask for the same thing come one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLocks:
    """A lock for each key, as long as anybody holds it or waits for it."""

    def __init__(self) -> None:
        """Have nobody ask yet."""
        self._asked: dict[tuple[str, ...], _Asked] = {}

    @asynccontextmanager
    async def held(self, *key: str) -> AsyncIterator[None]:
        """Hold the lock of a key while this is open."""
        asked = self._asked.setdefault(key, _Asked())
        asked.count += 1
        try:
            async with asked.lock:
                yield
        finally:
            asked.count -= 1
            if not asked.count:
                del self._asked[key]


class _Asked:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.count = 0
