"""How long one callback held the event loop, and how much memory was taken meanwhile."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

TICK = 0.002

TRIES = 4

T = TypeVar("T")

HELD = 0.05
"""Seconds for which one turn may hold the loop, on a machine as quick as that of `CONTROL`."""

CONTROL = 0.005
"""Seconds of `_control` on it; at other hours the same machine takes up to three times as long."""


def allowed() -> float:
    """Return the seconds for which a turn may hold the loop on this machine, now."""
    return HELD * max(1.0, min(_control() for _ in range(5)) / CONTROL)


def _control() -> float:
    began = time.thread_time()
    total = 0
    for number in range(200_000):
        total += number & 7
    return time.thread_time() - began


@dataclass
class Held:
    """The longest turn in seconds of the loop's own CPU time, and the bytes taken."""

    seconds: float = 0.0
    bytes: int = 0


@asynccontextmanager
async def loop_watch() -> AsyncIterator[Held]:
    """Watch the running loop; the result is complete when the block has ended.

    Turns of the loop are seen from a task that wakes every 2 ms. What the loop's thread computed
    between two of its turns is what others had to wait for.
    """
    held = Held()
    gc.collect()
    before = _resident()
    watcher = asyncio.create_task(_watch(held))
    await asyncio.sleep(0)
    try:
        yield held
        await asyncio.sleep(3 * TICK)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        held.bytes = max(held.bytes, _resident()) - before


async def least_held(work: Callable[[], Awaitable[T]]) -> tuple[T, Held]:
    """Do some work, again where the loop was held for too long; return what it came to, and both.

    What holds the loop does so each time. What another try does not have was of something else,
    such as a collection of all garbage of the tests before.
    """
    for _ in range(TRIES):
        async with loop_watch() as held:
            result = await work()
        if held.seconds < allowed():
            break
    return result, held


async def _watch(held: Held) -> None:
    last = time.thread_time()
    while True:
        await asyncio.sleep(TICK)
        now = time.thread_time()
        held.seconds = max(held.seconds, now - last)
        held.bytes = max(held.bytes, _resident())
        last = now


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
