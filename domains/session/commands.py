"""What can be asked of sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from daemon.core.events import Answer, Command, Content, command
from domains.session.messages import Image, Message, Permission, Usage


class Abilities(Answer):
    """What an agent can do. `conversation`: it takes messages turn by turn."""

    conversation: bool = False
    permissions: bool = False
    interrupt: bool = False
    resume: bool = False
    fork: bool = False
    images: bool = False
    models: bool = False
    partial_text: bool = False


class SessionEnd(Answer):
    """How a session ended: the event, and what it said."""

    type: Literal["completed", "error", "cancelled"]
    duration_ms: int
    code: str | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None


class Restart(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """When a command is started again.

    `delay` is in seconds and doubles up to `max_delay`. `when` always is also after a good end.
    More than `max_restarts` within `within` seconds, the delays not counted, and it is given up.
    """

    when: Literal["on_failure", "always"] = "on_failure"
    delay: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0
    max_delay: Annotated[float, Meta(ge=0.01, le=86_400)] = 60.0
    max_restarts: Annotated[int, Meta(ge=1, le=10_000)] = 5
    within: Annotated[float, Meta(ge=0.1, le=86_400)] = 60.0


class Workspace(Answer):
    """Where a session works apart: on a branch, and with a `path` in a work tree of its own.

    `removed`: the work tree is no more, since nothing in it would be lost.
    """

    kind: Literal["branch", "worktree"]
    branch: str
    path: str | None = None
    removed: bool = False


class Session(Answer):
    """One session. Times in Unix seconds; `user` is the `sub` of its creator.

    States: queued, idle, working, waiting, ended. The variables that it was given are never shown.
    `permissions` are the questions that wait for an answer, `agent_session_id` is the agent's own
    name of the conversation; usage and cost are those of all its turns.
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
    abilities: Abilities = Abilities()
    model: str | None = None
    permission_mode: str | None = None
    agent_session_id: str | None = None
    permissions: list[Permission] = field(default_factory=list)
    queued_messages: int = 0
    usage: Usage | None = None
    cost_usd: float | None = None
    restarts: int = 0
    turns: int = 0
    workspace: Workspace | None = None


class OneSession(Answer):
    """One session; subscribe to `session:{sessionId}` with `since: 0` to miss nothing."""

    session_id: str
    session: Session


class SessionState(Answer):
    """Where a session stands after a command."""

    session_id: str
    state: str


class MessageAccepted(Answer):
    """A message was taken; with `position` it waits for its turn, 1 is next."""

    session_id: str
    message_id: str
    position: int | None = None


class PermissionAnswered(Answer):
    """The answer to a permission was passed on."""

    request_id: str


class ManyMessages(Answer):
    """Messages, the oldest first; `next_cursor` continues the list."""

    session_id: str
    messages: list[Message]
    next_cursor: str | None = None


class ImageContent(Content):
    """An image of a message: its `data` is in base64, and over HTTP it is the image itself."""


class TranscriptPage(Answer):
    """Whole lines as the agent's processes wrote them; `next_cursor` continues them."""

    session_id: str
    content: str
    next_cursor: str | None = None


class ImportedSessions(Answer):
    """The sessions that were made, the oldest first; `known` counts those that were there."""

    sessions: list[Session]
    known: int


class ManySessions(Answer):
    """Sessions, newest first; `next_cursor` continues the list."""

    sessions: list[Session]
    next_cursor: str | None = None


