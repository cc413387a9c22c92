"""The timeline of a run: its steps as records on disk, told in one commit with each change."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from daemon.core.bus import EventBus
from domains.workflow.commands import StepProgress, StepRecord
from domains.workflow.definition import Json, Retries, Spec
from domains.workflow.events import (
    StepCompleted,
    StepFailed,
    StepProgressed,
    StepRetrying,
    StepSkipped,
    StepStarted,
)
from domains.workflow.failures import StepFailure
from domains.workflow.progress import Progress
from domains.workflow.records import RunRecords

SETTLED = ("completed", "failed", "skipped")
"""States of a step that it never leaves; a `cancelled` one is run anew by a retry."""

WAITS = frozenset({"approve", "wait-for", "sleep"})
"""Kinds that only wait: the daemon's absence does not begin them anew."""


class Timeline:
    """All steps of one run so far, in the order in which they began."""

    def __init__(
        self,
        run_id: str,
        known: Sequence[StepRecord],
        numbers: Sequence[int],
        written: int = 0,
        *,
        bus: EventBus,
        records: RunRecords,
    ) -> None:
        """Stand where the disk stands: with the steps' numbers there, and the bytes of all."""
        self._run_id = run_id
        self._bus = bus
        self._records = records
        self._steps = {each.id: each for each in known}
        self._numbers = dict(zip(self._steps, numbers, strict=True))
        self._following = max(numbers, default=-1) + 1
        self._progress = Progress(self._tell_progress)
        self.written = written

    def __len__(self) -> int:
        """Count the steps."""
        return len(self._steps)

    def __getitem__(self, step_id: str) -> StepRecord:
        """Give a step as it stands."""
        return self._steps[step_id]

    def get(self, step_id: str) -> StepRecord | None:
        """Give a step as it stands, if it has begun."""
        return self._steps.get(step_id)

    def records(self) -> list[StepRecord]:
        """Give all of them, in their order."""
        return sorted(self._steps.values(), key=lambda each: self._numbers[each.id])

    def settled(self, step_id: str) -> StepRecord | None:
        """Give a step that has come to its end."""
        found = self._steps.get(step_id)
        return found if found is not None and found.state in SETTLED else None

    def cut_off(self, step_id: str) -> StepRecord | None:
        """Give a step that was under way when the last daemon ended, until it is begun again."""
        found = self._steps.get(step_id)
        return found if found is not None and found.state in ("running", "waiting") else None

    def time_of(self, spec: Spec) -> float | None:
        """Return what is left of a step's time; one that waits has waited without a daemon too."""
        if spec.timeout is None or spec.kind not in WAITS:
            return spec.timeout
        return max(0.0, self._steps[spec.id].started_at + spec.timeout - time.time())

    def tries(self, step_id: str) -> int:
        """Count the tries of a step that came to an end, or are under way."""
        record = self._steps[step_id]
        return record.attempt - record.interruptions

    def interrupt(self, record: StepRecord, **changes: Any) -> StepRecord:
        """Count a try of a step that was cut off; the next one is another attempt."""
        count = record.interruptions + 1
        return self.write(record, attempt=record.attempt + 1, interruptions=count, **changes)

    def write(self, record: StepRecord, **changes: Any) -> StepRecord:
        """Write a step down."""
        if changes:
            record = msgspec.structs.replace(record, **changes)
        number = self._numbers.get(record.id)
        if number is None:
            number = self._numbers[record.id] = self._following
            self._following += 1
        self._steps[record.id] = record
        self.written += self._records.save_step(self._run_id, number, record)
        return record

    def note(self, step_id: str, **changes: Any) -> StepRecord:
        """Write something of a step down: its session, its process, how long it waits."""
        return self.write(self._steps[step_id], **changes)

    def start(self, spec: Spec, attempt: int) -> StepRecord:
        """Tell that a step begins; what an attempt that was cut off had noted stays.

        Unless its file has made something else of it meanwhile.
        """
        cut, known = self.cut_off(spec.id), self._steps.get(spec.id)
        record = StepRecord(
            id=spec.id,
            kind=spec.kind,
            state="running",
            started_at=time.time(),
            name=spec.name,
            phase=spec.phase,
            attempt=attempt,
            interruptions=known.interruptions if known and known.state != "cancelled" else 0,
        )
        if cut is not None and cut.kind == spec.kind:
            record = msgspec.structs.replace(
                record,
                started_at=cut.started_at if spec.kind in WAITS else record.started_at,
                session_id=cut.session_id,
                child=cut.child,
                result=cut.result,
                until=cut.until,
            )
        self._bus.emit(
            StepStarted(
                run_id=self._run_id,
                step_id=spec.id,
                kind=spec.kind,
                attempt=attempt,
                name=spec.name,
                phase=spec.phase,
            )
        )
        return self.write(record)

    def progress(self, step_id: str, progress: StepProgress) -> None:
        """Tell how far a step is that is under way.

        It is on disk as an event only: a step that is cut off begins anew.
        """
        found = self._steps.get(step_id)
        if found is not None and found.state == "running" and found.progress != progress:
            self._steps[step_id] = msgspec.structs.replace(found, progress=progress)
            self._progress.note(step_id, progress)

    def with_progress(self, record: StepRecord) -> StepRecord:
        """Give a step that is under way on disk with how far it is."""
        found = self._steps.get(record.id)
        if record.state != "running" or found is None or found.progress is None:
            return record
        return msgspec.structs.replace(record, progress=found.progress)

    def _tell_progress(self, step_id: str, progress: StepProgress) -> None:
        self._bus.emit(StepProgressed(run_id=self._run_id, step_id=step_id, progress=progress))

    def complete(self, step_id: str, result: Json) -> StepRecord:
        """Tell that a step did what it was to do."""
        self._progress.flush(step_id)
        record = self.note(
            step_id,
            state="completed",
            result=result,
            ended_at=time.time(),
            pid=None,
            until=None,
            progress=None,
        )
        self._bus.emit(
            StepCompleted(
                run_id=self._run_id,
                step_id=step_id,
                duration_ms=_duration(record),
                attempt=record.attempt,
                result=result,
            )
        )
        return record

    def retry(self, step_id: str, failure: StepFailure, retries: Retries) -> StepRecord:
        """Tell that a step has failed and is tried again; `until` says when."""
        self._progress.flush(step_id)
        tried = self._steps[step_id].attempt
        delay = min(retries.backoff * 2 ** (self.tries(step_id) - 1), retries.max_backoff)
        delay *= 1 + random.random() * retries.jitter  # noqa: S311  # spreads, hides nothing
        self._bus.emit(
            StepRetrying(
                run_id=self._run_id,
                step_id=step_id,
                attempt=tried + 1,
                delay_ms=round(delay * 1000),
                message=failure.message,
            )
        )
        return self.note(
            step_id,
            state="retrying",
            attempt=tried + 1,
            until=time.time() + delay,
            code=failure.code,
            message=failure.message,
            pid=None,
        )

    def fail(self, step_id: str, failure: StepFailure, *, continued: bool) -> StepRecord:
        """Tell that a step has failed for good."""
        self._progress.flush(step_id)
        record = self.note(
            step_id,
            state="failed",
            code=failure.code,
            message=failure.message,
            result=failure.result,
            continued=continued,
            ended_at=time.time(),
            pid=None,
            until=None,
        )
        self._bus.emit(
            StepFailed(
                run_id=self._run_id,
                step_id=step_id,
                code=failure.code,
                message=failure.message,
                duration_ms=_duration(record),
                attempt=record.attempt,
                continued=continued,
                result=failure.result,
            )
        )
        return record

    def skip(self, spec: Spec, reason: str) -> StepRecord:
        """Tell that a step is left out."""
        now = time.time()
        self._bus.emit(StepSkipped(run_id=self._run_id, step_id=spec.id, reason=reason))
        return self.write(
            StepRecord(
                id=spec.id,
                kind=spec.kind,
                state="skipped",
                started_at=now,
                ended_at=now,
                name=spec.name,
                phase=spec.phase,
                message=reason,
            )
        )

    def cancel(self, step_id: str) -> None:
        """Write down that a step was cut off by the end of its run, or of what it is inside of."""
        self._progress.flush(step_id)
        self.note(step_id, state="cancelled", ended_at=time.time(), pid=None, until=None)

    def close(self) -> None:
        """Write down that what has not come to its end never will."""
        for each in list(self._steps.values()):
            if each.state not in SETTLED and each.state != "cancelled":
                self.cancel(each.id)

    def rest(self) -> None:
        """Tell nothing more by itself."""
        self._progress.close()

    def reopen(self, *, asks_again: bool) -> None:
        """Forget what is to be run anew: all that has not come to a good end.

        What is inside of a step that may fail, and has, stays as it is. Approvals are given to what
        follows them: with `asks_again` that has changed.
        """
        kept = passed(self._steps.values())
        stays = {each.id for each in (without_approvals(kept) if asks_again else kept)}
        for each in list(self._steps.values()):
            if each.id not in stays:
                del self._steps[each.id]  # its place is kept for it
                self._records.drop_step(self._run_id, each.id)


def passed(steps: Iterable[StepRecord]) -> list[StepRecord]:
    """Give those that have come to a good end, or are inside of one that has."""
    steps = list(steps)
    past = {each.id for each in steps if _passed(each)}
    return [each for each in steps if each.id in past or not past.isdisjoint(_outer(each.id))]


def without_approvals(steps: Iterable[StepRecord]) -> list[StepRecord]:
    """Leave out the approvals that are asked for again; those inside of what is over stay."""
    steps = list(steps)
    past = {each.id for each in steps if _passed(each)}
    return [
        each for each in steps if each.kind != "approve" or not past.isdisjoint(_outer(each.id))
    ]


def _passed(record: StepRecord) -> bool:
    return record.state in SETTLED and (record.state != "failed" or record.continued)


def _outer(step_id: str) -> list[str]:
    """Name the steps that a step may be inside of."""
    parts = step_id.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _duration(record: StepRecord) -> int:
    return max(0, round(((record.ended_at or time.time()) - record.started_at) * 1000))
