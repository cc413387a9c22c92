"""The daemon's side of the spawner: starts programs, and hands back what there is to hold of them.

A program is started by the spawner (see spawner.py), never by the daemon itself. What the daemon
holds of it is a Child: its pid, our ends of its pipes, and the control socket of its reaper.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

import msgspec
import structlog

from daemon.core.errors import BadRequest, SpawnFailed
from daemon.core.spawner import start_time

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

SPAWNER = Path(__file__).with_name("spawner.py")
SPAWNER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}  # UTF-8 whatever the daemon's is
STARTING_AT_ONCE = 32  # four descriptors each: below what the kernel lets a user have in flight
CLOSE_TIMEOUT = 2.0  # seconds for what is left to end, when the launcher closes


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to start: `argv[0]` is looked up on the PATH of `env`, `cwd` is absolute.

    Without `stdin` the program reads /dev/null. The names of `limits` are those of resource(7) in
    lower case without RLIMIT_, for instance `{"nofile": 1024}`.
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    stdin: bool = False
    umask: int = 0o022
    limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Exit:
    """How a leader ended: with a code, by a signal, or unseen (`lost`: its reaper died first).

    The usage is the leader's and that of all it waited for, from wait4(2): seconds and bytes. The
    kernel counts what a process was before exec, so no maximum is below a reaper's 11 MB.
    """

    code: int | None = None
    signal: int | None = None
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    max_rss_bytes: int = 0
    lost: bool = False


class _Event(msgspec.Struct, rename="camel", tag_field="event"):
    """A line that a reaper sends."""


class _Starting(_Event, tag="starting"):
    reaper: int


class _Started(_Event, tag="started"):
    pid: int
    start_time: int | None


class _Failed(_Event, tag="failed"):
    errno: int
    code: str
    message: str


class _Exited(_Event, tag="exited"):
    code: int | None
    signal: int | None
    user_seconds: float
    system_seconds: float
    max_rss_bytes: int


class _Empty(_Event, tag="empty"):
    pass


_decode = msgspec.json.Decoder(_Starting | _Started | _Failed | _Exited | _Empty).decode


class _Unheard(Exception):
    """The request went under with its spawner, before anything was started."""


class Child:
    """A started program and everything below it.

    `stdin` (None without), `stdout` and `stderr` are our ends of its pipes, non-blocking; close
    them with close_stream(), not with os.close(), or close() would close a stranger's.

    `exited` is done when the leader has ended, `empty` when no descendant is left. Wait for them
    with asyncio.wait() or asyncio.shield(): a cancelled `await` of the bare future cancels it.
    """

    pid: int = 0
    start_time: int | None = None  # field 22 of /proc/<pid>/stat; None where there is no /proc

    def __init__(
        self,
        control: socket.socket,
        streams: tuple[int | None, int, int],
        gone: Callable[[Child], object],
    ) -> None:
        """Listen to a reaper; `gone` is called once, when there is no more to hear."""
        self._loop = asyncio.get_running_loop()
        self.stdin, self.stdout, self.stderr = streams
        self.exited: asyncio.Future[Exit] = self._loop.create_future()
        self.empty: asyncio.Future[None] = self._loop.create_future()
        self._begun: asyncio.Future[_Started | _Failed | None] = self._loop.create_future()
        self._reaper = 0
        self._gone = gone
        self._open = {fd for fd in streams if fd is not None}
        self._buffer = b""
        self._control = control
        self._loop.add_reader(control.fileno(), self._hear)

    def signal(self, number: int) -> None:
        """Signal the leader's process group, or once the leader has ended whatever is left."""
        self._order({"op": "signal", "signal": signal.Signals(number).value})

    def kill(self) -> None:
        """Kill the program and all its descendants, for good; `empty` says when it is done."""
        self._order({"op": "kill"})
        self._wake_reaper()

    def close_stream(self, fd: int | None) -> None:
        """Close one of `stdin`, `stdout` and `stderr`; once more is fine."""
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)

    def close(self) -> None:
        """Close the streams that are still open, and kill whatever is left below.

        Only our direction of the control socket is closed: `empty` still says when it is done.
        """
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        self._wake_reaper()
        self._close_streams()

    async def _begin(self) -> None:
        """Wait until the program runs; raise SpawnFailed, or _Unheard if asking again is safe."""
        answer = await self._begun
        if isinstance(answer, _Failed):
            raise SpawnFailed(answer.message, errno=answer.errno, reason=answer.code)
        if answer is None and not self._reaper:
            raise _Unheard
        if answer is None:
            raise SpawnFailed(
                "The program's reaper was killed while it started the program; try again.",
                errno=errno.ECHILD,
                reason="reaper_died",
            )

    def _close_streams(self) -> None:
        for fd in tuple(self._open):
            self.close_stream(fd)

    def _order(self, order: dict[str, str | int]) -> None:
        """Send one order; a reaper that is gone needs none."""
        try:
            self._control.send(json.dumps(order).encode() + b"\n")
        except BlockingIOError:
            log.warning("reaper.stuck", pid=self.pid, reaper=self._reaper)
        except OSError:
            pass

    def _wake_reaper(self) -> None:
        """Continue a reaper that a task has stopped, in case no spawner is there to do it."""
        if self._reaper and self._control.fileno() >= 0:
            with contextlib.suppress(OSError):
                os.kill(self._reaper, signal.SIGCONT)

    def _hear(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._heed(_decode(line))

    def _heed(self, event: _Starting | _Started | _Failed | _Exited | _Empty) -> None:
        match event:
            case _Starting():
                self._reaper = event.reaper
            case _Started():
                self.pid, self.start_time = event.pid, event.start_time
                _resolve(self._begun, event)
            case _Failed():
                _resolve(self._begun, event)
            case _Exited():
                usage = event.user_seconds, event.system_seconds, event.max_rss_bytes
                _resolve(self.exited, Exit(event.code, event.signal, *usage))
            case _Empty():
                self._finish()

    def _lose(self) -> None:
        """End of file without `empty`: the reaper died, and the spawner killed its orphans."""
        if self.pid and not self.exited.done() and start_time(self.pid) == self.start_time:
            # The spawner did not: it is dead too, or cannot see orphans on this platform.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        if self.pid:
            log.warning("reaper.lost", pid=self.pid, reaper=self._reaper)
        self._finish()

    def _finish(self) -> None:
        self._detach()
        _resolve(self._begun, None)
        _resolve(self.exited, Exit(lost=True))
        _resolve(self.empty, None)
        self._gone(self)

    def _detach(self) -> None:
        """Close the control socket, which is the order to kill if anything is still there."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()

    def _abandon(self) -> None:
        """Forget a program that nobody is going to hold."""
        self._wake_reaper()
        self._detach()
        self._close_streams()


def _resolve(future: asyncio.Future[_T], result: _T) -> None:
    """Set a result that may be there already, or that nobody waits for any more."""
    if not future.done():
        future.set_result(result)


class _Spawner:
    """A running spawner process and our end of its lifeline."""

    def __init__(self, *, portable: bool) -> None:
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
        asyncio.get_running_loop().add_reader(self.link.fileno(), self._hear)
        log.info("spawner.started", pid=self.process.pid)

    @property
    def alive(self) -> bool:
        """Whether requests still reach it."""
        return self.link.fileno() >= 0

    async def request(self, descriptors: Sequence[int]) -> None:
        """Ask for a reaper with these descriptors; raise _Unheard if it is gone."""
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
        raise _Unheard

    async def _wait_writable(self) -> None:
        loop = asyncio.get_running_loop()
        self.writable = loop.create_future()
        loop.add_writer(self.link.fileno(), _resolve, self.writable, None)
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
            _resolve(self.writable, None)

    def bury(self) -> None:
        """Wait for the process, and no longer than CLOSE_TIMEOUT before it is killed."""
        try:
            self.process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Launcher:
    """Starts programs; leaving it ends the spawner and every program that is still there.

    `pipe_bytes` is the capacity asked for stdout and stderr, where the system allows it (an
    unprivileged user has 64 MiB for all pipes). `start_timeout` is in seconds, for one launch once
    its turn has come. `portable` does without what only Linux has, as on macOS.
    """

    def __init__(
        self, *, pipe_bytes: int = 1 << 20, start_timeout: float = 10.0, portable: bool = False
    ) -> None:
        """Start nothing yet."""
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
            child._abandon()  # noqa: SLF001 - the two are one room
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
        specification = _specification(program)
        async with self._turn:
            try:
                async with asyncio.timeout(self._start_timeout):
                    try:
                        return await self._attempt(program, specification)
                    except _Unheard:
                        return await self._attempt(program, specification)
            except OSError as error:
                if isinstance(error, TimeoutError) and self._spawner is not None:
                    self._spawner.process.send_signal(signal.SIGCONT)  # a task may have stopped it
                raise _spawn_failed(error) from error
            except _Unheard:
                raise SpawnFailed(
                    "The spawner ended twice while the program was started; try again.",
                    errno=errno.ECHILD,
                    reason="spawner_died",
                ) from None

    async def _attempt(self, program: Program, specification: bytes) -> Child:
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            spawner = self._living_spawner()
            control, reapers_end = socket.socketpair()
            ours.callback(control.close)
            theirs.callback(reapers_end.close)
            control.setblocking(False)
            streams = (
                _open_input(ours, theirs, pipe=program.stdin),
                _open_output(ours, theirs, self._pipe_bytes),
                _open_output(ours, theirs, self._pipe_bytes),
            )
            child = Child(control, (streams[0][0], streams[1][0], streams[2][0]), self._forget)
            ours.pop_all()
            ours.callback(child._abandon)  # noqa: SLF001
            await spawner.request([reapers_end.fileno(), *(theirs_fd for _, theirs_fd in streams)])
            theirs.close()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # heard soon enough
                await asyncio.get_running_loop().sock_sendall(control, specification)
            await child._begin()  # noqa: SLF001
            ours.pop_all()
            self._children.add(child)
            return child

    def _forget(self, child: Child) -> None:
        self._children.discard(child)

    def _living_spawner(self) -> _Spawner:
        """Return the spawner, or a new one if it has died."""
        if self._closed:
            raise SpawnFailed("The daemon is stopping; try again when it is back.", reason="closed")
        if self._spawner is None or not self._spawner.alive:
            if self._spawner is not None:
                self._dead.append(self._spawner)
                self._spawner = None
            self._dead = [dead for dead in self._dead if dead.process.poll() is None]
            self._spawner = _Spawner(portable=self._portable)
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
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # over /proc/sys/fs/pipe-max-size, or the user's share
            fcntl.fcntl(readable, fcntl.F_SETPIPE_SZ, pipe_bytes)
    return readable, writable


def _specification(program: Program) -> bytes:
    """Encode a program for its reaper; raise BadRequest for what no program can be given."""
    if isinstance(program.argv, str) or not program.argv or not program.argv[0]:
        raise BadRequest("A program needs a list of arguments that begins with its name.")
    for what, value in (
        *(("An argument", value) for value in program.argv),
        ("The working directory", program.cwd),
        *(("A name in the environment", value) for value in program.env),
        *(("A value in the environment", value) for value in program.env.values()),
    ):
        _check_text(what, value)
    if not program.cwd.startswith("/"):
        raise BadRequest("The working directory must be an absolute path.")
    if any(not name or "=" in name for name in program.env):
        raise BadRequest("A name in the environment must not be empty or contain '='.")
    if not 0 <= program.umask <= 0o777:
        raise BadRequest("The umask must be between 0 and 0o777.")
    for name, limit in program.limits.items():
        if not hasattr(resource, f"RLIMIT_{name.upper()}") or limit < -1:
            raise BadRequest(f"There is no limit {name}={limit}; see resource(7) for the names.")
    fields = {
        "argv": list(program.argv),
        "cwd": program.cwd,
        "env": dict(program.env),
        "umask": program.umask,
        "limits": dict(program.limits),
    }
    body = json.dumps(fields).encode()  # not msgspec: bytes that are no UTF-8 come as surrogates
    return len(body).to_bytes(4, "big") + body


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise BadRequest(f"{what} must be a string.")
    if "\0" in value:
        raise BadRequest(f"{what} must not contain a NUL byte.")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise BadRequest(f"{what} must be text that can be encoded.") from None
