"""The daemon's side of the spawner: starts programs, and hands back what there is to hold of them.

A program is started by the spawner (see spawner.py), never by the daemon itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from daemon.core import cgroup
from daemon.core.cgroup import Cgroups
from daemon.core.child import Child, Unheard, resolve
from daemon.core.errors import SpawnFailed
from daemon.core.program import Program, Size, Traces, specification

log = structlog.get_logger(__name__)

SPAWNER = Path(__file__).with_name("spawner.py")
SPAWNER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}  # UTF-8 whatever the daemon's is
STARTING_AT_ONCE = 32  # four descriptors each: below what the kernel lets a user have in flight
PIPES_BYTES = 32 << 20  # half of what an unprivileged user has for all pipes (pipe(7))
IUTF8 = 0o40000  # asm-generic/termbits.h: erasing takes a whole character (termios(3))
CLOSE_TIMEOUT = 2.0  # seconds for what is left to end, when the launcher closes


class _Spawner:
    """A running spawner process and our end of its lifeline."""

    def __init__(self, *, portable: bool, descriptors: tuple[int, int] | None) -> None:
        """Start it; that takes a millisecond, and its own boot goes on beside ours."""
        self.lock = asyncio.Lock()
        self.writable: asyncio.Future[None] | None = None
        self.link, theirs = socket.socketpair()
        self.link.setblocking(False)
        flags = ["--portable"] if portable else []
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-I", str(SPAWNER), str(theirs.fileno()), *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=SPAWNER_ENVIRONMENT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self.link.close()
            raise
        finally:
            theirs.close()
        if descriptors is not None and hasattr(resource, "prlimit"):
            with contextlib.suppress(OSError, ValueError):
                resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, descriptors)
        asyncio.get_running_loop().add_reader(self.link.fileno(), self._hear)
        log.debug("spawner.started", pid=self.process.pid)

    @property
    def alive(self) -> bool:
        """Whether requests still reach it."""
        return self.link.fileno() >= 0

    async def request(self, descriptors: Sequence[int]) -> None:
        """Ask for a reaper with these descriptors; raise Unheard if it is gone."""
        async with self.lock:
            while self.alive:
                try:
                    socket.send_fds(self.link, [b"r"], descriptors)
                except BlockingIOError:
                    await self._wait_writable()
                except (BrokenPipeError, ConnectionResetError):
                    break
                else:
                    return
        raise Unheard

    async def _wait_writable(self) -> None:
        loop = asyncio.get_running_loop()
        self.writable = loop.create_future()
        loop.add_writer(self.link.fileno(), resolve, self.writable, None)
        try:
            await self.writable
        finally:
            if self.alive:
                loop.remove_writer(self.link.fileno())

    def _hear(self) -> None:
        """Hear the end of file: a spawner says nothing else."""
        try:
            data = self.link.recv(1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            log.warning("spawner.died", pid=self.process.pid)
            self.hang_up()

    def hang_up(self) -> None:
        """Close the lifeline: the spawner goes, and its reapers stay."""
        if self.alive:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.link.fileno())
            loop.remove_writer(self.link.fileno())
            self.link.close()
        if self.writable is not None:
            resolve(self.writable, None)

    def bury(self) -> None:
        """Wait for the process, and no longer than CLOSE_TIMEOUT before it is killed."""
        try:
            self.process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Launcher:
    """Starts programs; leaving it ends the spawner and every program that is still there.

    `pipe_bytes` is the capacity asked for a stdout, as long as PIPES_BYTES last. `start_timeout` is
    in seconds, for one launch once its turn has come. `records` is the folder in which reapers note
    what they have started, `cgroups` where each gets a cgroup for it. `descriptors` are the limits
    (soft, hard) that programs get, None for the daemon's own. `portable` does without what only
    Linux has, as on macOS.
    """

    def __init__(
        self,
        *,
        pipe_bytes: int = 1 << 20,
        start_timeout: float = 10.0,
        records: Path | None = None,
        cgroups: Cgroups | None = None,
        descriptors: tuple[int, int] | None = None,
        portable: bool = False,
    ) -> None:
        """Start nothing yet."""
        self._descriptors = descriptors
        self._records = records
        self._cgroups = cgroups
        self._numbers = itertools.count(1)
        self._traces: dict[Child, Traces] = {}
        self._left: set[Path] = set()
        self._pipe_bytes = pipe_bytes
        self._start_timeout = start_timeout
        self._portable = portable
        self._turn = asyncio.Semaphore(STARTING_AT_ONCE)
        self._children: set[Child] = set()
        self._spawner: _Spawner | None = None
        self._dead: list[_Spawner] = []
        self._closed = True

    @property
    def spawner_pid(self) -> int | None:
        """The pid of the spawner, None while there is none."""
        return self._spawner.process.pid if self._spawner and self._spawner.alive else None

    async def __aenter__(self) -> Self:
        """Start the spawner without waiting for it; raise SpawnFailed if that is impossible."""
        self._closed = False
        try:
            self._living_spawner()
        except OSError as error:
            raise _spawn_failed(error) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what is left, then end the spawner; a few seconds at the most."""
        self._closed = True
        children = tuple(self._children)
        for child in children:
            child.close()
        if children:
            await asyncio.wait([child.empty for child in children], timeout=CLOSE_TIMEOUT)
        for child in tuple(self._children):
            child.abandon()
        self._clear(Traces())
        if self._spawner is not None:
            self._spawner.hang_up()
            self._dead.append(self._spawner)
        await asyncio.gather(*(asyncio.to_thread(spawner.bury) for spawner in self._dead))

    async def launch(self, program: Program) -> Child:
        """Start a program.

        Raises BadRequest for what no program can be given (NUL, an empty argv, a relative cwd), and
        SpawnFailed with `errno` and `reason` in its details for what the system refused. Cancelled,
        it leaves neither a descriptor nor a process behind.
        """
        specification(program)
        async with self._turn:
            try:
                async with asyncio.timeout(self._start_timeout):
                    try:
                        return await self._attempt(program)
                    except Unheard:
                        return await self._attempt(program)
            except OSError as error:
                if isinstance(error, TimeoutError) and self._spawner is not None:
                    self._spawner.process.send_signal(signal.SIGCONT)  # a task may have stopped it
                raise _spawn_failed(error) from error
            except Unheard:
                raise SpawnFailed(
                    "The spawner ended twice while the program was started; try again.",
                    errno=errno.ECHILD,
                    reason="spawner_died",
                ) from None

    async def _attempt(self, program: Program) -> Child:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            spawner = self._living_spawner()
            traces = self._make_traces(program)
            ours.callback(self._clear, traces)
            control, reapers_end = socket.socketpair()
            ours.callback(control.close)
            theirs.callback(reapers_end.close)
            control.setblocking(False)
            terminal = ""
            if program.terminal is not None:
                master, slave = _open_terminal(ours, theirs, program.terminal)
                terminal = os.ttyname(slave)
                kept: tuple[int | None, int, int | None] = (None, master, None)
                given = (slave, slave, slave)
            else:
                stdin, their_stdin = _open_input(ours, theirs, pipe=program.stdin)
                stdout, their_stdout = _open_output(ours, theirs, self._large())
                stderr, their_stderr = _open_output(ours, theirs, 0)
                kept = (stdin, stdout, stderr)
                given = (their_stdin, their_stdout, their_stderr)
            encoded = specification(self._limited(program), traces, terminal)
            child = Child(control, kept, self._forget)
            ours.pop_all()
            self._traces[child] = traces
            ours.callback(child.abandon)
            await spawner.request([reapers_end.fileno(), *given])
            theirs.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # heard soon enough
                await asyncio.get_running_loop().sock_sendall(control, encoded)
            await child.begun()
            ours.pop_all()
            self._children.add(child)
            return child

    def _large(self) -> int:
        """Give the size of another stdout, 0 for the kernel's: all pipes of a user share 64 MiB."""
        taken = len(self._children) * self._pipe_bytes
        return self._pipe_bytes if taken + self._pipe_bytes <= PIPES_BYTES else 0

    def _forget(self, child: Child) -> None:
        self._children.discard(child)
        self._clear(self._traces.pop(child, Traces()))

    # Traces

    def _make_traces(self, program: Program) -> Traces:
        """Give a new task its places; OSError where its cgroup cannot be made."""
        name = f"{os.getpid()}-{next(self._numbers)}"
        record = str(self._records / f"{name}.json") if self._records else ""
        if self._cgroups is None:
            return Traces(record=record)
        made = self._cgroups.make(
            name, memory_bytes=program.memory_bytes, processes=program.processes
        )
        return Traces(record=record, cgroup=str(made), home=str(self._cgroups.home))

    def _limited(self, program: Program) -> Program:
        """Turn the limits that no cgroup holds into those that each process has (setrlimit(2))."""
        held = self._cgroups.controllers if self._cgroups else frozenset()
        limits = dict(program.limits)
        if program.memory_bytes and "memory" not in held:
            limits["data"] = program.memory_bytes
        if program.processes and "pids" not in held:
            limits["nproc"] = program.processes
        return replace(program, limits=limits) if limits else program

    def _clear(self, traces: Traces) -> None:
        """Remove what a reaper has left that died, or never was."""
        if traces.record:
            with contextlib.suppress(OSError):  # the next start removes it
                Path(traces.record).unlink()
        if traces.cgroup:
            self._left.add(Path(traces.cgroup))
        self._left = {path for path in self._left if not cgroup.end(path)}

    def _living_spawner(self) -> _Spawner:
        """Return the spawner, or a new one if it has died."""
        if self._closed:
            raise SpawnFailed("The daemon is stopping; try again when it is back.", reason="closed")
        if self._spawner is None or not self._spawner.alive:
            if self._spawner is not None:
                self._dead.append(self._spawner)
                self._spawner = None
            self._dead = [dead for dead in self._dead if dead.process.poll() is None]
            self._spawner = _Spawner(portable=self._portable, descriptors=self._descriptors)
        return self._spawner


