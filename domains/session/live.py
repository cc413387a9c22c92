"""One session while it is under way: the supervised task on one side, events on the other."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable
from typing import Literal, cast

import msgspec

from daemon.core.bus import EventBus
from daemon.core.errors import Conflict, Unavailable
from daemon.core.process import Feed
from daemon.core.task import Task
from daemon.core.text import TextStream
from domains.session.agents.adapter import Invocation
from domains.session.commands import Session, SessionEnd
from domains.session.events import (
    SessionCancelled,
    SessionCompleted,
    SessionError,
    SessionStarted,
    SessionUpdated,
    StreamOutput,
)

EARLY_BYTES = 1 << 20
"""Most input that waits for a program that is still queued."""

Stream = Literal["stdout", "stderr", "system"]


class LiveSession:
    """Owns the task of one session, and its record."""

    def __init__(
        self,
        session: Session,
        invocation: Invocation,
        *,
        bus: EventBus,
        save: Callable[[Session], None],
        gone: Callable[[str], None],
    ) -> None:
        """Begin queued; `save` writes the record, `gone` learns that it has ended."""
        self.session = session
        self._invocation = invocation
        self._bus = bus
        self._save = save
        self._gone = gone
        self._feed: Feed | None = None
        self._early = bytearray(invocation.first_input)
        self._ending = not invocation.keep_input
        self._texts = {
            "stdout": TextStream(lambda text: self._say("stdout", text)),
            "stderr": TextStream(lambda text: self._say("stderr", text)),
        }

    # The supervisor's side

    def queued(self, place: int) -> None:
        """Tell the place in the queue."""
        self._bus.emit(
            SessionUpdated(
                session_id=self.session.id,
                project_id=self.session.project_id,
                state="queued",
                position=place,
            )
        )

    def started(self, task: Task) -> None:
        """Tell that it runs, and hand it its first input."""
        pid = cast(int, task.pid)
        self._change(state="working", pid=pid, started_at=task.started_at)
        self._bus.emit(
            SessionStarted(session_id=self.session.id, project_id=self.session.project_id, pid=pid)
        )
        self._feed = task.process.feed if task.process else None
        if self._feed is not None:
            if self._early:
                self._feed.write(bytes(self._early))
            if self._ending:
                self._feed.end()
        self._early.clear()

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
        end_session(self.session, end_of(task), bus=self._bus, save=self._save)
        self._gone(self.session.id)

    # The client's side

    def say(self, content: str) -> str:
        """Send a message: a line of the program's input. Gives the message's id."""
        self.write(content.encode() if content.endswith("\n") else f"{content}\n".encode())
        return secrets.token_hex(6)

    def write(self, data: bytes, *, end: bool = False) -> None:
        """Write to the program's input, or keep it until that runs.

        Conflict when it has none, or no longer; Unavailable when too much waits.
        """
        if not self._invocation.keep_input:
            raise Conflict(
                "the session reads no input; create it with keepAlive to send more than the prompt"
            )
        if self._feed is None:
            self._keep(data, end=end)
            return
        if data:
            self._feed.write(data)
        if end:
            self._feed.end()

    def _keep(self, data: bytes, *, end: bool) -> None:
        if self._ending:
            raise Conflict("the session's input has ended")
        if len(self._early) + len(data) > EARLY_BYTES:
            raise Unavailable("the session is still queued and more does not fit; try again later")
        self._early += data
        self._ending = end

    def _say(self, stream: Stream, text: str) -> None:
        self._bus.emit(StreamOutput(session_id=self.session.id, content=text, type=stream))

    def _change(self, **changes: object) -> None:
        self.session = msgspec.structs.replace(self.session, **changes)
        self._save(self.session)


def end_of(task: Task) -> SessionEnd:
    """Say how a task's end reads as a session's."""
    duration = round(task.duration * 1000)
    code = task.exit.code if task.exit else None
    number = task.exit.signal if task.exit else None
    reason = task.reason or "lost"
    if reason == "exited" and code is not None:
        return SessionEnd(type="completed", duration_ms=duration, exit_code=code)
    if reason == "cancelled":
        return SessionEnd(type="cancelled", duration_ms=duration, exit_code=code, signal=number)
    return SessionEnd(
        type="error",
        duration_ms=duration,
        code=reason,
        message=task.message or _sentence(reason, number),
        exit_code=code,
        signal=number,
    )


def end_session(
    session: Session, end: SessionEnd, *, bus: EventBus, save: Callable[[Session], None]
) -> None:
    """Write the ended record and tell the end: one commit, so never one without the other."""
    save(msgspec.structs.replace(session, state="ended", pid=None, ended_at=time.time(), end=end))
    ids = {"session_id": session.id, "project_id": session.project_id}
    if end.type == "completed":
        bus.emit(SessionCompleted(**ids, exit_code=end.exit_code or 0, duration_ms=end.duration_ms))
    elif end.type == "cancelled":
        bus.emit(
            SessionCancelled(
                **ids, duration_ms=end.duration_ms, exit_code=end.exit_code, signal=end.signal
            )
        )
    else:
        bus.emit(
            SessionError(
                **ids,
                code=end.code or "lost",
                message=end.message or "",
                duration_ms=end.duration_ms,
                exit_code=end.exit_code,
                signal=end.signal,
            )
        )


def _sentence(reason: str, number: int | None) -> str:
    match reason:
        case "signaled":
            return f"it was killed by signal {number} ({_signal_name(number)})"
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
