"""One run while it is under way: its steps, each settled once, its state, its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog

from daemon.core.bus import EventBus
from daemon.core.clock import wait_until
from daemon.core.errors import AgentcmdError
from daemon.core.journal import Journal
from daemon.core.supervisor import Supervisor
from domains.workflow.commands import RunEnd, StepRecord
from domains.workflow.definition import Definition, Json, Spec
from domains.workflow.endings import told
from domains.workflow.events import (
    PhaseCompleted,
    PhaseStarted,
    RunAnnotated,
    RunPaused,
    RunResumed,
    RunStarted,
    RunUpdated,
)
from domains.workflow.failures import RunFailure, StepFailure
from domains.workflow.inbox import Inbox
from domains.workflow.interruptions import Repeats, take_up
from domains.workflow.pace import Pace
from domains.workflow.records import RunRecords, Stored, Verdict
from domains.workflow.timeline import WAITS, Timeline

log = structlog.get_logger(__name__)

Effect = Callable[[], Awaitable[Json]]
"""What a step does; it gives the result, or raises StepFailure."""

STEPS = 100_000
"""Steps of one run; one that never comes to an end ends there."""

RESULT_BYTES = 64 << 20
"""What the steps of one run may write down together, at about; it is in memory meanwhile."""

TOLD = 10
"""Places in a queue that are told as they change; those further behind learn only their first."""

AROUND = frozenset({"for-each", "parallel"})
"""Kinds that are other steps."""


class LiveRun:
    """A run, and what its steps are given."""

    def __init__(
        self,
        stored: Stored,
        definition: Definition,
        *,
        bus: EventBus,
        journal: Journal,
        records: RunRecords,
        supervisor: Supervisor,
        pace: Pace,
        stopping: Callable[[], bool],
        release: Callable[[LiveRun], Awaitable[None]],
        repeats: Repeats,
        ended: Callable[[LiveRun], None],
    ) -> None:
        """Stand where the disk stands; `release` lets its workspace go, `ended` learns the end."""
        self.run = stored.run
        self.definition = definition
        self.timeline = Timeline(
            stored.run.id, stored.steps, stored.numbers, stored.written, bus=bus, records=records
        )
        self.inbox = Inbox(stored.run.id, records, stored.events)
        self.answers: dict[str, asyncio.Future[Any]] = {}
        self.over: asyncio.Future[RunEnd] = asyncio.get_running_loop().create_future()
        self.bus = bus
        self.supervisor = supervisor
        self._journal = journal
        self._records = records
        self._stopping = stopping
        self._release = release
        self._repeats = repeats
        self._ended = ended
        self._pace = pace
        self._slice_ends = 0.0
        self._go = asyncio.Event()
        self._busy = self._waiting = 0
        self._phase_began = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._verdict = stored.verdict
        self._begun = self._closing = self.completed = False
        self._admitted = asyncio.Event()
        self._place = 0

    # Control

    def begin(self, body: Callable[[LiveRun], Awaitable[Json]], *, recovered: bool) -> None:
        """Run, from here to the end."""
        work = self._live(body, recovered=recovered)
        self._task = self.supervisor.start(work, name=f"workflow:run:{self.run.id}")
        self._task.add_done_callback(self._rest)

    def _rest(self, _: asyncio.Task[None]) -> None:
        """Without an end, as when the daemon stops: whoever waits for it is let go."""
        self.timeline.rest()
        self.over.cancel()

    @property
    def doomed(self) -> bool:
        """Tell whether it is to end without doing anything more."""
        return self._verdict is not None

    @property
    def stopping(self) -> bool:
        """Tell whether the daemon stops: then what is cut off is done by the next one."""
        return self._stopping()

    def move(self, place: int) -> None:
        """Learn its place among those that wait to begin, 1 is next; 0: it begins."""
        if place == 0 or self._admitted.is_set():  # it has begun, even if there may be fewer now
            self._admitted.set()
        elif place != self._place and (place <= TOLD or self._place == 0):
            self._tell_state(position=place)
        self._place = place

    def work_in(self, folder: str, workspace: str, branch: str) -> None:
        """Work in another folder from now on."""
        self._change(cwd=folder, workspace=workspace, branch=branch)

    def cancel(self, user: str | None) -> None:
        """Have it end; what runs of it is stopped first. One that is about to end just does."""
        self._doom(Verdict(type="cancelled", user=user))

    def fail(self, failure: RunFailure) -> None:
        """Have it end as failed, for a reason of its own; what runs of it is stopped first."""
        self._doom(Verdict(type="failed", code=failure.code, message=failure.message))

    def _doom(self, verdict: Verdict) -> None:
        if self._verdict is None and not self._closing:
            self._verdict = verdict
            self._records.save_verdict(self.run.id, verdict)
            if self._begun and self._task is not None:  # else it ends with its first step
                self._task.cancel()

    def pause(self, user: str) -> None:
        """Have it wait before its next step."""
        if self.run.state != "paused":
            self._go.clear()
            self._change(state="paused")
            self.bus.emit(RunPaused(run_id=self.run.id, project_id=self.run.project_id, user=user))

    def resume(self, user: str) -> None:
        """Have it go on."""
        if self.run.state == "paused":
            self._change(state="running" if self.run.started_at is not None else "queued")
            self.bus.emit(RunResumed(run_id=self.run.id, project_id=self.run.project_id, user=user))
            self._go.set()
            self._settle_state()

    def annotate(
        self,
        message: str,
        level: Literal["info", "warning", "error"] = "info",
        step_id: str | None = None,
    ) -> None:
        """Tell a remark."""
        self.bus.emit(
            RunAnnotated(run_id=self.run.id, message=message, level=level, step_id=step_id)
        )

    def folder(self, inner: str | None = None) -> str:
        """Give the folder that it works in, or one inside of it."""
        return str(Path(self.run.cwd, inner or "."))

    def spend(self, cost_usd: float) -> None:
        """Add to what it has cost."""
        self._change(cost_usd=(self.run.cost_usd or 0.0) + cost_usd)
        self._tell_state()

    # Steps

    async def perform(self, spec: Spec, effect: Effect) -> StepRecord:
        """Have a step done, or give what it came to where it was settled before.

        RunFailure where it fails, unless it may.
        """
        known = self.timeline.settled(spec.id)
        if known is None:
            self._require_room(spec.id)
            while known is None:
                known = await self._try(spec, effect)
        if known.state == "failed" and not known.continued:
            said = known.message or "it failed"
            raise RunFailure(known.code or "failed", f"step {spec.id}: {said}", spec.id)
        return known

    async def turn(self) -> None:
        """Let others have their turn, where this run has had its own."""
        if asyncio.get_running_loop().time() >= self._slice_ends:
            self._slice_ends = await self._pace.turn()

    def skip(self, spec: Spec, reason: str) -> StepRecord:
        """Leave a step out."""
        if (known := self.timeline.settled(spec.id)) is not None:
            return known
        self._require_room(spec.id)
        return self.timeline.skip(spec, reason)

    def _require_room(self, step_id: str) -> None:
        if len(self.timeline) >= STEPS:
            raise RunFailure("too_many_steps", f"a run has at most {STEPS} steps", step_id)
        if self.timeline.written > RESULT_BYTES:
            said = f"the steps of a run may write at most {RESULT_BYTES >> 20} MiB of results"
            raise RunFailure("too_large", said, step_id)

    async def _try(self, spec: Spec, effect: Effect) -> StepRecord | None:
        """Do a step once; None where it is to be tried again, now that the delay is over."""
        known = self.timeline.get(spec.id)
        try:
            if known is not None and known.state == "retrying":
                with self.counted(spec), self.waiting():
                    await wait_until(known.until or 0.0)
            await self._let_on(spec)
            known = await take_up(self, spec, self._repeats)
            self._enter_phase(spec.phase)
            attempt = known.attempt if known is not None and known.state != "cancelled" else 1
            self.timeline.start(spec, attempt)
            if spec.outside:
                await self._journal.durable()
            return self.timeline.complete(spec.id, await self._attempt(spec, effect))
        except StepFailure as failure:
            tried = self.timeline.tries(spec.id)
            if tried <= spec.retries.max and not failure.permanent:
                self.timeline.retry(spec.id, failure, spec.retries)
                return None
            return self.timeline.fail(spec.id, failure, continued=spec.continue_on_error)
        except (asyncio.CancelledError, RunFailure):
            if not self.stopping and self.timeline.get(spec.id) is not None:
                self.timeline.cancel(spec.id)
            raise

    async def _let_on(self, spec: Spec) -> None:
        """Wait for the run's turn, and while it is paused; a step that waited already goes on."""
        if self.timeline.cut_off(spec.id) is None or spec.kind not in WAITS:
            await self._go.wait()
        await self.turn()
        if self.doomed:  # and what was to stop has not heard of it
            raise asyncio.CancelledError

    async def _attempt(self, spec: Spec, effect: Effect) -> Json:
        """Do what a step does, within its time; StepFailure says why it is not done."""
        if not spec.outside and spec.timeout is None and spec.kind not in AROUND:
            limit = None
        else:
            limit = asyncio.timeout(self.timeline.time_of(spec))
        try:
            if limit is None:
                return await effect()
            with self.counted(spec):
                async with limit:
                    return await effect()
        except (StepFailure, RunFailure) as error:
            failure: StepFailure | RunFailure = error
        except AgentcmdError as error:
            failure = StepFailure(error.code, error.message)
        except Exception as error:
            if isinstance(error, TimeoutError) and limit is not None and limit.expired():
                failure = StepFailure("timeout", f"it took longer than {spec.timeout:g} s")
            else:
                log.exception("workflow.step_broke", run=self.run.id, step=spec.id)
                failure = StepFailure("internal", f"the daemon failed here: {error!r}")
        if self.stopping:  # it is no fault of the step's: the next daemon does it again
            await asyncio.get_running_loop().create_future()
        raise failure

    # State

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count as waiting while this is open."""
        self._waiting += 1
        self._settle_state()
        try:
            yield
        finally:
            self._waiting -= 1
            self._settle_state()

    @contextmanager
    def counted(self, spec: Spec) -> Iterator[None]:
        """Count a step as under way, unless it is those that are inside of it."""
        own = spec.kind not in AROUND
        self._busy += own
        self._settle_state()
        try:
            yield
        finally:
            self._busy -= own
            self._settle_state()

    def _settle_state(self) -> None:
        """Be waiting when all that is under way waits, for somebody or for a moment."""
        if self.run.state not in ("running", "waiting") or self.doomed or self.stopping:
            return
        rests = self._waiting > 0 and self._waiting >= self._busy
        state: Literal["running", "waiting"] = "waiting" if rests else "running"
        if state != self.run.state:
            self._change(state=state)
            self._tell_state()

    def _tell_state(self, position: int | None = None) -> None:
        self.bus.emit(
            RunUpdated(
                run_id=self.run.id,
                project_id=self.run.project_id,
                state=self.run.state,
                position=position,
                cost_usd=self.run.cost_usd,
            )
        )

    def _enter_phase(self, phase: str | None) -> None:
        if phase is None or phase == self.run.phase:
            return
        self._leave_phase()
        self._phase_began = time.monotonic()
        self._change(phase=phase)
        self.bus.emit(PhaseStarted(run_id=self.run.id, phase=phase))

    def _leave_phase(self) -> None:
        if self.run.phase is not None:
            taken = round((time.monotonic() - self._phase_began) * 1000)
            self.bus.emit(
                PhaseCompleted(run_id=self.run.id, phase=self.run.phase, duration_ms=taken)
            )
            self._change(phase=None)

    def _change(self, **changes: Any) -> None:
        self.run = msgspec.structs.replace(self.run, **changes)
        self._records.save(self.run)

    # The whole

    async def _live(self, body: Callable[[LiveRun], Awaitable[Json]], *, recovered: bool) -> None:
        self._begun = True
        output, failure = None, None
        try:
            if not self.doomed:
                await self._admitted.wait()
                self._tell_start(recovered=recovered and self.run.started_at is not None)
                output = await self._bounded(body)
        except RunFailure as found:
            failure = found
        except asyncio.CancelledError:
            if not self.doomed:  # the daemon stops; the next one goes on with it
                raise
        except Exception as error:
            log.exception("workflow.broke", run=self.run.id)
            failure = RunFailure("internal", f"the daemon failed here: {error!r}")
        self._closing = True
        self.completed = failure is None and not self.doomed
        await self._let_go()
        self._end(output, failure)

    async def _bounded(self, body: Callable[[LiveRun], Awaitable[Json]]) -> Json:
        limit = asyncio.timeout(self._time_left())
        try:
            async with limit:
                return await body(self)
        except TimeoutError:
            if not limit.expired():
                raise
            raise RunFailure("timeout", "the run took longer than its limit") from None

    async def _let_go(self) -> None:
        """Have its workspace removed, whatever comes of that."""
        try:
            await self._release(self)
        except asyncio.CancelledError:
            if not self.doomed or self.stopping:
                raise
            await self._release(self)  # the cancel came when all was done
        except Exception:
            log.exception("workflow.release_broke", run=self.run.id)

    def _tell_start(self, *, recovered: bool) -> None:
        self._change(started_at=self.run.started_at or time.time())
        if self.run.state != "paused":
            self._go.set()
            self._change(state="running")
        self.bus.emit(
            RunStarted(run_id=self.run.id, project_id=self.run.project_id, recovered=recovered)
        )

    def _time_left(self) -> float | None:
        if self.definition.timeout is None:
            return None
        began = self.run.started_at or time.time()
        return max(0.0, began + self.definition.timeout - time.time())

    def _end(self, output: Json, failure: RunFailure | None) -> None:
        self.timeline.close()
        self._leave_phase()
        now = time.time()
        end, event = told(self.run, now, output, failure, self._verdict)
        self._change(state="ended", ended_at=now, end=end)
        self.bus.emit(event)
        log.info("workflow.ended", run=self.run.id, end=end.type, code=end.code)
        self.over.set_result(end)
        self._ended(self)
