"""How things end: a wait that a cancel does not cut short, and what is told of a run's end."""

from __future__ import annotations

import asyncio
from typing import Any

from daemon.core.events import Event
from domains.workflow.commands import Run, RunEnd
from domains.workflow.definition import Json
from domains.workflow.events import RunCancelled, RunCompleted, RunFailed
from domains.workflow.failures import RunFailure
from domains.workflow.records import Verdict


async def out(over: asyncio.Future[Any]) -> None:
    """Wait until what was told to stop has; who is cancelled meanwhile learns it afterwards.

    It is for what ends within a grace period, whoever else wants to go.
    """
    cancelled: asyncio.CancelledError | None = None
    while not over.done():
        try:
            await asyncio.wait([over])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def told(
    run: Run, now: float, output: Json, failure: RunFailure | None, verdict: Verdict | None
) -> tuple[RunEnd, Event]:
    """Give how a run has ended, for its row and for those who listen."""
    taken = max(0, round((now - (run.started_at or now)) * 1000))
    about: dict[str, Any] = {
        "run_id": run.id,
        "project_id": run.project_id,
        "duration_ms": taken,
    }
    if verdict is not None and verdict.type == "failed":
        failure = RunFailure(verdict.code, verdict.message)
    elif verdict is not None:
        end = RunEnd(type="cancelled", duration_ms=taken)
        return end, RunCancelled(**about, user=verdict.user)
    if failure is not None:
        why: dict[str, Any] = {
            "code": failure.code,
            "message": failure.message,
            "step_id": failure.step_id,
        }
        return RunEnd(type="failed", duration_ms=taken, **why), RunFailed(**about, **why)
    end = RunEnd(type="completed", duration_ms=taken, output=output)
    return end, RunCompleted(**about, output=output)
