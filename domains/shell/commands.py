"""What can be asked of terminals."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from daemon.core.events import Answer, Attachment, Command, command

MAX_SIZE = 10_000
"""Characters; more is no window, and programs hold the whole screen in memory."""

Cells = Annotated[int, Meta(ge=1, le=MAX_SIZE)]
Pixels = Annotated[int, Meta(ge=0, le=65535, description="Pixels of the whole text; 0: unknown.")]


class Terminal(Answer):
    """One terminal. Times are in Unix seconds.

    `cwd` is where it was opened, `folder` where its shell says that it is. `byte_offset` is the
    length of its output so far, `viewers` how many follow it. `xpixel` and `ypixel` are the size of
    its text in pixels, 0 where nobody has told it.
    """

    id: str
    project_id: str
    state: Literal["running", "exited"]
    command: list[str]
    cwd: str
    user: str
    cols: int
    rows: int
    created_at: float
    xpixel: int = 0
    ypixel: int = 0
    pid: int | None = None
    name: str | None = None
    title: str = ""
    folder: str = ""
    byte_offset: int = 0
    viewers: int = 0
    recording: bool = False
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None


class OneTerminal(Answer):
    """One terminal."""

    terminal_id: str
    terminal: Terminal


class ManyTerminals(Answer):
    """The terminals that the token may read, the newest last; ended ones for a while."""

    terminals: list[Terminal]


class TerminalState(Answer):
    """How a terminal is after a command; its size may be another viewer's."""

    terminal_id: str
    state: str
    cols: int
    rows: int


class TerminalExit(Answer):
    """How a terminal has ended."""

    terminal_id: str
    exit_code: int | None
    reason: str
    signal: int | None = None


class Recording(Attachment):
    """A recording in asciicast v3; over HTTP the file itself is the answer.

    `bytes` are written so far. `reason` says why it has ended, where nobody has asked for that.
    """

    media_type: ClassVar[str] = "application/x-asciicast"

    terminal_id: str
    state: Literal["recording", "ended"]
    started_at: float
    bytes: int
    reason: str = ""


@command("shell.create", action="write", answer=OneTerminal)
class CreateShell(Command):
    """Open a terminal: a login shell, or a command, in a folder of a project.

    Without `project_id` and `cwd` it is in the scratch project. `env` is added to the environment.
    """

    project_id: str | None = None
    cwd: str | None = None
    cols: Cells = 80
    rows: Cells = 24
    xpixel: Pixels = 0
    ypixel: Pixels = 0
    command: list[str] | None = None
    env: dict[str, str] | None = None
    name: Annotated[str, Meta(max_length=200)] | None = None
    record: bool = False


@command("shell.list", action="read", answer=ManyTerminals)
class ListShells(Command):
    """List the terminals that the token may read."""

    project_id: str | None = None


@command("shell.get", action="read", channel="shell:terminal:{terminal_id}", answer=OneTerminal)
class GetShell(Command):
    """Tell about one terminal.

    A viewer that is itself in a terminal (`AGENTCMD_TERMINAL` in its environment) says so with
    `within`, and is refused where a terminal would be shown in itself.
    """

    terminal_id: str
    within: Annotated[str, Meta(max_length=80)] | None = None


@command(
    "shell.input",
    action="write",
    channel="shell:terminal:{terminal_id}",
    answer=TerminalState,
    silent=True,
    urgent=True,
    cost=0.2,
)
class SendShellInput(Command):
    """Type into a terminal; answered only where the message had an id.

    Who has typed last decides the size. With encoding base64 the data may be any bytes.
    """

    terminal_id: str
    data: str
    encoding: Literal["utf-8", "base64"] = "utf-8"


@command(
    "shell.resize",
    action="write",
    channel="shell:terminal:{terminal_id}",
    answer=TerminalState,
    silent=True,
    urgent=True,
)
class ResizeShell(Command):
    """Say how large a viewer is; answered only where the message had an id.

    The terminal has the size of the viewer that has typed last. With `take_over` it gets this one
    at once, and so it does where whoever asks views nothing.
    """

    terminal_id: str
    cols: Cells
    rows: Cells
    xpixel: Pixels = 0
    ypixel: Pixels = 0
    take_over: bool = False


@command(
    "shell.signal",
    action="write",
    channel="shell:terminal:{terminal_id}",
    answer=TerminalState,
    silent=True,
    urgent=True,
)
class SignalShell(Command):
    """Signal what runs in the foreground; answered only where the message had an id.

    The name may have its SIG.
    """

    terminal_id: str
    signal: str


@command(
    "shell.ack",
    action="read",
    channel="shell:terminal:{terminal_id}",
    answer=TerminalState,
    silent=True,
    cost=0.02,
)
class AckShell(Command):
    """Say how many bytes of output a viewer has shown; answered only where it had an id.

    A viewer that may write and does this sets the pace of the program, until it has shown nothing
    more for 5 s or says that it is `hidden`.
    """

    terminal_id: str
    offset: Annotated[int, Meta(ge=0)]
    hidden: bool = False


@command(
    "shell.close",
    action="write",
    channel="shell:terminal:{terminal_id}",
    answer=TerminalExit,
    silent=True,
    urgent=True,
)
class CloseShell(Command):
    """End a terminal and all that runs in it; answered when it has ended, where it had an id."""

    terminal_id: str


@command("shell.record", action="write", channel="shell:terminal:{terminal_id}", answer=Recording)
class RecordShell(Command):
    """Record a terminal from now on, in asciicast v3."""

    terminal_id: str
    input: bool = False
    max_bytes: Annotated[int, Meta(ge=1024)] | None = None


@command(
    "shell.stop_recording",
    action="write",
    channel="shell:terminal:{terminal_id}",
    answer=Recording,
)
class StopRecording(Command):
    """End a recording; its file stays."""

    terminal_id: str


@command("shell.recording", action="read", channel="shell:terminal:{terminal_id}", answer=Recording)
class GetRecording(Command):
    """Tell about a terminal's newest recording; over HTTP, download it."""

    terminal_id: str
