"""What the daemon holds of a started program: its pid, our ends of its pipes, its reaper's word."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
import structlog

from daemon.core.errors import SpawnFailed
from daemon.core.spawner import start_time

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a leader ended: with a code, by a signal, or unseen (`lost`: its reaper died first).

    The usage is that of the whole tree where tasks have cgroups; else the leader's and that of all
    it waited for, from wait4(2): seconds and bytes. There the kernel counts what a process was
    before exec, so no maximum is below a reaper's 11 MB. `oom_kills` and `refused_forks` count how
    often the limits of the cgroup have bitten.
    """

    code: int | None = None
    signal: int | None = None
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    max_rss_bytes: int = 0
    lost: bool = False
    oom_kills: int = 0
    refused_forks: int = 0

    @property
    def cpu_seconds(self) -> float:
        """Give the seconds of CPU, in the program and in the system for it."""
        return round(self.user_seconds + self.system_seconds, 3)


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
    user_seconds: float | None = None
    system_seconds: float | None = None
    peak_bytes: int | None = None
    oom_kills: int = 0
    refused_forks: int = 0

    def added_to(self, exit_: Exit) -> Exit:
        """Give the exit with the usage of the whole tree, where the cgroup has told it."""
        if self.user_seconds is None or self.system_seconds is None:
            return exit_
        return replace(
            exit_,
            user_seconds=self.user_seconds,
            system_seconds=self.system_seconds,
            max_rss_bytes=self.peak_bytes or exit_.max_rss_bytes,
            oom_kills=self.oom_kills,
            refused_forks=self.refused_forks,
        )


_decode = msgspec.json.Decoder(_Starting | _Started | _Failed | _Exited | _Empty).decode


class Unheard(Exception):
    """The request went under with its spawner, before anything was started."""


class Child:
    """A started program and everything below it.

    `stdin` (None without), `stdout` and `stderr` are our ends of its pipes, non-blocking; close
    them with close_stream(), not with os.close(), or close() would close a stranger's. At a
    terminal, `stdout` is its master and the other two are None.

    `exited` is done when the leader has ended, `empty` when no descendant is left. Wait for them
    with asyncio.wait() or asyncio.shield(): a cancelled `await` of the bare future cancels it.
    """

    pid: int = 0
    start_time: int | None = None  # field 22 of /proc/<pid>/stat; None where there is no /proc

    def __init__(
        self,
        control: socket.socket,
        streams: tuple[int | None, int, int | None],
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
        self._empty = _Empty()
        self._control = control
        self._loop.add_reader(control.fileno(), self._hear)

    def end(self) -> Exit:
        """Give the leader's end with the usage of all; only once `empty` is done."""
        return self._empty.added_to(self.exited.result())

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

    def release(self, fd: int) -> None:
        """Leave one of the streams to somebody who closes it."""
        self._open.discard(fd)

    def close(self) -> None:
        """Close the streams that are still open, and kill whatever is left below.

        Only our direction of the control socket is closed: `empty` still says when it is done.
        """
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        self._wake_reaper()
        self._close_streams()

    async def begun(self) -> None:
        """Wait until the program runs; raise SpawnFailed, or Unheard if asking again is safe."""
        answer = await self._begun
        if isinstance(answer, _Failed):
            raise SpawnFailed(answer.message, errno=answer.errno, reason=answer.code)
        if answer is None and not self._reaper:
            raise Unheard
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
                resolve(self._begun, event)
            case _Failed():
                resolve(self._begun, event)
            case _Exited():
                usage = event.user_seconds, event.system_seconds, event.max_rss_bytes
                resolve(self.exited, Exit(event.code, event.signal, *usage))
            case _Empty():
                self._empty = event
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
        resolve(self._begun, None)
        resolve(self.exited, Exit(lost=True))
        resolve(self.empty, None)
        self._gone(self)

    def _detach(self) -> None:
        """Close the control socket, which is the order to kill if anything is still there."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()

    def abandon(self) -> None:
        """Forget a program that nobody is going to hold."""
        self._wake_reaper()
        self._detach()
        self._close_streams()


def resolve(future: asyncio.Future[_T], result: _T) -> None:
    """Set a result that may be there already, or that nobody waits for any more."""
    if not future.done():
        future.set_result(result)
