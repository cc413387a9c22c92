"""How the functions of a workflow in Python are called: one by a step, or several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Tell = Callable[[float, float | None], None]
"""Tells how far a step is: what is done of it, and of how much."""

Work = Callable[[Tell], Awaitable[Any]]
"""What a step does here."""


def called(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call it; a future cannot hold StopIteration, and who waits for it would wait for ever."""
    try:
        return function(*args)
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration") from error


async def together(
    works: Sequence[Callable[[], Awaitable[Any]]], limit: int, tell: Tell | None
) -> list[Any]:
    """Do several things, at most `limit` at once; after a failure no further one begins."""
    given: list[Any] = [None] * len(works)
    failures: list[BaseException] = []
    pending = iter(enumerate(works))
    done = 0

    def count() -> None:
        if tell is not None and works:
            tell(done, len(works))

    async def worker() -> None:
        nonlocal done
        for at, work in pending:
            if failures:
                return
            try:
                given[at] = await work()
            except (Exception, SystemExit) as failure:  # noqa: BLE001  # it is the block's
                failures.append(failure)
            else:
                done += 1
                count()

    count()
    await asyncio.gather(*(worker() for _ in range(min(limit, max(1, len(works))))))
    if failures:
        raise failures[0]
    return given
