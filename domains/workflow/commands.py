"""What can be asked of workflows and their runs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from daemon.core.events import Answer, Attachment, Command, command

CHANNEL = "workflow:run:{run_id}"

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Words = Annotated[str, Meta(max_length=4000)]


class WorkflowProblem(Answer):
    """One thing that is wrong with a file: in which `line`, and what is `allowed` there."""

    line: int
    message: str
    allowed: list[str] = field(default_factory=list)


class Workflow(Answer):
    """A workflow of a project: its `id` is its file below `.agent/workflows`, without the ending.

    `args` are JSON Schemas by name, `required` those without which no run begins. A broken file is
    listed with its `problem`, and with all `problems` that were found.
    """

    id: str
    path: str
    language: Literal["yaml", "python"]
    name: str = ""
    description: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    problem: str | None = None
    problems: list[WorkflowProblem] = field(default_factory=list)


class Workflows(Answer):
    """The workflows of a project, by name."""

    workflows: list[Workflow]


class RunEnd(Answer):
    """How a run ended; `step_id` is the step that failed, where one did."""

    type: Literal["completed", "failed", "cancelled"]
    duration_ms: int
    code: str | None = None
    message: str | None = None
    step_id: str | None = None
    output: Any = None


class Run(Answer):
    """One run. Times are in Unix seconds; `user` is the `sub` of who started it.

    States: queued, running, waiting (for an approval, an event, or a moment), paused, ended. `args`
    are those that it was started with. `digest` is that of the workflow's file as it was when it
    began: with that it goes on, whatever becomes of the file, until it is retried. `parent` is the
    run that it is a step of, or was forked from. `workspace` is where it works.
    """

    id: str
    project_id: str
    workflow: str
    name: str
    state: Literal["queued", "running", "waiting", "paused", "ended"]
    user: str
    created_at: float
    digest: str
    args: dict[str, Any] = field(default_factory=dict)
    started_at: float | None = None
    ended_at: float | None = None
    end: RunEnd | None = None
    phase: str | None = None
    phases: list[str] = field(default_factory=list)
    parent: str | None = None
    cwd: str = ""
    workspace: str = "stay"
    branch: str | None = None
    cost_usd: float | None = None
    attempt: int = 1


class StepProgress(Answer, frozen=True):
    """How far a step is: `total` and `percentage` are null while nobody knows."""

    current: float
    total: float | None
    percentage: float | None


class StepRecord(Answer, gc=False):
    """One step of a run, as it stands; a step of a step is `PARENT/INDEX/ID`.

    `state` is one of running, waiting, retrying, completed, failed, skipped, cancelled. `attempt`
    counts its tries, `interruptions` those that the end of a daemon has cut off; `result` is what
    later steps know of it. `output_bytes` is how much it has written, `progress` how far it is, or
    was when it did not come to a good end.
    """

    id: str
    kind: str
    state: str
    started_at: float
    name: str | None = None
    phase: str | None = None
    attempt: int = 1
    ended_at: float | None = None
    result: Any = None
    code: str | None = None
    message: str | None = None
    session_id: str | None = None
    child: str | None = None
    pid: int | None = None
    pid_started: int | None = None
    until: float | None = None
    output_bytes: int = 0
    continued: bool = False
    progress: StepProgress | None = None
    interruptions: int = 0
    rerun: Literal["asked", "approved", "rejected"] | None = None


class OneRun(Answer):
    """One run, and with `workflow.get` its steps in the order in which they began.

    `next_cursor` is there where there are more.
    """

    run_id: str
    run: Run
    steps: list[StepRecord] = field(default_factory=list)
    next_cursor: str | None = None


class StartedRun(Answer):
    """A run that was asked for; `created` is false where the key had started it before."""

    run_id: str
    run: Run
    created: bool


class ManyRuns(Answer):
    """Runs, newest first; `next_cursor` continues the list."""

    runs: list[Run]
    next_cursor: str | None = None


class RunState(Answer):
    """Where a run stands after a command."""

    run_id: str
    state: str


@command("workflow.list", action="read", answer=Workflows)
class ListWorkflows(Command):
    """List the workflows of a project, broken ones too. Needs `read` on the project's channel."""

    project_id: str


