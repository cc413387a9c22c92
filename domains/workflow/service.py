"""The workflow service: what clients ask of workflows and their runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, handles
from daemon.core.errors import BadRequest, Conflict, NotFound
from daemon.core.journal import Journal
from daemon.core.listing import number_of, page_of
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks, TaskSettings
from domains.workflow import python_file
from domains.workflow.commands import (
    ApproveStep,
    CancelRun,
    ForkRun,
    GetArtifact,
    GetRun,
    ListRuns,
    ListWorkflows,
    ManyRuns,
    OneRun,
    PauseRun,
    ResumeRun,
    RetryRun,
    RunArtifact,
    RunState,
    SendEvent,
    StartedRun,
    StartRun,
    ValidateWorkflows,
    Workflows,
)
from domains.workflow.definition import NESTED, Json, is_too_deep
from domains.workflow.engine import Engine
from domains.workflow.failures import RunFailure
from domains.workflow.interpreter import Effects, Interpreter
from domains.workflow.interruptions import answer
from domains.workflow.library import Library, Source
from domains.workflow.live import LiveRun
from domains.workflow.python_run import PythonRuns
from domains.workflow.rendering import ON_LOOP
from domains.workflow.steps.artifact import Artifacts
from domains.workflow.steps.child import ChildRuns
from domains.workflow.steps.command import Commands
from domains.workflow.steps.commanding import Dispatch, Others
from domains.workflow.steps.waiting import Waits
from domains.workflow.workspaces import Workspaces


class Projects(Protocol):
    """What workflows need of the projects."""

    def root(self, project_id: str) -> str:
        """Give the folder of a project; NotFound for an unknown one."""


class WorkflowService:
    """Answers clients; the engine runs."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        tasks: Tasks,
        supervisor: Supervisor,
        project: Projects,
        commands: Dispatch,
        task_settings: TaskSettings,
        state_dir: Path,
    ) -> None:
        """Run workflows in these projects."""
        self._journal = journal
        self._supervisor = supervisor
        self._projects = project
        self._library = Library({"python": python_file.read})
        self._artifacts = Artifacts(state_dir / "artifacts", base_path=journal.base_path)
        self._engine = Engine(
            bus=bus,
            journal=journal,
            supervisor=supervisor,
            library=self._library,
            root=project.root,
            stopping=lambda: tasks.stopping,
        )
        others, waits = Others(commands, bus), Waits(ON_LOOP)
        self._workspaces = Workspaces(others, self._engine.records)
        self._effects: Effects = {
            "run": Commands(tasks, task_settings).run,
            "agent": others.agent,
            "git": others.git,
            "approve": waits.approve,
            "wait-for": waits.wait_for,
            "sleep": waits.sleep,
            "workflow": ChildRuns(self._engine).run,
            "annotation": annotate,
            "artifact": self._artifacts.keep,
        }
        self._python = PythonRuns(self._effects, tasks, task_settings, around=self._around)
        self._engine.attach(self._body, self._workspaces.release, others.repeats)

    async def recover(self) -> None:
        """Go on with what was under way when the daemon last ended."""
        self._journal.on_forget(self._forget)
        silent, live = await self._engine.records.silent(), self._engine.live
        self._journal.vouch(
            "workflow:run", lambda run_id: run_id in live or run_id in silent, keeps=True
        )
        await self._workspaces.recover()
        await self._engine.recover()

    def _forget(self, channel: str) -> None:
        """Drop the files of a run that is forgotten; one that goes on still has them."""
        prefix, _, run_id = channel.rpartition(":")
        if prefix == "workflow:run" and run_id not in self._engine.live:
            self._supervisor.start(self._drop(run_id), name=f"{channel}:files")

    async def _drop(self, run_id: str) -> None:
        await self._artifacts.drop(run_id)
        await self._workspaces.drop(run_id)

    # What there is

    @handles(ListWorkflows)
    async def list(self, command: ListWorkflows, caller: Caller) -> Workflows:
        """List the workflows of a project."""
        caller.require("read", f"project:{command.project_id}")
        return await self._described(
            await self._library.sources(self._projects.root(command.project_id))
        )

    @handles(ValidateWorkflows)
    async def validate(self, command: ValidateWorkflows, caller: Caller) -> Workflows:
        """Say what is wrong with workflows."""
        caller.require("read", f"project:{command.project_id}")
        root = self._projects.root(command.project_id)
        if command.text is not None:
            name, language = command.workflow or "text", command.language
            path = f"{name}.{'py' if language == 'python' else language}"
            sources = [Source(name, path, language, command.text.encode())]
        elif command.workflow is not None:
            sources = [await self._library.need(root, command.workflow)]
        else:
            sources = await self._library.sources(root)
        return await self._described(sources)

    # Runs

    @handles(StartRun)
    async def start(self, command: StartRun, caller: Caller) -> StartedRun:
        """Start a run."""
        run, created = await self._engine.start(
            command.project_id,
            command.workflow,
            command.args,
            user=caller.sub,
            key=f"={command.idempotency_key}" if command.idempotency_key else None,
        )
        return StartedRun(run_id=run.id, run=run, created=created)

    @handles(ListRuns)
    async def runs(self, command: ListRuns, caller: Caller) -> ManyRuns:
        """List the runs that the token may read."""
        found, further = await page_of(
            lambda before, size: self._engine.records.page(command, before, size),
            lambda each: caller.may("read", f"workflow:run:{each.id}"),
            cursor=command.cursor,
            limit=command.limit,
        )
        return ManyRuns(runs=found, next_cursor=further)

    @handles(GetRun)
    async def get(self, command: GetRun, _: Caller) -> OneRun:
        """Tell about one run."""
        run, steps, further = await self._engine.told(
            command.run_id, number_of(command.cursor), command.limit
        )
        return OneRun(
            run_id=run.id,
            run=run,
            steps=steps,
            next_cursor=None if further is None else str(further),
        )

    @handles(CancelRun)
    async def cancel(self, command: CancelRun, caller: Caller) -> RunState:
        """Cancel a run."""
        live = await self._need_live(command.run_id)
        live.cancel(caller.sub)
        await asyncio.wait([live.over])
        return await self._state(live)

    @handles(PauseRun)
    async def pause(self, command: PauseRun, caller: Caller) -> RunState:
        """Have a run wait before its next step."""
        live = await self._need_live(command.run_id)
        for each in (live, *self._engine.nesting.inside(live.run.id)):
            each.pause(caller.sub)
        return await self._state(live)

    @handles(ResumeRun)
    async def resume(self, command: ResumeRun, caller: Caller) -> RunState:
        """Have a paused run go on."""
        live = await self._need_live(command.run_id)
        for each in (live, *self._engine.nesting.inside(live.run.id)):
            each.resume(caller.sub)
        return await self._state(live)

    @handles(RetryRun)
    async def retry(self, command: RetryRun, caller: Caller) -> RunState:
        """Run again from the step that failed."""
        return await self._state(await self._engine.retry(command.run_id, caller.sub))

    @handles(ForkRun)
    async def fork(self, command: ForkRun, caller: Caller) -> OneRun:
        """Start a new run with what this one came to before a step."""
        earlier = await self._engine.run(command.run_id)
        caller.require("write", f"project:{earlier.project_id}")  # as one who starts a run
        run = await self._engine.fork(earlier, command.step_id, command.args, caller.sub)
        return OneRun(run_id=run.id, run=run)

    @handles(ApproveStep)
    async def approve(self, command: ApproveStep, caller: Caller) -> RunState:
        """Answer a step that waits for an approval."""
        live = await self._need_live(command.run_id)
        open_ = [id_ for id_, answer in live.answers.items() if not answer.done()]
        step_id = command.step_id or (open_[0] if len(open_) == 1 else None)
        if step_id is None:
            which = ", ".join(open_) or "none"
            raise Conflict(f"which step is meant? These wait for an approval: {which}")
        if step_id not in open_:
            if live.timeline.get(step_id) is None:
                raise NotFound(f"the run has no step {step_id[:80]!r} that has begun")
            raise Conflict(f"the step {step_id[:80]!r} has been answered, or waits for nobody")
        said = {"approved": command.approved, "user": caller.sub, "comment": command.comment}
        answer(live, step_id, said)
        return await self._state(live)

    @handles(SendEvent)
    async def send_event(self, command: SendEvent, _: Caller) -> RunState:
        """Give a run an event."""
        live = await self._need_live(command.run_id)
        if is_too_deep(command.data):
            raise BadRequest(f"the data is nested too deeply; allowed: {NESTED} levels")
        live.inbox.put(command.event, command.data)
        return await self._state(live)

    @handles(GetArtifact)
    async def artifact(self, command: GetArtifact, _: Caller) -> RunArtifact:
        """Tell about a file that a run has kept."""
        path, size = await self._artifacts.find(command.run_id, command.name)
        return RunArtifact(run_id=command.run_id, name=command.name, size=size, path=path)

    # Inside

    async def _body(self, live: LiveRun) -> Json:
        await self._workspaces.prepare(live)
        if live.definition.language == "python":
            output = await self._python.run(live)
            if is_too_deep(output):
                said = f"what it returned is nested too deeply; allowed: {NESTED} levels"
                raise RunFailure("too_deep", said)
            return output
        return await Interpreter(live, self._effects).run()

    def _around(self, run_id: str) -> Iterator[LiveRun]:
        for outer in self._engine.nesting.around(run_id):
            if (live := self._engine.live.get(outer)) is not None:
                yield live

    async def _described(self, sources: Sequence[Source]) -> Workflows:
        return Workflows(
            workflows=await asyncio.to_thread(
                lambda: [self._library.described(each) for each in sources]
            )
        )

    async def _need_live(self, run_id: str) -> LiveRun:
        live = self._engine.live.get(run_id)
        if live is None:
            run = await self._engine.run(run_id)
            raise Conflict(f"the run {run.id} has ended")
        return live

    async def _state(self, live: LiveRun) -> RunState:
        await self._journal.flushed()
        return RunState(run_id=live.run.id, state=live.run.state)


async def annotate(live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
    """Tell a remark of the workflow's."""
    live.annotate(str(fields["annotation"]), fields["level"], step_id)
    return {}


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    journal: Journal,
    tasks: Tasks,
    supervisor: Supervisor,
    project: Projects,
    commands: Dispatch,
    task_settings: TaskSettings,
    state_dir: Path,
) -> AsyncIterator[WorkflowService]:
    """Open the workflow service, and go on with what was under way."""
    service = WorkflowService(
        bus=bus,
        journal=journal,
        tasks=tasks,
        supervisor=supervisor,
        project=project,
        commands=commands,
        task_settings=task_settings,
        state_dir=state_dir,
    )
    await service.recover()
    yield service
