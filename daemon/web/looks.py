"""Looks at all clients, now and then, and what of the time between two was no silence of theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator


async def looks(pace: float) -> AsyncGenerator[tuple[float, float], None]:
    """Give, every `pace` seconds, the time, and for how long nobody could be heard before it.

    A process that was stopped, or whose loop was blocked, finds all clients silent and stalled,
    with what they have sent meanwhile still to be read.
    """
    while True:
        due = time.monotonic() + pace
        await asyncio.sleep(pace)
        now = time.monotonic()
        late = now - due
        yield now, late if late > pace else 0.0