@command("workflow.validate", action="read", answer=Workflows)
class ValidateWorkflows(Command):
    """Read workflows anew and say what is wrong with them: one, or all of a project.

    `text` is checked instead of a file's, in that `language`, without being kept.
    """

    project_id: str
    workflow: Name | None = None
    text: Annotated[str, Meta(max_length=1 << 20)] | None = None
    language: Literal["yaml", "python"] = "yaml"


@command("workflow.start", action="write", channel="project:{project_id}", answer=StartedRun)
class StartRun(Command):
    """Start a run. With an `idempotencyKey` that was used before, it is that run that is given.

    `created` tells the two apart. Other arguments with the same key are a `conflict`.
    """

    project_id: str
    workflow: Name
    args: dict[str, Any] | None = None
    idempotency_key: Name | None = None


@command("workflow.runs", action="read", answer=ManyRuns)
class ListRuns(Command):
    """List the runs that the token may read, newest first."""

    project_id: str | None = None
    workflow: str | None = None
    state: Literal["queued", "running", "waiting", "paused", "ended"] | None = None
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


@command("workflow.get", action="read", channel=CHANNEL, answer=OneRun)
class GetRun(Command):
    """Tell about one run, with its steps: up to `limit`, and no more than some 4 MiB of results."""

    run_id: str
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=0, le=1000)] = 500


@command("workflow.cancel", action="write", channel=CHANNEL, answer=RunState, urgent=True)
class CancelRun(Command):
    """Cancel a run: what runs of it is stopped, and killed after the grace period."""

    run_id: str


@command("workflow.pause", action="write", channel=CHANNEL, answer=RunState)
class PauseRun(Command):
    """Have a run wait before its next step; the one that runs comes to its end."""

    run_id: str


@command("workflow.resume", action="write", channel=CHANNEL, answer=RunState)
class ResumeRun(Command):
    """Have a paused run go on."""

    run_id: str


@command("workflow.retry", action="write", channel=CHANNEL, answer=RunState)
class RetryRun(Command):
    """Run a run that has failed or was cancelled again from the step that failed.

    What was completed stays; the definition is the one that the file has now. Where that has
    changed, approvals are asked for again. A run of another workflow that failed inside of it is
    retried in the same way, unless the step gives it other arguments than before.
    """

    run_id: str


@command("workflow.fork", action="write", channel=CHANNEL, answer=OneRun)
class ForkRun(Command):
    """Start a new run with the results of this one up to a step, which runs anew, as what follows.

    `args` replace those of the first run. Needs `write` on the project's channel, too.
    """

    run_id: str
    step_id: Name
    args: dict[str, Any] | None = None


@command("workflow.approve", action="write", channel=CHANNEL, answer=RunState)
class ApproveStep(Command):
    """Answer a step that waits for an approval; the first answer counts, a later one is `conflict`.

    Without `stepId` it is the only one that waits.
    """

    run_id: str
    step_id: Name | None = None
    approved: bool = True
    comment: Words | None = None


@command("workflow.send_event", action="write", channel=CHANNEL, answer=RunState)
class SendEvent(Command):
    """Give a run an event by name, for a step that waits for it now or later."""

    run_id: str
    event: Name
    data: Any = None


class RunArtifact(Attachment):
    """A file that was kept with a run; over HTTP the file itself is the answer."""

    media_type: ClassVar[str] = "application/octet-stream"

    run_id: str
    name: str
    size: int


@command("workflow.artifact", action="read", channel=CHANNEL, answer=RunArtifact)
class GetArtifact(Command):
    """Tell about a file that a run has kept, by its `name`."""

    run_id: str
    name: Name