@command("session.create", action="write", answer=OneSession)
class CreateSession(Command):
    """Start a session. Needs `write` on the project's channel.

    `agent` command runs `argv`. Its standard input is empty, or `prompt`; with `keep_alive` it
    stays open for `session.send_message` and `session.input`. `cwd` must be inside a known project;
    without project and folder the scratch project is used. `timeout` is in seconds.

    Any other agent holds a conversation that `prompt` begins; with `keep_alive` it waits for more
    when its queue of messages is empty. `resume` is the agent's own id of an earlier conversation,
    which `fork` leaves as it is. `mcp_config` is JSON, or the path of a file with it, which keeps
    it out of the process list. `restart` is for a command that is to run on; it holds while the
    daemon runs, and until somebody cancels.

    `workspace` branch has it work on a branch `agentcmd/SESSION` that the project is switched to,
    worktree in a git work tree of its own, which is removed when the session has ended and nothing
    in it would be lost.
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
    images: list[Image] | None = None
    model: Annotated[str, Meta(max_length=200)] | None = None
    permission_mode: str | None = None
    system_prompt: str | None = None
    mcp_config: str | None = None
    allowed_tools: list[str] | None = None
    budget_usd: Annotated[float, Meta(gt=0)] | None = None
    resume: Annotated[str, Meta(max_length=200)] | None = None
    fork: bool = False
    restart: Restart | None = None
    workspace: Literal["stay", "branch", "worktree"] = "stay"


@command("session.import", action="write", answer=ImportedSessions)
class ImportSessions(Command):
    """Take over an agent's own conversations of a folder. Needs `write` on the project's channel.

    They are sessions that have ended, and go on with `session.resume`. A conversation that is known
    here already is left as it is.
    """

    agent: str
    project_id: str | None = None
    cwd: str | None = None


@command("session.list", action="read", answer=ManySessions)
class ListSessions(Command):
    """List the sessions that the token may read, newest first."""

    project_id: str | None = None
    state: str | None = None
    agent: str | None = None
    user: str | None = None
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


@command("session.get", action="read", channel="session:{session_id}", answer=OneSession)
class GetSession(Command):
    """Tell about one session."""

    session_id: str


@command("session.messages", action="read", channel="session:{session_id}", answer=ManyMessages)
class ListMessages(Command):
    """List what was said in a session, the oldest first."""

    session_id: str
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


@command("session.image", action="read", channel="session:{session_id}", answer=ImageContent)
class GetImage(Command):
    """Get an image of a message: the `index`th of its images, those in results of tools included.

    The `href` of an image leads here, and over HTTP it is the image itself.
    """

    session_id: str
    message_id: str
    index: Annotated[int, Meta(ge=0)] = 0


@command("session.transcript", action="read", channel="session:{session_id}", answer=TranscriptPage)
class ReadTranscript(Command):
    """Read the raw lines of a session's agent, as its protocol has them."""

    session_id: str
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


@command(
    "session.send_message",
    action="write",
    channel="session:{session_id}",
    answer=MessageAccepted,
)
class SendMessage(Command):
    """Say something; a command gets it as a line of its input, an agent as its next turn.

    A busy agent gets it when its turn has ended; one that has ended is resumed for it.
    """

    session_id: str
    content: str
    images: list[Image] | None = None


@command("session.interrupt", action="write", channel="session:{session_id}", answer=SessionState)
class InterruptSession(Command):
    """End the turn that an agent is at; its process takes the next message."""

    session_id: str


@command("session.resume", action="write", channel="session:{session_id}", answer=SessionState)
class ResumeSession(Command):
    """Take up the conversation of a session that has ended, in a new process."""

    session_id: str


@command(
    "session.respond_permission",
    action="write",
    channel="session:{session_id}",
    answer=PermissionAnswered,
)
class RespondPermission(Command):
    """Answer a question of `session.permission_requested`; the first answer counts.

    `updated_input` replaces the tool's input, `message` tells the agent why not, `remember` takes
    the agent's suggestions to not ask this again.
    """

    session_id: str
    request_id: str
    decision: Literal["allow", "deny"]
    message: str | None = None
    updated_input: dict[str, Any] | None = None
    remember: bool = False


@command("session.input", action="write", channel="session:{session_id}", answer=SessionState)
class SendInput(Command):
    """Write to the standard input of a command, exactly these bytes; `end` closes it after them."""

    session_id: str
    data: str = ""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    end: bool = False


@command(
    "session.cancel",
    action="write",
    channel="session:{session_id}",
    answer=SessionState,
    urgent=True,
)
class CancelSession(Command):
    """Ask it to stop; its whole tree is killed after the grace period."""

    session_id: str


@command(
    "session.kill", action="write", channel="session:{session_id}", answer=SessionState, urgent=True
)
class KillSession(Command):
    """Kill its whole tree at once."""

    session_id: str


class TurnFile(Answer):
    """A file that a turn has changed; the lines of a binary one are not counted."""

    path: str
    status: str
    old_path: str | None = None
    additions: int | None = None
    deletions: int | None = None


class TurnDiff(Answer):
    """What has changed from before a `turn` to before the next, or to now.

    `older` and `newer` are commits that stand on no branch. Without a `patch` it is too long.
    """

    session_id: str
    turn: int
    older: str
    newer: str
    files: list[TurnFile]
    patch: str | None = None


class RestoredTurn(Answer):
    """How many files were `written` and `removed`."""

    session_id: str
    written: int
    removed: int


@command("session.diff", action="read", channel="session:{session_id}", answer=TurnDiff)
class DiffTurn(Command):
    """Tell what a turn has changed in the project's files; without `turn`, the last one.

    It is compared what was before that turn with what was before the next.
    """

    session_id: str
    turn: Annotated[int, Meta(ge=1)] | None = None


@command("session.restore", action="write", channel="session:{session_id}", answer=RestoredTurn)
class RestoreTurn(Command):
    """Make the project's files what they were before a `turn`, the last one without it.

    Neither branches nor what is staged are touched. `undo` takes the last restore back. It is
    refused while an agent works on these files.
    """

    session_id: str
    turn: Annotated[int, Meta(ge=1)] | None = None
    undo: bool = False
