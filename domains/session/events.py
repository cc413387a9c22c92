"""What happens in a session."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw

from daemon.core.events import Event, event
from domains.session.commands import Session
from domains.session.messages import Message, Usage


@event("session.created", "session:{session_id}", "project:{project_id}")
class SessionCreated(Event):
    """A session was asked for; it starts when there is a slot for it."""

    session_id: str
    project_id: str
    session: Session


@event("session.updated", "session:{session_id}", "project:{project_id}")
class SessionUpdated(Event):
    """The state changed, or the place in the queue (`position` 1 is next).

    `queued_messages` wait for the agent's next turns.
    """

    session_id: str
    project_id: str
    state: str
    position: int | None = None
    queued_messages: int = 0


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


@event("session.message", "session:{session_id}")
class SessionMessage(Event):
    """Somebody has said something: the agent, its tools, or the user."""

    session_id: str
    message: Message


@event("session.message_delta", "session:{session_id}")
class MessageDelta(Event):
    """A piece of a reply as it is written; the whole block follows in a `session.message`.

    `index` counts the blocks of the reply.
    """

    session_id: str
    reply_id: str
    index: int
    kind: Literal["text", "thinking"]
    text: str


@event("session.permission_requested", "session:{session_id}", "project:{project_id}")
class PermissionRequested(Event):
    """The agent waits for an answer: `session.respond_permission`."""

    session_id: str
    project_id: str
    request_id: str
    tool_name: str
    input: Raw
    suggestions: list[Any] | None = None
    tool_use_id: str | None = None


@event("session.permission_resolved", "session:{session_id}", "project:{project_id}")
class PermissionResolved(Event):
    """A permission waits no longer; it expires with its turn or its process.

    `user` is who answered.
    """

    session_id: str
    project_id: str
    request_id: str
    decision: Literal["allow", "deny", "expired"]
    user: str | None = None


@event("session.usage", "session:{session_id}")
class SessionUsage(Event):
    """What all turns of the session have used so far."""

    session_id: str
    usage: Usage
    cost_usd: float


@event("session.turn_completed", "session:{session_id}", "project:{project_id}")
class TurnCompleted(Event):
    """A turn is over, with what it alone has used; `code` and `message` where it failed.

    `turn` is its number in the session, for `session.diff` and `session.restore`.
    """

    session_id: str
    project_id: str
    stop_reason: Literal["end_turn", "interrupted", "error"]
    usage: Usage
    cost_usd: float
    duration_ms: int
    code: str | None = None
    message: str | None = None
    turn: int | None = None


@event("session.workspace_released", "session:{session_id}", "project:{project_id}")
class WorkspaceReleased(Event):
    """A session has ended that had a work tree of its own.

    It was `removed`, with its branch; or it was left, for the `reason` that is told.
    """

    session_id: str
    project_id: str
    path: str
    branch: str
    removed: bool
    reason: str | None = None


@event("session.completed", "session:{session_id}", "project:{project_id}")
class SessionCompleted(Event):
    """The program exited by itself, with this code; `result` is an agent's last word.

    `cpu_seconds` and `max_rss_bytes` are those of its whole tree where tasks have cgroups.
    """

    session_id: str
    project_id: str
    exit_code: int
    duration_ms: int
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    result: str | None = None


@event("session.error", "session:{session_id}", "project:{project_id}")
class SessionError(Event):
    """The session ended otherwise than it should.

    `code` is one of signaled, incomplete, spawn_failed, lost, daemon_stopped, silent, timeout, oom;
    or, where an agent's last turn failed, one of api_error, authentication_failed,
    permission_denied, rate_limited, overloaded, invalid_request, too_large, connection_failed,
    model_not_found, budget, max_turns, resume_failed, agent_error.
    """

    session_id: str
    project_id: str
    code: str
    message: str
    duration_ms: int
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None


@event("session.restarting", "session:{session_id}", "project:{project_id}")
class SessionRestarting(Event):
    """A command has ended and is started again, after a delay; the last end has none behind it.

    `restarts` counts those of the session so far, this one included.
    """

    session_id: str
    project_id: str
    delay_ms: int
    restarts: int


@event("session.cancelled", "session:{session_id}", "project:{project_id}")
class SessionCancelled(Event):
    """Somebody cancelled or killed it; nothing of it runs any more."""

    session_id: str
    project_id: str
    duration_ms: int
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
