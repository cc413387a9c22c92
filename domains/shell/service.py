"""The shell service: opens terminals, finds them, and passes on what clients say to them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import structlog

from daemon.core.bus import EventBus
from daemon.core.commands import Caller, as_bytes, handles
from daemon.core.environment import child_environment
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound, RateLimited
from daemon.core.ids import new_id
from daemon.core.journal import Journal
from daemon.core.program import Program, Size, specification
from daemon.core.supervisor import Supervisor
from daemon.core.task import Task, Tasks, TaskSettings
from domains.shell.commands import (
    AckShell,
    CloseShell,
    CreateShell,
    GetRecording,
    GetShell,
    ListShells,
    ManyTerminals,
    OneTerminal,
    Recording,
    RecordShell,
    ResizeShell,
    SendShellInput,
    SignalShell,
    StopRecording,
    Terminal,
    TerminalExit,
    TerminalState,
)
from domains.shell.opening import (
    ENVIRONMENT,
    KIND,
    WITHIN,
    ShellSettings,
    limits,
    own_shell,
    refusal,
)
from domains.shell.recorder import Recorder
from domains.shell.terminal import LiveTerminal

log = structlog.get_logger(__name__)

ENDED = 1000
ENDED_BYTES = 64 << 20
"""How many terminals that have ended are kept at most, and how much of their output."""


class Projects(Protocol):
    """What terminals need of the projects."""

    async def place(
        self, project_id: str | None, cwd: str | None, caller: Caller
    ) -> tuple[str, str]:
        """Find the project and the folder for something new that this caller may make there."""


class ShellService:
    """All terminals are in memory; they end with the daemon."""

    def __init__(
        self,
        *,
        bus: EventBus,
        journal: Journal,
        tasks: Tasks,
        supervisor: Supervisor,
        project: Projects,
        task_settings: TaskSettings,
        shell_settings: ShellSettings,
        state_dir: Path,
    ) -> None:
        """Open terminals in these projects, as these tasks."""
        self._bus = bus
        self._journal = journal
        self._tasks = tasks
        self._projects = project
        self._settings = shell_settings
        self._limits = limits(task_settings, shell_settings)
        self._recorder = Recorder(bus=bus, supervisor=supervisor, folder=state_dir / "recordings")
        self._terminals: dict[str, LiveTerminal] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @handles(CreateShell)
    async def create(self, command: CreateShell, caller: Caller) -> OneTerminal:
        """Open a terminal."""
        argv = command.command
        if argv is None:
            argv = [self._settings.program or own_shell(os.environ), "-l"]
        id_ = new_id()
        env = child_environment(os.environ, configured=ENVIRONMENT, given=command.env)
        env[WITHIN] = id_
        size = Size(command.cols, command.rows, command.xpixel, command.ypixel)
        specification(Program(argv=argv, cwd="/", env=env, terminal=size))
        project_id, cwd = await self._projects.place(command.project_id, command.cwd, caller)
        self._tasks.require_open()
        self._require_place(caller.sub)
        live = LiveTerminal(
            Terminal(
                id=id_,
                project_id=project_id,
                state="running",
                command=list(argv),
                cwd=cwd,
                user=caller.sub,
                cols=size.cols,
                rows=size.rows,
                xpixel=size.xpixel,
                ypixel=size.ypixel,
                created_at=time.time(),
                name=command.name,
            ),
            bus=self._bus,
            journal=self._journal,
            ring_bytes=self._settings.ring_bytes,
            clipboard=self._settings.clipboard,
            gone=self._ended,
        )
        terminal = live.terminal
        task = Task(
            id_=terminal.id,
            kind=KIND,
            channel=live.log.name,
            user=caller.sub,
            program=Program(argv=argv, cwd=cwd, env=env, terminal=size),
            owner=live,
            limits=self._limits,
            stop_signal=signal.SIGHUP,
            apart=True,
        )
        self._terminals[terminal.id] = live
        self._tasks.start(task)
        await asyncio.wait([live.begun])
        if task.failure is not None or task.started_at is None:
            raise refusal(task)
        if command.record and live.terminal.state == "running":
            try:
                await self._record(live, RecordShell(terminal_id=terminal.id))
            except AgentcmdError:
                task.stop(hard=True)  # nobody would learn its id
                await asyncio.wait([live.over])
                raise
        if self._settings.idle_timeout:
            self._watch(live)
        return OneTerminal(terminal_id=terminal.id, terminal=live.snapshot())

    @handles(ListShells)
    def list(self, command: ListShells, caller: Caller) -> ManyTerminals:
        """List what the token may read."""
        return ManyTerminals(
            terminals=[
                live.snapshot()
                for live in self._terminals.values()
                if live.begun.done()
                and command.project_id in (None, live.terminal.project_id)
                and caller.may("read", live.log.name)
            ]
        )

    @handles(GetShell)
    def get(self, command: GetShell, caller: Caller) -> OneTerminal:
        """Tell about one terminal."""
        live = self._get(command.terminal_id)
        if command.within:
            self._require_no_loop(live, command.within)
            live.places.note(caller.connection, command.within, live.log.views.values())
        return OneTerminal(terminal_id=live.terminal.id, terminal=live.snapshot())

    @handles(SendShellInput)
    def input(self, command: SendShellInput, caller: Caller) -> TerminalState:
        """Type; plain, so that keys stay in order."""
        live = self._get(command.terminal_id)
        live.write(as_bytes(command.data, command.encoding), caller.connection)
        return _state(live)

    @handles(ResizeShell)
    def resize(self, command: ResizeShell, caller: Caller) -> TerminalState:
        """Note a viewer's size."""
        live = self._get(command.terminal_id)
        size = Size(command.cols, command.rows, command.xpixel, command.ypixel)
        live.resize(size, caller.connection, take_over=command.take_over)
        return _state(live)

    @handles(SignalShell)
    def signal(self, command: SignalShell, _: Caller) -> TerminalState:
        """Signal what is in the foreground."""
        live = self._get(command.terminal_id)
        live.signal(_number(command.signal))
        return _state(live)

    @handles(AckShell)
    def ack(self, command: AckShell, caller: Caller) -> TerminalState:
        """Learn what a viewer has shown."""
        live = self._get(command.terminal_id)
        paces = not command.hidden and caller.may("write", live.log.name)
        live.ack(command.offset, caller.connection, paces=paces)
        return _state(live)

    @handles(CloseShell)
    async def close(self, command: CloseShell, _: Caller) -> TerminalExit:
        """End a terminal."""
        live = self._get(command.terminal_id)
        task = self._tasks.get(live.terminal.id)
        if task is not None:
            task.stop()
        await asyncio.wait([live.over])
        ended = live.terminal
        return TerminalExit(
            terminal_id=ended.id,
            exit_code=ended.exit_code,
            reason=ended.reason or "lost",
            signal=ended.signal,
        )

    @handles(RecordShell)
    async def record(self, command: RecordShell, _: Caller) -> Recording:
        """Begin a recording."""
        return await self._record(self._get(command.terminal_id), command)

    @handles(StopRecording)
    async def stop_recording(self, command: StopRecording, _: Caller) -> Recording:
        """End a recording."""
        return await self._recorder.stop(self._get(command.terminal_id))

    @handles(GetRecording)
    def recording(self, command: GetRecording, _: Caller) -> Recording:
        """Tell about a recording."""
        return self._recorder.find(self._get(command.terminal_id))

    async def recover(self) -> None:
        """Mend the recordings of a daemon that was killed."""
        await asyncio.to_thread(self._recorder.mend)

    async def end(self) -> None:
        """Let go of what outlives the terminals."""
        for timer in self._timers.values():
            timer.cancel()
        await self._recorder.end(self._terminals.values())

    # Inside

    async def _record(self, live: LiveTerminal, command: RecordShell) -> Recording:
        limit = min(
            command.max_bytes or self._settings.recording_bytes, self._settings.recording_bytes
        )
        return await self._recorder.start(live, limit=limit, holds_input=command.input)

    def _get(self, terminal_id: str) -> LiveTerminal:
        live = self._terminals.get(terminal_id)
        if live is None or (live.terminal.pid is None and live.terminal.state == "running"):
            raise NotFound(f"there is no terminal {terminal_id[:80]!r}; 'agentcmd shell list'")
        return live

    def _require_no_loop(self, live: LiveTerminal, within: str) -> None:
        """Refuse a viewer in a terminal that is itself, at some depth, shown in this one."""
        seen, waiting = set(), [within]
        while waiting:
            around = waiting.pop()
            if around == live.terminal.id:
                raise Conflict(
                    f"you are in the terminal {around}, which would show itself without end; "
                    "detach from it, or attach from another one"
                )
            other = self._terminals.get(around)
            if other is not None and around not in seen:
                seen.add(around)
                waiting += other.places.of(other.log.views.values())

    def _require_place(self, user: str) -> None:
        """Refuse one terminal too many."""
        running = [each for each in self._terminals.values() if each.terminal.state == "running"]
        own = sum(1 for each in running if each.terminal.user == user)
        if own >= self._settings.max_terminals_per_user:
            raise RateLimited(f"{user} has {own} terminals open; close one first")
        if len(running) >= self._settings.max_terminals:
            raise RateLimited(f"{len(running)} terminals are open; close one first")

    def _ended(self, live: LiveTerminal) -> None:
        id_ = live.terminal.id
        if (timer := self._timers.pop(id_, None)) is not None:
            timer.cancel()
        if live.terminal.state == "running":  # it never began
            del self._terminals[id_]
            return
        if live.recording is not None:
            self._recorder.finish(live)
        loop = asyncio.get_running_loop()
        self._timers[id_] = loop.call_later(self._settings.keep_ended, self._forget, live)
        self._trim()

    def _trim(self) -> None:
        """Forget those that have ended first, where there are too many, or too large.

        What somebody has not read to its end stays for as long as `keep_ended` says.
        """
        ended = [each for each in self._terminals.values() if each.terminal.state == "exited"]
        ended.sort(key=lambda live: live.terminal.ended_at or 0.0)
        count, size = len(ended), sum(each.log.ring_bytes for each in ended)
        for live in ended:
            if size <= ENDED_BYTES and count <= ENDED:
                break
            if live.log.read_out:
                count, size = count - 1, size - live.log.ring_bytes
                self._timers.pop(live.terminal.id).cancel()
                self._forget(live)

    def _forget(self, live: LiveTerminal) -> None:
        id_ = live.terminal.id
        self._timers.pop(id_, None)
        self._terminals.pop(id_, None)
        self._journal.forget(live.log)

    def _watch(self, live: LiveTerminal) -> None:
        """End a terminal that nobody views, types into or hears from for too long."""
        if live.terminal.state == "exited":
            return  # its timer is that of its oblivion now
        limit, now = self._settings.idle_timeout, time.monotonic()
        if live.log.views:
            live.used_at = now
        left = live.used_at + limit - now
        task = self._tasks.get(live.terminal.id)
        if task is None:
            return
        if left <= 0:
            live.reason = "idle"
            task.stop()
            return
        loop = asyncio.get_running_loop()
        self._timers[live.terminal.id] = loop.call_later(left, self._watch, live)


@asynccontextmanager
async def open_service(
    *,
    bus: EventBus,
    journal: Journal,
    tasks: Tasks,
    supervisor: Supervisor,
    project: Projects,
    task_settings: TaskSettings,
    shell_settings: ShellSettings,
    state_dir: Path,
) -> AsyncIterator[ShellService]:
    """Open the shell service."""
    service = ShellService(
        bus=bus,
        journal=journal,
        tasks=tasks,
        supervisor=supervisor,
        project=project,
        task_settings=task_settings,
        shell_settings=shell_settings,
        state_dir=state_dir,
    )
    await service.recover()
    try:
        yield service
    finally:
        await service.end()


def _state(live: LiveTerminal) -> TerminalState:
    now = live.terminal
    return TerminalState(terminal_id=now.id, state=now.state, cols=now.cols, rows=now.rows)


def _number(name: str) -> int:
    wanted = name.upper()
    wanted = wanted if wanted.startswith("SIG") else f"SIG{wanted}"
    try:
        return signal.Signals[wanted].value
    except KeyError:
        raise BadRequest(f"there is no signal {name[:20]!r}; as in SIGINT") from None
