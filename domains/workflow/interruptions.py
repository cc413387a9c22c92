"""Steps that the end of a daemon has cut off: they run again, fail, or somebody is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from domains.workflow.commands import StepRecord
from domains.workflow.definition import Json, Spec
from domains.workflow.events import StepWaiting
from domains.workflow.failures import StepFailure

if TYPE_CHECKING:
    from domains.workflow.live import LiveRun

Repeats = Callable[["LiveRun", StepRecord], Awaitable[bool]]
"""Returns whether a step that goes on may do again what it did before it was cut off."""

ACTS = frozenset({"agent", "run", "git", "artifact", "python"})
"""Kinds that may do something twice; a child run is started once, and goes on by itself."""

CODE = "interrupted"


async def take_up(live: LiveRun, spec: Spec, repeats: Repeats) -> StepRecord | None:
    """Decide what becomes of a step if it was cut off; StepFailure where it ends with that.

    Return the step as it stands then.
    """
    cut = live.timeline.cut_off(spec.id)
    if cut is None or spec.kind not in ACTS or cut.kind != spec.kind:
        return live.timeline.get(spec.id)
    if cut.rerun is None:
        if not await repeats(live, cut):
            return cut
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
    return live.timeline[spec.id]


def answer(live: LiveRun, step_id: str, said: dict[str, Json]) -> None:
    """Write down what was answered to a step that waits for it, and have it go on."""
    if live.timeline[step_id].rerun == "asked":
        how: Literal["approved", "rejected"] = "approved" if said["approved"] else "rejected"
        live.timeline.note(step_id, rerun=how)
        comment = f": {said['comment']}" if said["comment"] else ""
        live.annotate(f"{said['user']} {how} that it runs again{comment}", "info", step_id)
    else:
        live.timeline.note(step_id, result=said)
    live.answers[step_id].set_result(said)


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
        with live.counted(spec), live.waiting():
            await asyncio.wait([answer])
    finally:
        live.answers.pop(spec.id, None)
