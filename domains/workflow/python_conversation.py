"""What is said between a run and the process of its workflow, whose steps the engine does."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from daemon.core.environment import child_environment
from daemon.core.errors import Conflict, Unavailable
from daemon.core.ids import new_id
from daemon.core.lines import Lines
from daemon.core.program import Program
from daemon.core.task import Task, Tasks, TaskSettings
from daemon.core.text import TextStream
from domains.workflow.definition import NESTED, Json, Retries, Spec, is_too_deep
from domains.workflow.endings import out
from domains.workflow.events import StepOutput
from domains.workflow.failures import RunFailure, StepFailure
from domains.workflow.interpreter import INSIDE, Effects
from domains.workflow.live import LiveRun
from domains.workflow.progress import progress_of
from domains.workflow.python_wire import (
    FIELDS,
    HERE,
    LINE_BYTES,
    OPEN,
    OWN,
    Answer,
    Begin,
    Call,
    Done,
    Drop,
    End,
    Failed,
    Progress,
    Said,
    Start,
    Stop,
    Told,
)
from domains.workflow.timeline import SETTLED

log = structlog.get_logger(__name__)

KIND = "workflow"
"""What its task is called, in `[task.kinds.workflow]` too."""

OUTPUT_BYTES = 1 << 20
"""What is told of what the process prints; it has steps for what is to be kept."""

LAST_WORDS = 1000
"""Characters of it that are told as the reason where the process ends by itself."""

LINGER = 2.0
"""Seconds that the process has to end when its workflow has."""

PACE = 0.02
"""Seconds until answers are offered again to a process that is too busy to read them."""

_RUNNER = str(Path(__file__).with_name("runner.py"))

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Said).decode


class Open(NamedTuple):
    """A step that the process has asked for; `ends` are those of its tries that are done there."""

    spec: Spec
    work: asyncio.Task[None]
    ends: list[asyncio.Future[End]]


class Conversation:
    """What is said between a run and its process; the owner of that one's task."""

    def __init__(self, live: LiveRun, effects: Effects) -> None:
        """Say nothing yet; steps are done by these effects."""
        loop = asyncio.get_running_loop()
        self._live = live
        self._effects = effects
        self._verdict: asyncio.Future[Done | RunFailure] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()
        self._open: dict[int, Open] = {}
        self._answers: asyncio.Queue[Told] = asyncio.Queue()
        self._lines = Lines(LINE_BYTES)
        self._errors = TextStream(self._tell)
        self._written = 0
        self._last = ""
        self._task: Task

    async def hold(self, tasks: Tasks, limits: TaskSettings) -> Json:
        """Have the process run from its start to its end."""
        live = self._live
        self._task = Task(
            id_=new_id(),
            kind=KIND,
            channel=f"workflow:run:{live.run.id}",
            user=live.run.user,
            program=Program(
                argv=[sys.executable, "-P", _RUNNER],
                cwd=live.folder(),
                env=child_environment(os.environ, configured=live.definition.env),
                stdin=True,
            ),
            owner=self,
            limits=limits,
            apart=True,  # it waits for its steps, which need the slots
        )
        tasks.start(self._task)
        name = f"workflow:run:{live.run.id}:answers"
        answers = live.supervisor.start(self._answer_all(), name=name)
        try:
            await asyncio.wait([self._verdict])
            await asyncio.wait([self._over], timeout=LINGER)
        finally:
            self._verdict.cancel()  # where there is none yet: what it asks for now comes too late
            self._task.stop()
            rest = [answers, *(each.work for each in self._open.values())]
            for each in rest:
                each.cancel()
            await out(asyncio.gather(self._over, *rest, return_exceptions=True))
        verdict = self._verdict.result()
        if live.stopping and isinstance(verdict, RunFailure):  # the next daemon goes on with it
            await asyncio.get_running_loop().create_future()
        self._let_go()
        if isinstance(verdict, RunFailure):
            raise verdict
        return verdict.output

    def _let_go(self) -> None:
        """Write down that what nobody waited for was cut off by the end."""
        for each in self._open.values():
            self._cut_off(each.spec)

    def _cut_off(self, spec: Spec) -> None:
        known = self._live.timeline.get(spec.id)
        if known is not None and known.state not in (*SETTLED, "cancelled"):
            self._live.timeline.cancel(spec.id)

    # The owner of the task

    def queued(self, place: int) -> None:
        """Never wait."""

    def started(self, task: Task) -> None:
        """Tell the process what it is to run."""
        run, definition = self._live.run, self._live.definition
        start = Start(
            source=definition.source,
            path=definition.path,
            run_id=run.id,
            project_id=run.project_id,
            cwd=run.cwd,
            attempt=run.attempt,
            args={name: run.args[name] for name in definition.args if name in run.args},
            phases=list(definition.phases),
        )
        task.expect_output(expected=False)
        self._write(_encode(start))

    def output(self, stream: str, data: bytes) -> None:
        """Hear the process, and tell what it prints."""
        if stream == "stderr":
            self._errors.feed(data)
            return
        for line in self._lines.feed(data):
            self._hear(line)
        if self._lines.overlong:
            self._break(f"a line was longer than {LINE_BYTES:,} bytes")

    def ended(self, task: Task) -> None:
        """Learn that nothing of it runs any more."""
        self._errors.close()
        if not self._verdict.done():
            self._verdict.set_result(self._why(task))
        self._over.set_result(None)

    def _why(self, task: Task) -> RunFailure:
        if task.failure is not None:
            return RunFailure(task.failure.code, task.failure.message)
        code = "died" if task.reason in {"exited", "signaled"} else task.reason or "lost"
        how = task.message or f"it was {task.reason}"
        if task.reason == "exited" and task.exit is not None:
            how = f"it exited with code {task.exit.code}"
        elif task.reason == "signaled" and task.exit is not None:
            how = f"signal {task.exit.signal} killed it"
        words = f": {self._last.strip()}" if self._last.strip() else ""
        return RunFailure(code, f"the workflow's process ended before the workflow: {how}{words}")

    def _tell(self, text: str) -> None:
        self._last = (self._last + text)[-LAST_WORDS:]
        offset, self._written = self._written, self._written + len(text.encode())
        if offset >= OUTPUT_BYTES:
            return
        if self._written >= OUTPUT_BYTES:
            text += f"\n(more than {OUTPUT_BYTES:,} bytes; the rest is not told)\n"
        self._live.bus.emit(
            StepOutput(
                run_id=self._live.run.id,
                step_id=OWN,
                stream="stderr",
                content=text,
                offset=offset,
            )
        )

    # What the process says

    def _hear(self, line: bytes) -> None:
        if self._verdict.done():
            return
        try:
            said = _decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            self._break(str(error))
            return
        match said:
            case Call():
                self._call(said)
            case End():
                self._end(said)
            case Progress():
                self._progressed(said)
            case Drop():
                self._drop(said)
            case Done():
                self._verdict.set_result(said)
            case Failed():
                self._verdict.set_result(RunFailure(said.code, said.message, said.step_id))

    def _break(self, why: str) -> None:
        self._fail(RunFailure("protocol", f"the workflow's process is not understood: {why}"))

    def _fail(self, failure: RunFailure) -> None:
        if not self._verdict.done():
            self._verdict.set_result(failure)
            self._task.stop()

    def _call(self, said: Call) -> None:
        if said.number in self._open or len(self._open) >= 2 * OPEN:
            self._break(f"step {said.id} is one too many")
        elif said.kind not in FIELDS or said.id == OWN:
            self._break(f"step {said.id} of the kind {said.kind}")
        elif said.phase is not None and said.phase not in self._live.definition.phases:
            self._break(f"the phase {said.phase}")
        else:
            options = said.options
            spec = Spec(
                id=said.id,
                kind=said.kind,
                name=options.name,
                phase=said.phase,
                timeout=None if said.kind == "approve" else options.timeout,
                retries=Retries(max=options.retries, backoff=options.backoff),
                continue_on_error=not options.check,
                on_interrupt=options.on_interrupt,
                outside=said.kind not in INSIDE,
            )
            work = self._live.supervisor.start(
                self._perform(said, spec), name=f"workflow:run:{self._live.run.id}:{said.id}"
            )
            self._open[said.number] = Open(spec, work, [])

    def _end(self, said: End) -> None:
        step = self._open.get(said.number)
        if step is not None and len(step.ends) == said.attempt and not step.ends[-1].done():
            step.ends[-1].set_result(said)

    def _progressed(self, said: Progress) -> None:
        if (step := self._open.get(said.number)) is not None:
            self._live.timeline.progress(step.spec.id, progress_of(said.current, said.total))

    def _drop(self, said: Drop) -> None:
        if (step := self._open.get(said.number)) is not None:
            step.work.cancel()

    # Steps

    async def _perform(self, said: Call, spec: Spec) -> None:
        try:
            msgspec.convert(said.fields, FIELDS[said.kind])
            record = await self._live.perform(spec, lambda: self._effect(said))
            answer = Answer(said.number, record.result, record.code, record.message)
        except RunFailure as failure:
            known = self._live.timeline.settled(spec.id)
            result = known.result if known is not None else None
            answer = Answer(
                said.number, result, failure.code, failure.message, spec.id, raises=True
            )
        except asyncio.CancelledError:
            if not self._verdict.done() and not self._live.stopping:  # nobody waits any more
                self._cut_off(spec)
                del self._open[said.number]
            raise
        except msgspec.ValidationError as error:
            self._break(f"step {spec.id}: {error}")
            return
        except Exception as error:
            log.exception("workflow.broke", run=self._live.run.id)
            self._fail(RunFailure("internal", f"the daemon failed here: {error!r}", spec.id))
            return
        del self._open[said.number]
        self._answers.put_nowait(answer)

    async def _effect(self, said: Call) -> Json:
        if said.kind in HERE:
            return await self._there(said)
        fields = dict(said.fields)
        if said.kind == "wait-for":
            fields["names"] = {"args": self._live.run.args}
        elif said.kind == "approve":
            fields["timeout"] = said.options.timeout
        return await self._effects[said.kind](self._live, said.id, fields)

    async def _there(self, said: Call) -> Json:
        """Have a step done in the process, and give what it says that it came to."""
        ends = self._open[said.number].ends
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        ends.append(ended)
        self._answers.put_nowait(Begin(said.number, len(ends)))
        try:
            end = await ended
        except asyncio.CancelledError:
            self._answers.put_nowait(Stop(said.number))
            raise
        if end.code is not None:
            raise StepFailure(end.code, end.message, permanent=said.kind != "python")
        if is_too_deep(end.result):
            why = f"its result is nested too deeply; allowed: {NESTED} levels"
            raise StepFailure("too_deep", why)
        return end.result

    # What it is told

    async def _answer_all(self) -> None:
        """Tell it one thing after another, each when it has read most of what was before."""
        while True:
            line = _encode(await self._answers.get())
            while not self._write(line):  # noqa: ASYNC110  # a feed tells nobody that it has room
                await asyncio.sleep(PACE)

    def _write(self, line: bytes) -> bool:
        """Write a line; False where it has too much to read already."""
        process = self._task.process
        try:
            if process is not None and process.feed is not None:
                process.feed.write(line + b"\n")
        except Unavailable:
            return False
        except Conflict:
            log.debug("workflow.gone", run=self._live.run.id)
        return True
