"""Steps that the end of a daemon has cut off: they run again, fail, or somebody is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from domains.workflow.commands import StepRecord
from domains.workflow.definition import Spec
from domains.workflow.events import StepWaiting
from domains.workflow.failures import StepFailure

if TYPE_CHECKING:
    from domains.workflow.live import LiveRun

Repeats = Callable[["LiveRun", StepRecord], Awaitable[bool]]
"""Returns whether a step that goes on may do again what it did before it was cut off."""

ACTS = frozenset({"agent", "run", "git", "artifact", "python"})
"""Kinds that may do something twice; a child run is started once, and goes on by itself."""

CODE = "interrupted"


async def take_up(live: LiveRun, spec: Spec, repeats: Repeats) -> None:
    """Decide what becomes of a step that was cut off; StepFailure where it is not to run again."""
    cut = live.timeline.cut_off(spec.id)
    if cut is None or spec.kind not in ACTS or cut.kind != spec.kind:
        return
    if cut.rerun is None:
        if not await repeats(live, cut):
            return
        asked = "asked" if spec.on_interrupt == "ask" else None
        cut = live.timeline.interrupt(cut, rerun=asked, pid=None, pid_started=None)
        if spec.on_interrupt == "fail":
            why = "it was interrupted when the daemon ended, and is not to run again"
            raise StepFailure(CODE, why, permanent=True)
        if asked is None:
            said = f"interrupted when the daemon ended: it runs again, as attempt {cut.attempt}"
            live.annotate(said, "warning", spec.id)
    if cut.rerun == "asked":
        await _answer(live, spec)
    if live.timeline[spec.id].rerun == "rejected":
        why = "it was interrupted when the daemon ended, and somebody refused that it runs again"
        raise StepFailure(CODE, why, permanent=True)


async def _answer(live: LiveRun, spec: Spec) -> None:
    """Wait until somebody has said whether the step runs again; the answer is on disk then."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    live.answers[spec.id] = answer
    record = live.timeline.note(spec.id, state="waiting", until=None)
    live.bus.emit(
        StepWaiting(
            run_id=live.run.id,
            project_id=live.run.project_id,
            step_id=spec.id,
            waits_for="approval",
            message=f"The step {spec.id} was interrupted when the daemon ended. Run it again?",
            attempt=record.attempt,
        )
    )
    try:
        with live.waiting():
            await asyncio.wait([answer])
    finally:
        live.answers.pop(spec.id, None)
