"""What happens at a terminal."""

from __future__ import annotations

from daemon.core.events import Event, event
from domains.shell.commands import Terminal


@event("shell.created", "shell:terminal:{terminal_id}", "project:{project_id}")
class ShellCreated(Event):
    """A program runs at a new terminal."""

    terminal_id: str
    project_id: str
    terminal: Terminal


@event("shell.output", "shell:terminal:{terminal_id}")
class ShellOutput(Event):
    """What the program wrote, decoded across the borders of pieces.

    `byte_offset` is where the piece begins in the output, in bytes; what is no UTF-8 is U+FFFD.
    """

    terminal_id: str
    data: str
    byte_offset: int


@event("shell.resized", "shell:terminal:{terminal_id}")
class ShellResized(Event):
    """The terminal has another size: that of who wrote last, or of who took it over."""

    terminal_id: str
    cols: int
    rows: int


@event("shell.title", "shell:terminal:{terminal_id}")
class ShellTitle(Event):
    """The program has named its window (OSC 0 and 2), or told its folder (OSC 7)."""

    terminal_id: str
    title: str
    folder: str


@event("shell.recording_updated", "shell:terminal:{terminal_id}", "project:{project_id}")
class ShellRecordingUpdated(Event):
    """A recording began or ended; `reason` says why, where nobody has asked for its end."""

    terminal_id: str
    project_id: str
    state: str
    reason: str = ""


@event("shell.error", "shell:terminal:{terminal_id}", "project:{project_id}")
class ShellError(Event):
    """The terminal ends, though neither its program nor a client has ended it.

    `code` is one of idle, timeout, daemon_stopped, oom, lost.
    """

    terminal_id: str
    project_id: str
    code: str
    message: str


@event("shell.exit", "shell:terminal:{terminal_id}", "project:{project_id}")
class ShellExit(Event):
    """The program has ended, all of its output has been told, and nothing of it runs any more.

    `exit_code` is null where a signal ended it. `reason` is one of exited, signaled, closed, idle,
    timeout, daemon_stopped, oom, lost.
    """

    terminal_id: str
    project_id: str
    exit_code: int | None
    reason: str
    duration_ms: int
    signal: int | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
