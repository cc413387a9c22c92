"""What happens in a run of a workflow."""

from __future__ import annotations

from typing import Any, Literal

from daemon.core.events import Event, event
from domains.workflow.commands import Run, StepProgress

RUN = "workflow:run:{run_id}"
PROJECT = "project:{project_id}"


@event("workflow.run.created", RUN, PROJECT)
class RunCreated(Event):
    """A run was asked for; it begins at once, or when those before it let it."""

    run_id: str
    project_id: str
    run: Run


@event("workflow.run.started", RUN, PROJECT)
class RunStarted(Event):
    """A run begins, or goes on after the daemon was away: `recovered` tells the two apart."""

    run_id: str
    project_id: str
    recovered: bool = False


@event("workflow.run.updated", RUN, PROJECT)
class RunUpdated(Event):
    """A run is in another state, or has more usage; `position` 1 in the queue is next."""

    run_id: str
    project_id: str
    state: str
    position: int | None = None
    cost_usd: float | None = None


@event("workflow.run.completed", RUN, PROJECT)
class RunCompleted(Event):
    """A run came to its end; `output` is what a Python workflow returned."""

    run_id: str
    project_id: str
    duration_ms: int
    output: Any = None


@event("workflow.run.failed", RUN, PROJECT)
class RunFailed(Event):
    """A run ended with a step that failed, or for a reason of its own.

    `code` is the step's, or one of timeout, replaced, too_many_steps, too_large, too_deep,
    bad_expression, internal; of a Python workflow exception, died, protocol, too_many_open, too.
    """

    run_id: str
    project_id: str
    code: str
    message: str
    duration_ms: int
    step_id: str | None = None


@event("workflow.run.cancelled", RUN, PROJECT)
class RunCancelled(Event):
    """Somebody cancelled a run; nothing of it runs any more."""

    run_id: str
    project_id: str
    duration_ms: int
    user: str | None = None


@event("workflow.run.paused", RUN, PROJECT)
class RunPaused(Event):
    """A run waits before its next step, until somebody resumes it."""

    run_id: str
    project_id: str
    user: str | None = None


@event("workflow.run.resumed", RUN, PROJECT)
class RunResumed(Event):
    """A run that was paused goes on."""

    run_id: str
    project_id: str
    user: str | None = None


@event("workflow.run.phase.started", RUN)
class PhaseStarted(Event):
    """The first step of a phase is about to begin."""

    run_id: str
    phase: str


@event("workflow.run.phase.completed", RUN)
class PhaseCompleted(Event):
    """A phase is over, because another begins or the run ends."""

    run_id: str
    phase: str
    duration_ms: int


@event("workflow.run.step.started", RUN)
class StepStarted(Event):
    """A step begins; `attempt` 1 is the first."""

    run_id: str
    step_id: str
    kind: str
    attempt: int = 1
    name: str | None = None
    phase: str | None = None


@event("workflow.run.step.progress", RUN)
class StepProgressed(Event):
    """How far a step is: of a for-each how many items are done, of others what they say.

    A step is told of at most five times a second, and once more where it ends.
    """

    run_id: str
    step_id: str
    progress: StepProgress


@event("workflow.run.step.output", RUN)
class StepOutput(Event):
    """What a step has written; `offset` is where it begins in its stream, in bytes.

    Each `attempt` has streams of its own.

    As `text` it is what an agent says and which tools it uses, in short; all of it is told on the
    channel of the session `session_id`.
    """

    run_id: str
    step_id: str
    stream: Literal["stdout", "stderr", "text"]
    content: str
    offset: int
    session_id: str | None = None
    attempt: int = 1


@event("workflow.run.step.completed", RUN)
class StepCompleted(Event):
    """A step did what it was to do; `result` is what later steps know of it."""

    run_id: str
    step_id: str
    duration_ms: int
    attempt: int = 1
    result: Any = None


@event("workflow.run.step.failed", RUN)
class StepFailed(Event):
    """A step did not; the run goes on where that was `continued`."""

    run_id: str
    step_id: str
    code: str
    message: str
    duration_ms: int
    attempt: int = 1
    continued: bool = False
    result: Any = None


@event("workflow.run.step.skipped", RUN)
class StepSkipped(Event):
    """A step was left out, for its condition does not hold."""

    run_id: str
    step_id: str
    reason: str


@event("workflow.run.step.retrying", RUN)
class StepRetrying(Event):
    """A step has failed and is tried again after a delay; `attempt` is the next one."""

    run_id: str
    step_id: str
    attempt: int
    delay_ms: int
    message: str


@event("workflow.run.step.waiting", RUN, PROJECT)
class StepWaiting(Event):
    """A step waits for somebody or something: an approval, an event, a moment.

    One that was interrupted, and is to ask, waits for an approval before it runs again. `until` is
    when that ends, in Unix seconds.
    """

    run_id: str
    project_id: str
    step_id: str
    waits_for: Literal["approval", "event", "time"]
    message: str | None = None
    event: str | None = None
    until: float | None = None
    attempt: int = 1


@event("workflow.run.annotation", RUN)
class RunAnnotated(Event):
    """A remark on a run: a step's, or the daemon's own where it had to decide something."""

    run_id: str
    message: str
    level: Literal["info", "warning", "error"] = "info"
    step_id: str | None = None


@event("workflow.run.artifact", RUN)
class ArtifactKept(Event):
    """A file was kept with the run; `href` is where it can be had."""

    run_id: str
    step_id: str
    name: str
    size: int
    href: str
