"""A live terminal: what its program writes on its way to the viewers, and what they say to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

import msgspec

from daemon.core.bus import EventBus
from daemon.core.errors import Conflict
from daemon.core.journal import Journal
from daemon.core.program import Size
from daemon.core.task import Task
from daemon.core.terminal import READ_BYTES, TerminalProcess
from domains.shell.clipboard import ClipboardFilter
from domains.shell.commands import Terminal
from domains.shell.cut import Ordinary
from domains.shell.events import (
    ShellCreated,
    ShellError,
    ShellExit,
    ShellOutput,
    ShellRecordingUpdated,
    ShellResized,
    ShellTitle,
)
from domains.shell.log import OUTPUT, TerminalLog, View
from domains.shell.modes import Tracker
from domains.shell.pace import Pace
from domains.shell.places import Places
from domains.shell.recording import Recording
from domains.shell.sizes import Sizes

AT_ONCE = 4 << 10
"""Bytes that leave at once within each WINDOW; a key's echo and a prompt are less."""

WINDOW = 0.004
"""Seconds that output beyond that is collected for."""

CHUNK_BYTES = READ_BYTES
"""Bytes of output that are not collected any further: a turn of the loop in a flood."""

NUDGE = 0.05
"""Seconds between the two sizes that have a full-screen program draw its screen anew."""

REDRAW = 1.0
"""Seconds, at least, between two of these."""

SENTENCES = {
    "idle": "nobody used it for as long as [shell] idle_timeout says",
    "timeout": "it ran longer than its time limit",
    "daemon_stopped": "the daemon was stopped, and its terminals with it; open a new one",
    "oom": "its memory limit was reached",
    "lost": "what watched over it was killed; open a new one",
}
"""Why a terminal has ended that neither its program nor a client has ended."""


