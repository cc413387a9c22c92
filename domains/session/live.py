"""One session while it is under way: the supervised task on one side, events on the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import msgspec

from daemon.core.bus import EventBus
from daemon.core.errors import BadRequest, Conflict, NotFound
from daemon.core.process import Feed
from daemon.core.task import Task
from daemon.core.text import TextStream
from domains.session.agents.adapter import Decision
from domains.session.commands import MessageAccepted, Session, SessionEnd
from domains.session.events import (
    PermissionResolved,
    SessionCancelled,
    SessionCompleted,
    SessionError,
    SessionStarted,
    SessionUpdated,
    StreamOutput,
)
from domains.session.messages import Image

Stream = Literal["stdout", "stderr", "system"]


class LiveSession:
    """Owns the task of one session, and its record; what it is told is of its kind."""

    def __init__(
        self,
        session: Session,
        *,
        bus: EventBus,
        save: Callable[[Session], None],
        gone: Callable[[Session, SessionEnd], None],
    ) -> None:
        """Begin queued; `save` writes the record, `gone` learns that it has ended."""
        self.session = session
        self.feed: Feed | None = None
        self.bus = bus
        self._save = save
        self._gone = gone
        self._gathering = False
        self._texts = {
            "stdout": TextStream(lambda text: self.say("stdout", text)),
            "stderr": TextStream(lambda text: self.say("stderr", text)),
        }

    # The supervisor's side

    def queued(self, place: int) -> None:
        """Tell the place in the queue."""
        self.bus.emit(
            SessionUpdated(
                session_id=self.session.id,
                project_id=self.session.project_id,
                state="queued",
                position=place,
            )
        )

    def started(self, task: Task) -> None:
        """Tell that it runs."""
        pid = cast(int, task.pid)
        self.change(state="working", pid=pid, started_at=task.started_at)
        self.bus.emit(
            SessionStarted(session_id=self.session.id, project_id=self.session.project_id, pid=pid)
        )
        self.feed = task.process.feed if task.process else None

    def output(self, stream: str, data: bytes) -> None:
        """Pass output on; what waits of the other stream goes first, so that order is kept."""
        for name, text in self._texts.items():
            if name != stream:
                text.flush()
        self._texts[stream].feed(data)

    def ended(self, task: Task) -> None:
        """Tell the end, exactly once, after the last output."""
        for text in self._texts.values():
            text.close()
        if task.exit is not None and task.exit.refused_forks:
            refused = task.exit.refused_forks
            self.say("system", f"its limit of processes was reached {refused} times\n")
        end, result = self.the_end(end_of(task))
        end_session(self.session, end, bus=self.bus, save=self._save, result=result)
        self._gone(self.session, end)

    # What depends on the kind

    def the_end(self, end: SessionEnd) -> tuple[SessionEnd, str | None]:
        """Judge how it ended, and give its result if it has one."""
        return end, None

    def accept(self, content: str, images: Sequence[Image]) -> MessageAccepted:
        """Take a message."""
        raise NotImplementedError

    def write(self, data: bytes, *, end: bool = False) -> None:  # noqa: ARG002  # see the kinds
        """Write to the program's input."""
        raise Conflict("an agent takes messages and no raw input; use session.send_message")

    def interrupt(self) -> None:
        """End the turn."""
        raise BadRequest("a command has no turns to interrupt; use session.cancel")

    def respond(self, request_id: str, decision: Decision, user: str) -> None:  # noqa: ARG002
        """Answer a permission."""
        raise NotFound(f"a command asks for nothing, so there is no request {request_id[:80]!r}")

    # For the kinds

    def say(self, stream: Stream, text: str) -> None:
        """Tell text."""
        self.bus.emit(StreamOutput(session_id=self.session.id, content=text, type=stream))

    def flush(self) -> None:
        """Tell the whole lines that wait, because something after them is about to be told."""
        for text in self._texts.values():
            text.flush()

    def change(self, **changes: object) -> None:
        """Write the record anew, within `gathered` at its end."""
        self.session = msgspec.structs.replace(self.session, **changes)
        if not self._gathering:
            self._save(self.session)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Write the record once for all changes within, in one commit with what they tell."""
        before, self._gathering = self.session, True
        try:
            yield
        finally:
            self._gathering = False
            if self.session is not before:
                self._save(self.session)


def end_of(task: Task) -> SessionEnd:
    """Say how a task's end reads as a session's."""
    duration = round(task.duration * 1000)
    code = task.exit.code if task.exit else None
    number = task.exit.signal if task.exit else None
    reason = task.reason or "lost"
    end = SessionEnd(
        type="completed",
        duration_ms=duration,
        exit_code=code,
        signal=number,
        cpu_seconds=task.exit.cpu_seconds if task.exit else None,
        max_rss_bytes=task.exit.max_rss_bytes if task.exit else None,
    )
    if reason == "exited" and code is not None:
        return end
    if reason == "cancelled":
        return msgspec.structs.replace(end, type="cancelled")
    message = task.message or _sentence(reason, number)
    return msgspec.structs.replace(end, type="error", code=reason, message=message)


def end_session(
    session: Session,
    end: SessionEnd,
    *,
    bus: EventBus,
    save: Callable[[Session], None],
    result: str | None = None,
) -> None:
    """Write the ended record and tell the end: one commit, so never one without the other."""
    for permission in session.permissions:
        bus.emit(
            PermissionResolved(
                session_id=session.id,
                project_id=session.project_id,
                request_id=permission.request_id,
                decision="expired",
            )
        )
    save(
        msgspec.structs.replace(
            session,
            state="ended",
            pid=None,
            ended_at=time.time(),
            end=end,
            permissions=[],
            queued_messages=0,
        )
    )
    told: dict[str, Any] = {
        "session_id": session.id,
        "project_id": session.project_id,
        "duration_ms": end.duration_ms,
        "cpu_seconds": end.cpu_seconds,
        "max_rss_bytes": end.max_rss_bytes,
    }
    if end.type == "completed":
        bus.emit(
            SessionCompleted(
                **told,
                exit_code=end.exit_code or 0,
                usage=session.usage,
                cost_usd=session.cost_usd,
                result=result,
            )
        )
    elif end.type == "cancelled":
        bus.emit(SessionCancelled(**told, exit_code=end.exit_code, signal=end.signal))
    else:
        bus.emit(
            SessionError(
                **told,
                code=end.code or "lost",
                message=end.message or "",
                exit_code=end.exit_code,
                signal=end.signal,
            )
        )


def _sentence(reason: str, number: int | None) -> str:
    match reason:
        case "signaled":
            return f"it was killed by signal {number} ({_signal_name(number)})"
        case "oom":
            return "its memory limit was reached; raise [task] memory_bytes, or ask for less"
        case "timeout":
            return "it ran longer than its time limit"
        case "silent":
            return "it wrote nothing for longer than its silence limit"
        case "daemon_stopped":
            return "the daemon was stopped; start it anew"
        case _:
            return "it ended unseen, because what watched over it was killed; start it anew"


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return "unknown"
