"""Several things of a run at once, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from daemon.core.supervisor import Supervisor
from domains.workflow.failures import RunFailure


async def together(
    supervisor: Supervisor,
    name: str,
    works: Iterable[Callable[[], Awaitable[None]]],
    limit: int,
) -> None:
    """Do all, at most `limit` at once; after a RunFailure, which is raised, no further one begins.

    What has begun comes to its end; who is cancelled meanwhile cancels it.
    """
    failures: list[RunFailure] = []
    pending = iter(works)

    async def worker() -> None:
        for work in pending:
            if failures:
                return
            try:
                await work()
            except RunFailure as failure:
                failures.append(failure)

    workers = [supervisor.start(worker(), name=f"{name}:{number}") for number in range(limit)]
    try:
        await asyncio.gather(*workers)
    finally:
        await supervisor.cancel([each for each in workers if not each.done()])
    if failures:
        raise failures[0]