def _spawn_failed(error: OSError) -> SpawnFailed:
    if isinstance(error, TimeoutError):
        sentence = "The program was not started in time; the machine is overloaded, try again."
        return SpawnFailed(sentence, errno=errno.ETIMEDOUT, reason="timeout")
    number = error.errno or errno.EIO
    sentence = f"The program could not be started: {os.strerror(number)}; try again later."
    return SpawnFailed(sentence, errno=number, reason="no_resources")


def _open_input(
    ours: contextlib.ExitStack, theirs: contextlib.ExitStack, *, pipe: bool
) -> tuple[int | None, int]:
    """Open a pipe to write to, or /dev/null; return our end and theirs."""
    if not pipe:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        theirs.callback(os.close, fd)
        return None, fd
    readable, writable = os.pipe()
    theirs.callback(os.close, readable)
    ours.callback(os.close, writable)
    os.set_blocking(writable, False)
    return writable, readable


def _open_output(
    ours: contextlib.ExitStack, theirs: contextlib.ExitStack, pipe_bytes: int
) -> tuple[int, int]:
    """Open a pipe to read from; return our end and theirs, which blocks as programs expect."""
    readable, writable = os.pipe()
    ours.callback(os.close, readable)
    theirs.callback(os.close, writable)
    os.set_blocking(readable, False)
    if pipe_bytes and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # over /proc/sys/fs/pipe-max-size, or the user's share
            fcntl.fcntl(readable, fcntl.F_SETPIPE_SZ, pipe_bytes)
    return readable, writable


def _open_terminal(
    ours: contextlib.ExitStack, theirs: contextlib.ExitStack, size: Size
) -> tuple[int, int]:
    """Open a pseudoterminal; return its master, which is ours, and its slave."""
    master, slave = os.openpty()
    ours.callback(os.close, master)
    theirs.callback(os.close, slave)
    os.set_blocking(master, False)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size.window())
    if sys.platform == "linux":
        modes = termios.tcgetattr(slave)
        modes[0] |= IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, modes)
    return master, slave
