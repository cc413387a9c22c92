"""Clients that have not shown a token yet: counted apart from others, and few of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

GRACE = 1.0
"""Seconds in which a client is not dropped for newer ones: it needs them to show its token."""

CEILING = 8
"""Times the limit that may be there at once, however short they have been there."""


class Unauthenticated(Generic[T]):
    """Clients of one kind without a token, in the order in which they came."""

    def __init__(self, limit: int, drop: Callable[[T], None]) -> None:
        """Keep about `limit` of them; `drop` ends one that has to make room."""
        self._limit = limit
        self._drop = drop
        self._came: dict[T, float] = {}
        self.dropped = 0

    def __len__(self) -> int:
        """Count them."""
        return len(self._came)

    def __iter__(self) -> Iterator[T]:
        """Go through them, the oldest first; they may be dropped meanwhile."""
        return iter(list(self._came))

    def add(self, client: T) -> None:
        """Count a new client, and drop the oldest where there are too many."""
        now = time.monotonic()
        self._came[client] = now
        self.make_room(now)

    def discard(self, client: T) -> None:
        """Count a client no longer: it has shown a token, or is gone."""
        self._came.pop(client, None)

    def drop(self, client: T) -> None:
        """End one, and count it no longer."""
        self.discard(client)
        self.dropped += 1
        self._drop(client)

    def make_room(self, now: float) -> None:
        """Drop the oldest while there are more than the limit; those in their grace come last."""
        while len(self._came) > self._limit:
            oldest, came = next(iter(self._came.items()))
            if now - came < GRACE and len(self._came) <= CEILING * self._limit:
                return
            self.drop(oldest)
