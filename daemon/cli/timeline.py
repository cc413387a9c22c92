"""A run of a workflow as its channel tells of it: fed with messages, and drawn elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Data = Mapping[str, Any]

RUN = "workflow.run."

ENDS = {f"{RUN}completed": "completed", f"{RUN}failed": "failed", f"{RUN}cancelled": "cancelled"}
"""The events that end a run, and what it is from then on."""

OPEN = frozenset({"running", "waiting", "retrying"})
"""States of a step that is not over."""

LINES = 5
"""Lines of a step's output that are kept."""

LINE = 1000
"""Characters of one that are kept: its end, where it is redrawn with carriage returns, counts."""

REMARKS = 5
"""Annotations that are kept."""


@dataclass(eq=False)
class Step:
    """One step. Times are in Unix seconds, and those of the daemon."""

    id: str
    kind: str = ""
    name: str | None = None
    phase: str | None = None
    state: str = "running"
    attempt: int = 1
    started: float = 0.0
    duration: float | None = None
    message: str | None = None
    code: str | None = None
    continued: bool = False
    progress: Data | None = None
    waits_for: str | None = None
    event: str | None = None
    until: float | None = None
    result: Any = None
    inner: list[Step] = field(default_factory=list)
    item: str | None = None
    """Which item of a for-each it belongs to, as its id says it."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    unfinished: dict[str, str] = field(default_factory=dict)

    @property
    def own_id(self) -> str:
        """Give its id within the step that it is a step of."""
        return self.id.rpartition("/")[2]

    @property
    def is_open(self) -> bool:
        """Tell whether it is not over, or something within it."""
        return self.state in OPEN

    def output(self, limit: int) -> list[str]:
        """Give the last lines that it has written, as they were written."""
        began = [text for text in self.unfinished.values() if text]
        return [*self.lines, *began][-limit:] if limit > 0 else []


class Timeline:
    """One run; what it is told must be in the order of its channel."""

    def __init__(self, run: Data, steps: Iterable[Data] = ()) -> None:
        """Begin with what `workflow.get` says of the run; of its steps, those of an earlier run.

        A fork has those from the start, and its channel does not tell of them.
        """
        self.steps: dict[str, Step] = {}
        self.top: list[Step] = []
        self.phases: dict[str, float | None] = {}
        """Those that have begun, with the seconds that they took once they are over."""

        self.phase: str | None = None
        self.position: int | None = None
        self.remarks: deque[tuple[str, str]] = deque(maxlen=REMARKS)
        self.artifacts: dict[str, int] = {}
        self._told: dict[str, Callable[[Data, float], None]] = {
            "created": self._created,
            "started": self._started,
            "updated": self._updated,
            "paused": lambda _, __: self._be("paused"),
            "resumed": lambda _, __: self._be("running"),
            "completed": self._completed,
            "failed": self._failed,
            "cancelled": self._cancelled,
            "phase.started": self._phase_started,
            "phase.completed": self._phase_completed,
            "step.started": self._step_started,
            "step.progress": self._step_progress,
            "step.output": self._step_output,
            "step.completed": self._step_completed,
            "step.failed": self._step_failed,
            "step.skipped": self._step_skipped,
            "step.retrying": self._step_retrying,
            "step.waiting": self._step_waiting,
            "annotation": self._annotation,
            "artifact": self._artifact,
        }
        self._take(run)
        self.state = "queued"
        self.end: Data | None = None
        for each in steps:
            if each.get("endedAt") is not None and each["endedAt"] <= self.created:
                self._restore(each)

    def _take(self, run: Data) -> None:
        self.id = str(run["id"])
        self.name = str(run.get("name") or run.get("workflow") or run["id"])
        self.workflow = str(run.get("workflow", ""))
        self.declared = list(run.get("phases", ()))
        self.created = float(run.get("createdAt", 0.0))
        self.started = run.get("startedAt")
        self.cost: float | None = run.get("costUsd")

    def feed(self, type_: str, data: Data, ts: float) -> None:
        """Take one message of the run's channel."""
        take = self._told.get(type_.removeprefix(RUN))
        if take is not None:
            take(data, ts)

    def settle(self, run: Data, steps: Iterable[Data]) -> None:
        """Stand where `workflow.get` says, because not all has been told, or is to be."""
        self._take(run)
        self.state, self.end, self.phase = run["state"], run.get("end"), run.get("phase")
        known = {each["id"] for each in steps}
        for gone in self.steps.keys() - known:
            self._forget(self.steps[gone])
        for each in steps:
            self._restore(each)
        if self.end is not None:
            self._cut_off()

    @property
    def elapsed_from(self) -> float:
        """Give when it began, or was asked for."""
        return self.created if self.started is None else float(self.started)

    # The run

    def _be(self, state: str) -> None:
        self.state = state

    def _created(self, data: Data, _: float) -> None:
        cost = self.cost
        self._take(data["run"])
        self.cost = self.cost or cost

    def _started(self, data: Data, ts: float) -> None:
        if self.end is not None:  # a retry: what came to nothing is done anew
            for step in self.steps.values():
                if step.state in ("failed", "cancelled") and not step.continued:
                    step.state, step.duration, step.message = "pending", None, None
        if self.end is not None or not data.get("recovered"):
            self.started = ts
        if self.state != "paused":
            self.state = "running"
        self.end, self.position = None, None

    def _updated(self, data: Data, _: float) -> None:
        self.state = data["state"]
        self.position = data.get("position")
        self.cost = data.get("costUsd", self.cost)

    def _completed(self, data: Data, _: float) -> None:
        self._ended({"type": "completed", **data})

    def _failed(self, data: Data, _: float) -> None:
        self._ended({"type": "failed", **data})

    def _cancelled(self, data: Data, _: float) -> None:
        self._ended({"type": "cancelled", **data})

    def _ended(self, end: Data) -> None:
        self.state, self.end, self.phase, self.position = "ended", end, None, None
        self._cut_off()

    def _cut_off(self) -> None:
        for step in list(self.steps.values()):
            if step.is_open:
                own = not step.kind and self.end is not None and self.end["type"] == "completed"
                step.state = "completed" if own else "cancelled"  # the workflow's own output
            elif step.state == "pending" and not step.inner:  # its file has it no longer
                self._forget(step)

    def _phase_started(self, data: Data, _: float) -> None:
        self.phase = data["phase"]
        self.phases[data["phase"]] = None

    def _phase_completed(self, data: Data, _: float) -> None:
        self.phases[data["phase"]] = data["durationMs"] / 1000
        if self.phase == data["phase"]:
            self.phase = None

    def _annotation(self, data: Data, _: float) -> None:
        self.remarks.append((data.get("level", "info"), data["message"]))

    def _artifact(self, data: Data, _: float) -> None:
        self.artifacts[data["name"]] = data["size"]

    # Its steps

    def _step(self, id_: str, ts: float) -> Step:
        """Give a step, below the one that it is a step of; one whose beginning was missed, too."""
        known = self.steps.get(id_)
        if known is not None:
            return known
        step = self.steps[id_] = Step(id_, started=ts)
        around, item = id_.rpartition("/")[0], None
        while around and around not in self.steps:
            around, _, item = around.rpartition("/")
        step.item = item if around else None
        siblings = self.steps[around].inner if around else self.top
        siblings.append(step)
        return step

    def _forget(self, step: Step) -> None:
        del self.steps[step.id]
        for siblings in (self.top, *(each.inner for each in self.steps.values())):
            if step in siblings:
                siblings.remove(step)

    def _restore(self, record: Data) -> None:
        """Take a step as `workflow.get` tells of it."""
        step = self._step(record["id"], record["startedAt"])
        step.kind, step.state = record["kind"], record["state"]
        step.name, step.phase = record.get("name"), record.get("phase")
        step.attempt, step.started = record.get("attempt", 1), record["startedAt"]
        step.message, step.code = record.get("message"), record.get("code")
        step.continued, step.until = record.get("continued", False), record.get("until")
        step.result = record.get("result")
        ended = record.get("endedAt")
        step.duration = None if ended is None else max(0.0, ended - step.started)

    def _step_started(self, data: Data, ts: float) -> None:
        step = self._step(data["stepId"], ts)
        step.kind, step.attempt = data["kind"], data.get("attempt", 1)
        step.name, step.phase = data.get("name"), data.get("phase")
        step.state, step.started, step.duration = "running", ts, None
        step.message = step.code = step.until = step.waits_for = step.progress = None
        step.continued = False
        step.unfinished.clear()
        step.lines.clear()

    def _step_progress(self, data: Data, ts: float) -> None:
        self._step(data["stepId"], ts).progress = data["progress"]

    def _step_output(self, data: Data, ts: float) -> None:
        step, stream = self._step(data["stepId"], ts), data["stream"]
        *whole, rest = (step.unfinished.get(stream, "") + data["content"]).split("\n")
        step.lines.extend(_kept(line.removesuffix("\r")) for line in whole[-LINES:])
        step.unfinished[stream] = _kept(rest)

    def _step_completed(self, data: Data, ts: float) -> None:
        step = self._step(data["stepId"], ts)
        step.result = data.get("result")
        self._over(step, "completed", data)

    def _step_failed(self, data: Data, ts: float) -> None:
        step = self._step(data["stepId"], ts)
        step.code, step.message = data["code"], data["message"]
        step.attempt = data.get("attempt", step.attempt)
        step.continued = data.get("continued", False)
        self._over(step, "failed", data)

    def _over(self, step: Step, state: str, data: Data) -> None:
        step.state, step.duration = state, data["durationMs"] / 1000
        step.until = step.waits_for = step.event = None
        if state == "completed":
            step.message = None

    def _step_skipped(self, data: Data, ts: float) -> None:
        step = self._step(data["stepId"], ts)
        step.state, step.message, step.duration = "skipped", data["reason"], None
        step.phase = step.phase or self.phase

    def _step_retrying(self, data: Data, ts: float) -> None:
        step = self._step(data["stepId"], ts)
        step.state, step.attempt, step.message = "retrying", data["attempt"], data["message"]
        step.until = ts + data["delayMs"] / 1000

    def _step_waiting(self, data: Data, ts: float) -> None:
        step = self._step(data["stepId"], ts)
        step.state, step.waits_for = "waiting", data["waitsFor"]
        step.message, step.event = data.get("message"), data.get("event")
        step.until = data.get("until")


def _kept(line: str) -> str:
    """Keep so much of a line as can be shown: its beginning, or the end of one that is redrawn."""
    if len(line) <= LINE:
        return line
    return line[-LINE:] if "\r" in line[-LINE:] else line[:LINE]
