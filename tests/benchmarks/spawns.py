"""Two hundred programs at once and a thousand short ones, beside asyncio's own subprocesses."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fanout import create, post
from harness import Figure, Inside, daemon, percentile

from daemon.core.launcher import Launcher
from daemon.core.program import Program
from daemon.log import logging_to

AT_ONCE = 200
SHORT = 1_000
CROWD = 32
"""Short programs that are under way at once."""

PROBE = 0.002
SLEEP = ("sleep", "300")
TRUE = ("true",)

Start = Callable[[tuple[str, ...]], Awaitable[Callable[[], Awaitable[object]]]]
"""Starts a program; what it gives ends the program and waits for that."""


class Found(NamedTuple):
    """What one way to start programs has taken."""

    lags: list[float]
    seconds: float
    rate: float


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure both ways in turn, then the whole daemon."""
    ours, theirs = [], []
    with logging_to(None, level="error", file_bytes=0, files=0):
        for _ in range(1 if quick else 3):
            ours.append(asyncio.run(reapers()))
            theirs.append(asyncio.run(subprocesses()))
    yield lag("loop lag p99, 200 programs at once", ours, theirs)
    rates = [max(found.rate for found in side) for side in (ours, theirs)]
    detail = f"{CROWD} at a time, until nothing is left; asyncio: {rates[1]:.0f}"
    yield Figure("short programs", rates[0], 200, "/s", detail, larger_is_better=True)
    with daemon(AGENTCMD_TASK__MAX_RUNNING=str(AT_ONCE)) as inside:
        lags = sessions(inside)
    detail = f"over HTTP; p50 {percentile(lags, 0.5):.1f}, max {max(lags):.0f} ms"
    yield Figure("loop lag p99, 200 sessions at once", percentile(lags, 0.99), 50, "ms", detail)


def lag(name: str, ours: list[Found], theirs: list[Found]) -> Figure:
    """Compare the lags, all rounds together."""
    own, other = ([lag for found in side for lag in found.lags] for side in (ours, theirs))
    took = [min(found.seconds for found in side) for side in (ours, theirs)]
    detail = (
        f"max {max(own):.0f}; asyncio: p99 {percentile(other, 0.99):.1f}, max {max(other):.0f} ms; "
        f"all run after {took[0]:.2f} and {took[1]:.2f} s"
    )
    return Figure(name, percentile(own, 0.99), 50, "ms", detail)


async def reapers() -> Found:
    """Start them as the daemon does."""
    environ = dict(os.environ)
    async with Launcher() as launcher:

        async def start(argv: tuple[str, ...]) -> Callable[[], Awaitable[object]]:
            child = await launcher.launch(Program(argv=argv, cwd="/", env=environ))

            async def end() -> None:
                if argv == SLEEP:
                    child.kill()
                await child.empty
                child.close()

            return end

        await (await start(TRUE))()  # the spawner is up
        return await measured(start)


async def subprocesses() -> Found:
    """Start them with asyncio."""

    async def start(argv: tuple[str, ...]) -> Callable[[], Awaitable[object]]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )

        async def end() -> None:
            if argv == SLEEP:
                process.kill()
            await process.communicate()

        return end

    await (await start(TRUE))()
    return await measured(start)


async def measured(start: Start) -> Found:
    """Start two hundred at once and see how late the loop is; then time a thousand short ones."""
    lags: list[float] = []
    sampling = asyncio.ensure_future(sample(lags))
    begun = time.perf_counter()
    ends = await asyncio.gather(*(start(SLEEP) for _ in range(AT_ONCE)))
    took = time.perf_counter() - begun
    sampling.cancel()
    await asyncio.gather(*(end() for end in ends))
    room = asyncio.Semaphore(CROWD)

    async def whole() -> None:
        async with room:
            await (await start(TRUE))()

    begun = time.perf_counter()
    await asyncio.gather(*(whole() for _ in range(SHORT)))
    return Found(lags, took, SHORT / (time.perf_counter() - begun))


async def sample(lags: list[float]) -> None:
    """Note how late the loop is, in ms."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PROBE
        try:
            await asyncio.sleep(PROBE)
        finally:  # the last one counts, too: it may be the longest
            lags.append((loop.time() - due) * 1000)


def sessions(inside: Inside) -> list[float]:
    """Create as many sessions at once over HTTP, and give the lags of the daemon's loop."""
    create(inside, ["true"])
    with ThreadPoolExecutor(20) as threads:
        creating = threads.map(lambda _: create(inside, list(SLEEP)), range(AT_ONCE))
        lags: list[float] = inside.program.ask(do="lag", seconds=3)
        for session in creating:
            post(inside, f"/api/sessions/{session.partition(':')[2]}/kill", {})
    return lags
