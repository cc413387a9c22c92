"""Recordings of terminals: one file each, begun and ended on request."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable
from pathlib import Path

import structlog

from daemon.core.bus import EventBus
from daemon.core.errors import Conflict, NotFound
from daemon.core.supervisor import Supervisor
from domains.shell import commands
from domains.shell.events import ShellRecordingUpdated
from domains.shell.recording import Header, Recording, mend
from domains.shell.terminal import LiveTerminal

log = structlog.get_logger(__name__)


class Recorder:
    """Starts, ends and finds the recordings of terminals."""

    def __init__(self, *, bus: EventBus, supervisor: Supervisor, folder: Path) -> None:
        """Record into a folder, which is made when it is needed."""
        self._bus = bus
        self._supervisor = supervisor
        self._folder = folder
        self._starting: set[str] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def mend(self) -> None:
        """Take torn last lines away that a killed daemon has left; blocks."""
        for path in self._folder.glob("*.cast"):
            try:
                mend(path)
            except OSError as error:
                log.warning("recording.not_mended", path=str(path), error=str(error))

    async def start(
        self, live: LiveTerminal, *, limit: int, holds_input: bool
    ) -> commands.Recording:
        """Begin a recording; Conflict where one runs, Unavailable where no file can be made."""
        terminal = live.terminal
        if terminal.state == "exited":
            raise Conflict(f"the terminal {terminal.id} has exited; there is nothing to record")
        if live.terminal.id in self._starting or _runs(live.recording):
            raise Conflict(f"the terminal {terminal.id} is being recorded already")
        header = Header(
            cols=terminal.cols,
            rows=terminal.rows,
            command=shlex.join(terminal.command),
            title=terminal.name or terminal.title or None,
        )
        self._starting.add(terminal.id)
        try:
            recording = await Recording.start(
                self._folder / f"{terminal.id}.cast",
                header,
                supervisor=self._supervisor,
                limit=limit,
                holds_input=holds_input,
                ended=lambda reason: self._tell(live, "ended", reason),
            )
        finally:
            self._starting.discard(terminal.id)
        live.recording = recording
        recording.output(live.log.screen())  # what stands there already
        if live.over.done():  # it has ended meanwhile
            await recording.close()
        else:
            self._tell(live, "recording")
        return self.find(live)

    async def stop(self, live: LiveTerminal) -> commands.Recording:
        """End a recording; Conflict where none runs."""
        recording = live.recording
        if recording is None or not _runs(recording):
            raise Conflict(f"the terminal {live.terminal.id} is not being recorded")
        await recording.close()
        self._tell(live, "ended", recording.reason or "")
        return self.find(live)

    def find(self, live: LiveTerminal) -> commands.Recording:
        """Tell about the newest recording; NotFound where there is none."""
        recording = live.recording
        if recording is None:
            raise NotFound(
                f"the terminal {live.terminal.id} has no recording; begin one with "
                "'agentcmd shell record'"
            )
        return commands.Recording(
            terminal_id=live.terminal.id,
            path=str(recording.path),
            state=recording.state,
            started_at=recording.started_at,
            bytes=recording.bytes,
            reason=recording.reason or "",
        )

    def finish(self, live: LiveTerminal) -> None:
        """End the recording of a terminal that has ended, beside the rest."""
        if live.recording is not None:
            closing = self._supervisor.start(
                live.recording.close(), name=f"recording:{live.terminal.id}"
            )
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def end(self, terminals: Iterable[LiveTerminal]) -> None:
        """Wait until what was recorded is written."""
        for live in terminals:
            if _runs(live.recording):
                self.finish(live)
        if self._closing:
            await asyncio.wait(self._closing)

    def _tell(self, live: LiveTerminal, state: str, reason: str = "") -> None:
        self._bus.emit(
            ShellRecordingUpdated(
                terminal_id=live.terminal.id,
                project_id=live.terminal.project_id,
                state=state,
                reason=reason,
            )
        )


def _runs(recording: Recording | None) -> bool:
    return recording is not None and recording.state == "recording"
