"""Several things of a run at once, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from domains.workflow.failures import RunFailure
from domains.workflow.live import LiveRun
from domains.workflow.progress import progress_of

Work = Callable[[], Awaitable[None]]


async def together(
    live: LiveRun, step_id: str, works: Iterable[Work], *, total: int, limit: int
) -> None:
    """Do what a step is made of, at most `limit` at once; how many are done is its progress.

    After a RunFailure, which is raised, no further one begins; what has begun comes to its end. Who
    is cancelled meanwhile cancels it.
    """
    failures: list[RunFailure] = []
    pending = iter(works)
    done = 0

    async def worker() -> None:
        nonlocal done
        for work in pending:
            if failures:
                return
            try:
                await work()
            except RunFailure as failure:
                failures.append(failure)
            else:
                done += 1
                live.timeline.progress(step_id, progress_of(done, total))

    if total:
        live.timeline.progress(step_id, progress_of(0, total))
    name = f"workflow:run:{live.run.id}"
    workers = [
        live.supervisor.start(worker(), name=f"{name}:{number}")
        for number in range(min(limit, total))
    ]
    try:
        await asyncio.gather(*workers)
    finally:
        await live.supervisor.cancel([each for each in workers if not each.done()])
    if failures:
        raise failures[0]
