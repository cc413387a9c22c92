"""What can be asked of sessions."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from daemon.core.events import Answer, Command, command


class SessionEnd(Answer):
    """How a session ended: the event, and what it said."""

    type: Literal["completed", "error", "cancelled"]
    duration_ms: int
    code: str | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None


class Session(Answer):
    """One session. Times in Unix seconds; `user` is the `sub` of its creator.

    States: queued, idle, working, waiting, ended. The variables that it was given are never shown.
    """

    id: str
    project_id: str
    agent: str
    state: str
    cwd: str
    user: str
    keep_alive: bool
    created_at: float
    name: str | None = None
    argv: list[str] | None = None
    started_at: float | None = None
    pid: int | None = None
    ended_at: float | None = None
    end: SessionEnd | None = None


class OneSession(Answer):
    """One session; subscribe to `session:{sessionId}` with `since: 0` to miss nothing."""

    session_id: str
    session: Session


class SessionState(Answer):
    """Where a session stands after a command."""

    session_id: str
    state: str


class MessageAccepted(Answer):
    """A message was taken."""

    session_id: str
    message_id: str


class ManySessions(Answer):
    """Sessions, newest first; `next_cursor` continues the list."""

    sessions: list[Session]
    next_cursor: str | None = None


@command("session.create", action="write")
class CreateSession(Command):
    """Start a session. Needs `write` on the project's channel.

    `agent` command runs `argv`. Its standard input is empty, or `prompt`; with `keep_alive` it
    stays open for `session.send_message` and `session.input`. `cwd` must be inside a known project;
    without project and folder the scratch project is used. `timeout` is in seconds.
    """

    agent: str
    project_id: str | None = None
    cwd: str | None = None
    prompt: str | None = None
    argv: list[str] | None = None
    keep_alive: bool = False
    name: Annotated[str, Meta(max_length=200)] | None = None
    env: dict[str, str] | None = None
    timeout: Annotated[float, Meta(ge=0)] | None = None


@command("session.list", action="read")
class ListSessions(Command):
    """List the sessions that the token may read, newest first."""

    project_id: str | None = None
    state: str | None = None
    agent: str | None = None
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


@command("session.get", action="read", channel="session:{session_id}")
class GetSession(Command):
    """Tell about one session."""

    session_id: str


@command("session.send_message", action="write", channel="session:{session_id}")
class SendMessage(Command):
    """Say something to a live session; a command gets it as a line of its standard input."""

    session_id: str
    content: str


@command("session.input", action="write", channel="session:{session_id}")
class SendInput(Command):
    """Write to the standard input of a command, exactly these bytes; `end` closes it after them."""

    session_id: str
    data: str = ""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    end: bool = False


@command("session.cancel", action="write", channel="session:{session_id}")
class CancelSession(Command):
    """Ask it to stop; its whole tree is killed after the grace period."""

    session_id: str


@command("session.kill", action="write", channel="session:{session_id}")
class KillSession(Command):
    """Kill its whole tree at once."""

    session_id: str
