"""The engine: begins runs and goes on with them, whoever wrote them and whatever was killed.

Its port is small, so that another engine may stand here: `start`, `retry`, `fork`, `recover` for
runs; `LiveRun.perform`, `waiting` and `inbox` for what is in them; `LiveRun.cancel` for their end.
What it keeps are our own rows of runs and steps, from which clients read, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound, Unavailable
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from daemon.core.supervisor import Supervisor
from domains.workflow import arguments
from domains.workflow.commands import Run, StepRecord
from domains.workflow.concurrency import Key, Lanes
from domains.workflow.definition import Concurrency, Definition, Json
from domains.workflow.events import RunCreated
from domains.workflow.expressions import Expressions
from domains.workflow.failures import RunFailure
from domains.workflow.interruptions import Repeats
from domains.workflow.keyed_locks import KeyedLocks
from domains.workflow.library import Library, Source
from domains.workflow.live import LiveRun
from domains.workflow.nesting import Nesting
from domains.workflow.pace import Pace
from domains.workflow.records import RunRecords, Stored
from domains.workflow.templates import BadExpression
from domains.workflow.timeline import passed, without_approvals

log = structlog.get_logger(__name__)

Body = Callable[[LiveRun], Awaitable[Json]]
"""Does all the steps of a run, and gives what it comes to."""

Release = Callable[[LiveRun], Awaitable[None]]

MOST = 10_000
"""Runs that have not ended; they are in memory."""


class Engine:
    """Live runs are in memory, ended ones on disk only."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        supervisor: Supervisor,
        library: Library,
        root: Callable[[str], str],
        stopping: Callable[[], bool],
    ) -> None:
        """Run what the library has; `root` gives a project's folder.

        `stopping` tells whether the daemon stops: then nothing that fails is a fault of its own.
        """
        self.records = RunRecords(journal)
        self.live: dict[str, LiveRun] = {}
        self.nesting = Nesting(self.live)
        self.recovered = asyncio.Event()
        self._bus = bus
        self._journal = journal
        self._supervisor = supervisor
        self._library = library
        self._root = root
        self._stopping = stopping
        self._lanes = Lanes()
        self._pace = Pace(journal.gate)
        self._locks = KeyedLocks()
        self._body: Body
        self._release: Release
        self._repeats: Repeats

    def attach(self, body: Body, release: Release, repeats: Repeats) -> None:
        """Set the callables that run steps, release a workspace and tell what may be repeated."""
        self._body, self._release, self._repeats = body, release, repeats

    async def start(
        self,
        project_id: str,
        workflow: str,
        args: Json,
        *,
        user: str,
        key: str | None = None,
        parent: str | None = None,
    ) -> tuple[Run, bool]:
        """Start a run; with a `key` that was used before, it is that run that is given, and False.

        Conflict where a client used the key with other arguments.
        """
        root = self._root(project_id)
        if key is None:
            return await self._start_by(root, project_id, workflow, args, user, None, parent), True
        async with self._locks.held("start", project_id, workflow, key):
            known = await self.records.once(project_id, workflow, key)
            if known is not None:
                if key.startswith("=") and not await self._is_asked_by(
                    await self._stored(known.id), args
                ):  # a client's
                    raise Conflict("this key started a run with other arguments: choose another")
                live = self.live.get(known.id)
                return (live.run if live is not None else known), False
            return await self._start_by(root, project_id, workflow, args, user, key, parent), True

    async def _is_asked_by(self, stored: Stored, args: Json) -> bool:
        """Return whether a run has these arguments, defaults filled in."""
        definition, _ = await self._definition(stored)
        try:
            checked = await asyncio.to_thread(arguments.check, definition, args)
        except BadRequest:
            return False
        return bool(checked == stored.run.args)

    async def _start_by(
        self,
        root: str,
        project_id: str,
        workflow: str,
        args: Json,
        user: str,
        key: str | None,
        parent: str | None,
    ) -> Run:
        source = await self._library.need(root, workflow)
        definition = await asyncio.to_thread(self._library.read, source)
        checked = await asyncio.to_thread(arguments.check, definition, args)
        await self._pace.turn()  # many may be started at once
        run = self._new(definition, project_id, user, checked, parent)
        return await self._start(run, source, definition, key, [], outer=parent)

    async def retry(self, run_id: str, user: str) -> LiveRun:
        """Run an ended run again from the step that failed, by what its file is now."""
        async with self._locks.held("retry", run_id):
            if run_id in self.live:
                raise Conflict("the run has not ended; cancel it first")
            stored = await self._stored(run_id)
            if stored.run.end is not None and stored.run.end.type == "completed":
                raise Conflict("the run came to its end; fork it from the step that is to run anew")
            return self._retry(stored, *await self._as_it_is_now(stored.run), user, None)

    async def take_up(
        self, run_id: str, args: Json, outer: LiveRun, taken: Callable[[], object]
    ) -> bool:
        """Retry a run for another one that waits for it, unless it is under way or came to its end.

        `taken` is called in one commit with that. False where it has other arguments than these.
        """
        async with self._locks.held("retry", run_id):
            while (live := self.live.get(run_id)) is not None and live.doomed:
                await asyncio.shield(live.over)
            stored = await self._stored(run_id)
            if not await self._is_asked_by(stored, args):
                return False
            end = stored.run.end
            if live is None and (end is None or end.type != "completed"):
                now = await self._as_it_is_now(stored.run)
                await self._pace.turn()
                self._retry(stored, *now, f"the run {outer.run.id}", outer.run.id)
            taken()
            return True

    async def _as_it_is_now(self, run: Run) -> tuple[Source, Definition]:
        source = await self._library.need(self._root(run.project_id), run.workflow)
        return source, await asyncio.to_thread(self._library.read, source)

    def _retry(
        self, stored: Stored, source: Source, definition: Definition, by: str, outer: str | None
    ) -> LiveRun:
        changed = definition.digest != stored.run.digest
        run = msgspec.structs.replace(
            stored.run, state="queued", end=None, ended_at=None, started_at=None, phase=None,
            attempt=stored.run.attempt + 1, digest=definition.digest,
            branch=None if stored.run.workspace == "branch" else stored.run.branch,
        )  # fmt: skip
        around = self.nesting.within(outer)
        self._require_place(run, definition, around)
        self.nesting.put(run.id, outer)
        self.records.save(run)
        self.records.save_source(run.id, source.text)
        self.records.save_verdict(run.id, None)
        live = self._begin(stored._replace(run=run, verdict=None), definition, recovered=False)
        live.timeline.reopen(asks_again=changed)
        live.annotate(f"{by} retries it{', by its file as it is now' if changed else ''}")
        self._pause_with(around, live)
        return live

    async def fork(self, earlier: Run, step_id: str, args: Json, user: str) -> Run:
        """Start a new run with what an earlier one came to before a step."""
        live = self.live.get(earlier.id)
        steps = live.timeline.records() if live else (await self._stored(earlier.id)).steps
        place = next((n for n, each in enumerate(steps) if each.id == step_id), None)
        if place is None:
            outermost = sorted(steps, key=lambda each: each.id.count("/"))
            known = ", ".join(each.id for each in outermost[:20])
            raise NotFound(f"the run has no step {step_id[:80]!r}; it has: {known}")
        source, definition = await self._as_it_is_now(earlier)
        given = earlier.args if args is None else args
        checked = await asyncio.to_thread(arguments.check, definition, given)
        run = self._new(definition, earlier.project_id, user, checked, earlier.id)
        kept = passed(each for each in steps[:place] if not step_id.startswith(f"{each.id}/"))
        if definition.digest != earlier.digest:
            kept = without_approvals(kept)
        return await self._start(run, source, definition, None, kept)

    async def recover(self) -> None:
        """Go on with what was under way when the daemon last ended."""
        self._journal.on_forget(self.records.forget)
        unended = await self.records.unended()
        unended.sort(key=lambda each: each.run.started_at is None)  # those under way first
        self.nesting.recover(unended)
        read = [(each, *await self._definition(each)) for each in unended]
        for each, definition, problem in read:  # none does anything before all are there
            live = self._begin(each, definition, recovered=True)
            if problem:
                live.fail(RunFailure("broken_definition", problem))
        self.recovered.set()
        await self._journal.flushed()

    async def run(self, run_id: str) -> Run:
        """Give a run as the disk has it; NotFound for an unknown one."""
        found = await self.records.run(run_id)
        if found is None:
            raise _unknown(run_id)
        return found

    async def told(
        self, run_id: str, after: int, limit: int
    ) -> tuple[Run, list[StepRecord], int | None]:
        """Give a run and a page of its steps as the disk has them, with how far those are by now.

        The number is that from which there are more. NotFound for an unknown run.
        """
        run = await self.run(run_id)
        steps, further = await self.records.steps(run_id, after, limit) if limit else ([], None)
        live = self.live.get(run_id)
        if live is not None:
            steps = [live.timeline.with_progress(each) for each in steps]
        return run, steps, further

    def wait_for(self, run_id: str, outer: str) -> LiveRun | None:
        """Give a run that is a step of another one, which waits for it, unless it has ended."""
        found = self.live.get(run_id)
        if found is not None:
            self.nesting.put(run_id, outer)
        return found

    # Inside

    async def _stored(self, run_id: str) -> Stored:
        found = await self.records.get(run_id)
        if found is None:
            raise _unknown(run_id)
        return found

    def _new(
        self, definition: Definition, project_id: str, user: str, args: Json, parent: str | None
    ) -> Run:
        return Run(
            id=new_id(),
            project_id=project_id,
            workflow=definition.id,
            name=definition.name,
            state="queued",
            user=user,
            created_at=time.time(),
            digest=definition.digest,
            args=args,
            phases=list(definition.phases),
            cwd=self._root(project_id),
            parent=parent,
        )

    async def _start(
        self,
        run: Run,
        source: Source,
        definition: Definition,
        key: str | None,
        steps: Sequence[StepRecord],
        outer: str | None = None,
    ) -> Run:
        """Begin a new run, with steps that are settled already; `outer` waits for it."""
        around = self.nesting.within(outer)
        self._require_place(run, definition, around)
        self.nesting.put(run.id, outer)
        self.records.add(run, source.text, key)
        for number, step in enumerate(steps):
            self.records.save_step(run.id, number, step)
        self._bus.emit(RunCreated(run_id=run.id, project_id=run.project_id, run=run))
        stored = Stored(run, source.text, [*steps], [], numbers=range(len(steps)))
        live = self._begin(stored, definition, recovered=False)
        self._pause_with(around, live)
        await self._journal.flushed()
        return live.run

    def _pause_with(self, around: Sequence[str], live: LiveRun) -> None:
        if any(id_ in self.live and self.live[id_].run.state == "paused" for id_ in around):
            live.pause(live.run.user)

    def _begin(self, stored: Stored, definition: Definition, *, recovered: bool) -> LiveRun:
        args = arguments.kept(definition, stored.run.args)
        run = msgspec.structs.replace(stored.run, args=args)
        live = LiveRun(
            stored._replace(run=run),
            definition,
            bus=self._bus,
            journal=self._journal,
            records=self.records,
            supervisor=self._supervisor,
            pace=self._pace,
            stopping=self._stopping,
            release=self._release,
            repeats=self._repeats,
            ended=self._ended,
        )
        self.live[run.id] = live
        live.begin(self._body, recovered=recovered)
        rule, key = definition.concurrency, self._key(run, definition)
        if rule is None or key is None:
            live.move(0)
        else:
            self._lanes.enter(key, rule, live)
        return live

    def _ended(self, live: LiveRun) -> None:
        """Forget a run; what it had started before a restart, and waits for no more, ends too."""
        self.live.pop(live.run.id, None)
        self.nesting.drop(live.run.id)
        for step in live.timeline.records():
            child = self.live.get(step.child or "")
            if child is not None and step.state == "cancelled":
                child.cancel(live.run.user)

    def _require_place(self, run: Run, definition: Definition, around: Sequence[str]) -> None:
        """Refuse a run for which there is no place: of its key, or at all."""
        if len(self.live) >= MOST:
            raise Unavailable(f"{MOST} runs have not ended; cancel some, or wait for them")
        rule = definition.concurrency
        if rule is not None:
            try:
                self._lanes.require_place(_key(run, rule), rule, around)
            except BadExpression as error:
                raise BadRequest(f"the key of its concurrency cannot be told: {error}") from None

    @staticmethod
    def _key(run: Run, definition: Definition) -> Key | None:
        """Give a run's lane; one whose key cannot be told any more is in none."""
        try:
            return None if definition.concurrency is None else _key(run, definition.concurrency)
        except BadExpression:
            return None

    async def _definition(self, stored: Stored) -> tuple[Definition, str]:
        """Read what a run goes on with: the file that it began with, whatever that is by now.

        The text tells what is wrong with it, where an older daemon understood what this does not.
        """
        try:
            kept = self._library.kept(stored.run.workflow, stored.source)
            return await asyncio.to_thread(self._library.read, kept), ""
        except AgentcmdError as broken:
            return _NOTHING, f"its file, as it was when it began: {broken.message}"


_NOTHING = Definition(id="", name="", path="", language="yaml", digest="")


def _key(run: Run, rule: Concurrency) -> Key:
    names = {"args": run.args, "project": {"id": run.project_id, "path": run.cwd}}
    return run.project_id, run.workflow, Expressions().text(rule.key, names)


def _unknown(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id[:80]!r}; see workflow.runs")
