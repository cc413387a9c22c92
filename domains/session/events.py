"""What happens in a session."""

from __future__ import annotations

from typing import Literal

from daemon.core.events import Event, event
from domains.session.commands import Session


@event("session.created", "session:{session_id}", "project:{project_id}")
class SessionCreated(Event):
    """A session was asked for; it starts when there is a slot for it."""

    session_id: str
    project_id: str
    session: Session


@event("session.updated", "session:{session_id}", "project:{project_id}")
class SessionUpdated(Event):
    """The state changed, or the place in the queue (`position` 1 is next)."""

    session_id: str
    project_id: str
    state: str
    position: int | None = None


@event("session.started", "session:{session_id}", "project:{project_id}")
class SessionStarted(Event):
    """The program runs."""

    session_id: str
    project_id: str
    pid: int


@event("session.stream_output", "session:{session_id}")
class StreamOutput(Event):
    """What the program wrote: whole lines, many in one event when they come fast.

    The contents of one type, joined, are its text exactly. A content that does not end in a newline
    goes on in the next event of its type: a long line in pieces, or a prompt told after 50 ms.
    """

    session_id: str
    content: str
    type: Literal["stdout", "stderr", "system"]


@event("session.completed", "session:{session_id}", "project:{project_id}")
class SessionCompleted(Event):
    """The program exited by itself, with this code."""

    session_id: str
    project_id: str
    exit_code: int
    duration_ms: int


@event("session.error", "session:{session_id}", "project:{project_id}")
class SessionError(Event):
    """The session ended otherwise than it should.

    `code` is one of signaled, incomplete, spawn_failed, lost, daemon_stopped, silent, timeout.
    """

    session_id: str
    project_id: str
    code: str
    message: str
    duration_ms: int
    exit_code: int | None = None
    signal: int | None = None


@event("session.cancelled", "session:{session_id}", "project:{project_id}")
class SessionCancelled(Event):
    """Somebody cancelled or killed it; nothing of it runs any more."""

    session_id: str
    project_id: str
    duration_ms: int
    exit_code: int | None = None
    signal: int | None = None