class LiveTerminal:
    """One terminal, told of each step by its task."""

    def __init__(
        self,
        terminal: Terminal,
        *,
        bus: EventBus,
        journal: Journal,
        ring_bytes: int,
        clipboard: bool,
        gone: Callable[[LiveTerminal], None],
    ) -> None:
        """Begin before the program runs; `gone` is told of the end, once."""
        loop = asyncio.get_running_loop()
        self.terminal = terminal
        self.log = TerminalLog(
            terminal.id, ring_bytes=ring_bytes, gone=self._left, redraw=self._redraw
        )
        self.begun: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self.reason: str | None = None
        self.recording: Recording | None = None
        self.used_at = time.monotonic()
        self._bus = bus
        self._journal = journal
        self._gone = gone
        self._loop = loop
        self._process: TerminalProcess | None = None
        self.places = Places()
        self._sizes = Sizes(_size_of(terminal))
        self._pace = Pace()
        self._patience: asyncio.TimerHandle | None = None
        self._filter = None if clipboard else ClipboardFilter()
        self._tracker = Tracker()
        self._ordinary = Ordinary()
        self._waiting: list[bytes] = []
        self._size = 0
        self._half = b""
        self._window = 0.0
        self._spent = 0
        self._redrawn = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # The task's side

    def queued(self, place: int) -> None:
        """Terminals do not queue."""

    def started(self, task: Task) -> None:
        """Tell that the program runs."""
        self._process = cast(TerminalProcess, task.process)
        self._process.pump.glance = self._ordinary.look
        task.expect_output(False)
        self._change(pid=task.pid)
        self._journal.adopt(self.log)
        self._bus.emit(
            ShellCreated(
                terminal_id=self.terminal.id,
                project_id=self.terminal.project_id,
                terminal=self.terminal,
            )
        )
        self.begun.set_result(None)

    def output(self, stream: str, data: bytes) -> None:
        """Pass output on: at once while there is little, collected while there is much."""
        del stream
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= CHUNK_BYTES:
            self._tell()
        elif self._timer is None:
            now = self._loop.time()
            if now - self._window >= WINDOW:
                self._window, self._spent = now, 0
            if self._spent + self._size <= AT_ONCE:
                self._tell()
            else:
                self._timer = self._loop.call_at(self._window + WINDOW, self._tell)

    def ended(self, task: Task) -> None:
        """Tell the last of the output, then the end."""
        if self._process is not None:
            self._tell(last=True)
            self._tell_end(task)
        if self._patience is not None:
            self._patience.cancel()
        if not self.begun.done():
            self.begun.set_result(None)
        self._gone(self)
        self.over.set_result(None)

    def _tell_end(self, task: Task) -> None:
        id_, project = self.terminal.id, self.terminal.project_id
        code = task.exit.code if task.exit else None
        number = task.exit.signal if task.exit else None
        reason = self.reason or task.reason or "lost"
        reason = "closed" if reason == "cancelled" else reason
        self._change(
            state="exited",
            pid=None,
            ended_at=time.time(),
            exit_code=code,
            signal=number,
            reason=reason,
        )
        if reason in SENTENCES:
            sentence = task.message or SENTENCES[reason]
            self._bus.emit(
                ShellError(terminal_id=id_, project_id=project, code=reason, message=sentence)
            )
        if self.recording is not None:
            self.recording.exited(code if code is not None else 128 + (number or 0))
            if self.recording.state == "recording":
                self._bus.emit(
                    ShellRecordingUpdated(terminal_id=id_, project_id=project, state="ended")
                )
        self._bus.emit(
            ShellExit(
                terminal_id=id_,
                project_id=project,
                exit_code=code,
                signal=number,
                reason=reason,
                duration_ms=round(task.duration * 1000),
                cpu_seconds=task.exit.cpu_seconds if task.exit else None,
                max_rss_bytes=task.exit.max_rss_bytes if task.exit else None,
            )
        )

    # Output

    def _tell(self, *, last: bool = False) -> None:
        """Append what has been collected as one event."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data = b"".join(self._waiting)
        self._waiting.clear()
        usual = self._ordinary.take()
        if self._filter is not None:
            shown = self._filter.feed(data, ordinary=usual)
            usual = usual and shown is data
            data = shown + (self._filter.flush() if last else b"")
        if self._half:
            data, usual = self._half + data, False
        self.used_at = time.monotonic()
        self._spent += self._size
        self._size = 0
        self._half = b""
        if not last and data and data[-1] >= 0x80:
            end = whole(data)
            data, self._half = data[:end], data[end:]
        if not data:
            return
        self._append(data)  # first of all: somebody waits for it
        title, folder = self._tracker.title, self._tracker.folder
        self._tracker.feed(data, ordinary=usual)
        if (self._tracker.title, self._tracker.folder) != (title, folder):
            title, folder = self._tracker.title, self._tracker.folder
            self._change(title=title, folder=folder)
            self._bus.emit(ShellTitle(terminal_id=self.terminal.id, title=title, folder=folder))

    def _append(self, data: bytes) -> None:
        at = self.log.size
        self.log.write(data, self._tracker.modes)
        self._journal.filled(self.log, len(data))
        self._bus.announce(
            OUTPUT,
            lambda: ShellOutput(
                terminal_id=self.terminal.id, data=data.decode(errors="replace"), byte_offset=at
            ),
        )
        if self.recording is not None:
            self.recording.output(data)
        self._pace.wrote(self.log.size, self._loop.time())
        self._keep_pace()

    # What viewers say

    def write(self, data: bytes, viewer: str) -> None:
        """Type; Unavailable when too much waits that the program has not read."""
        process = self._running()
        if process.feed is not None:
            process.feed.write(data)
        self.used_at = time.monotonic()
        if self.recording is not None:
            self.recording.input(data)
        if self._view(viewer) is not None:
            self._sizes.typed(viewer)
            self._fit()

    def resize(self, size: Size, viewer: str, *, take_over: bool) -> None:
        """Note a viewer's size; one who views nothing means it for all."""
        self._running()
        if self._view(viewer) is not None:
            self._sizes.want(viewer, size, take_over=take_over)
        else:
            self._sizes.size = size
        self._fit()

    def signal(self, number: int) -> None:
        """Signal what is in the foreground."""
        self._running().signal(number)

    def ack(self, shown: int, viewer: str, *, paces: bool) -> None:
        """Learn what a viewer has shown."""
        view = self._view(viewer)
        if paces and view is not None:
            self._pace.ack(viewer, shown, self.log.size, self._loop.time(), past=view.past)
        else:
            self._pace.leave(viewer)
        self._keep_pace()

    def _left(self, viewer: str) -> None:
        """Learn that a viewer has gone."""
        self.used_at = time.monotonic()
        self._sizes.leave(viewer)
        self._pace.leave(viewer)
        self._keep_pace()
        self._fit()

    def _redraw(self) -> None:
        """Have a full-screen program draw its screen anew, for one who has not seen it drawn."""
        process, now = self._process, self._loop.time()
        if process is None or not process.open or now < self._redrawn + REDRAW:
            return
        if not self._tracker.modes.screen:
            return
        self._redrawn = now
        size = self._sizes.size
        process.resize(Size(size.cols, size.rows - 1 if size.rows > 1 else 2))
        self._loop.call_later(NUDGE, self._fit_again)

    def snapshot(self) -> Terminal:
        """Give the record as it is now."""
        return msgspec.structs.replace(
            self.terminal,
            byte_offset=self.log.size,
            viewers=len(self.log.views),
            recording=self.recording is not None and self.recording.state == "recording",
        )

    # Inside

    def _running(self) -> TerminalProcess:
        process = self._process
        if process is None or not process.open or self.terminal.state == "exited":
            raise Conflict(f"the terminal {self.terminal.id} has exited; open a new one")
        return process

    def _view(self, viewer: str) -> View | None:
        return next((view for view in self.log.views.values() if view.id == viewer), None)

    def _fit(self) -> None:
        """Give the terminal the size that it is to have."""
        size = self._sizes.size
        process = self._process
        before = _size_of(self.terminal)
        if size == before or process is None or not process.open:
            return
        process.resize(size)
        self._change(cols=size.cols, rows=size.rows, xpixel=size.xpixel, ypixel=size.ypixel)
        if (size.cols, size.rows) == (before.cols, before.rows):
            return
        self._tracker.resized()
        if self.recording is not None:
            self.recording.resized(size.cols, size.rows)
        self._bus.emit(ShellResized(terminal_id=self.terminal.id, cols=size.cols, rows=size.rows))

    def _fit_again(self) -> None:
        if self._process is not None and self._process.open:
            self._process.resize(_size_of(self.terminal))

    def _keep_pace(self) -> None:
        """Read on, or wait for the slowest viewer that counts."""
        if self._process is None:
            return
        if not self._pace.holds(self.log.size):
            self._process.pump.resume()
            return
        self._process.pump.pause()
        if self._patience is None:
            self._lose_patience()

    def _lose_patience(self) -> None:
        """Look again when the first of those that are waited for has been silent for too long."""
        left = self._pace.give_up(self.log.size, self._loop.time())
        self._patience = None if left is None else self._loop.call_later(left, self._lose_patience)
        if left is None:
            self._keep_pace()

    def _change(self, **changes: object) -> None:
        self.terminal = msgspec.structs.replace(self.terminal, **changes)


def _size_of(terminal: Terminal) -> Size:
    return Size(terminal.cols, terminal.rows, terminal.xpixel, terminal.ypixel)


def whole(data: bytes) -> int:
    """Give where the last whole character of UTF-8 ends; what can be none is whole, too."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF8 else 1
            return len(data) - back if size > back else len(data)
    return len(data)
