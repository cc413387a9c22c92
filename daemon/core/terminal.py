"""A program at a pseudoterminal as the daemon sees it: the master, its size, its foreground."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import termios
from collections.abc import Callable
from functools import partial

from ptyprocess import PtyProcess  # type: ignore[import-untyped]

from daemon.core.child import Child
from daemon.core.process import Feed, Output, Process
from daemon.core.program import Size

READ_BYTES = 60 << 10
"""What one turn of the loop reads of one terminal, about."""

SHORT = 2048
"""A read that gives less has emptied the terminal; the kernel hands out at most 4095 bytes."""

REOPENED = 0.1
"""Seconds between two looks at a terminal that nobody has open."""

PIECE_BYTES = 8 << 10
"""Bytes of one read: what the kernel has ready, and what it gets ready meanwhile."""

WRITE_BYTES = 4 << 10
"""Bytes of one write to a terminal: what its line discipline holds."""

POLITE = 0.2
"""Seconds from SIGHUP, which a terminal that is gone sends, to SIGTERM."""


class Pty(PtyProcess):  # type: ignore[misc]  # it has no types
    """The master: window size and state. Reading, waiting and killing are not its business here."""

    closed: bool

    def close(self, force: bool = True) -> None:  # noqa: ARG002  # the reaper ends what runs there
        """Close the descriptor at once; the original would wait for the child, and kill it."""
        if not self.closed:
            self.closed = True
            self.fileobj.close()
            self.fd = -1


class TerminalPump:
    """Reads a master as it fills, unless paused, until it is told to finish."""

    def __init__(self, fd: int, data: Callable[[bytes], None]) -> None:
        """Begin to read; `data` gets what one turn of the loop has read.

        `glance` may be set to what looks at each piece. Work there costs nothing in a flood: the
        kernel needs about 10 us to have the next 4 KiB ready (flush_to_ldisc, in a thread of its
        own), and a read that comes earlier sleeps until then, which costs as much.
        """
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.glance: Callable[[bytes], None] = lambda _: None
        self._fd = fd
        self._data = data
        self._paused = False
        self._final = False
        self._loop.add_reader(fd, self._read)

    def pause(self) -> None:
        """Let the program wait for whoever reads."""
        if not self._paused and not self._final and not self.ended.done():
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if not self.ended.done() and not self._final:
                self._loop.add_reader(self._fd, self._read)

    def finish(self) -> None:
        """Read what is there now and end, however slow the viewers are."""
        if not self.ended.done():
            self._final = True
            self._loop.remove_reader(self._fd)
            self._read()

    def close(self) -> None:
        """Stop reading at once."""
        if not self.ended.done():
            self._loop.remove_reader(self._fd)
            self.ended.set_result(None)

    def _wait_for_somebody(self) -> None:
        if not self._final and not self._paused:
            self.pause()
            self._loop.call_later(REOPENED, self.resume)

    def _read(self) -> None:
        if self.ended.done():
            return
        pieces: list[bytes] = []
        size, over = 0, False
        while size < READ_BYTES:
            try:
                piece = os.read(self._fd, PIECE_BYTES)
            except BlockingIOError:
                over = self._final
                break
            except OSError:  # EIO, as Linux says it
                piece = b""
            if not piece:  # nobody has it open; a program may open /dev/tty later
                over = self._final
                self._wait_for_somebody()
                break
            pieces.append(piece)
            self.glance(piece)
            size += len(piece)
            if len(piece) < SHORT and not self._final:
                break
        if pieces:
            self._data(b"".join(pieces))
        if over:
            self.close()
        elif self._final:
            self._loop.call_soon(self._read)


class TerminalProcess(Process):
    """A program at a terminal; its output goes to `output("terminal", chunk)`."""

    def __init__(self, child: Child, output: Output, *, input_bytes: int) -> None:
        """Take over a child at a terminal; `input_bytes` may wait for one that does not read."""
        fd = child.stdout
        self.pump = TerminalPump(fd, partial(output, "terminal"))
        feed = Feed(fd, lambda: None, limit=input_bytes, step=WRITE_BYTES)
        super().__init__(child, feed, [self.pump])
        child.release(fd)
        self._pty = Pty(child.pid, fd)

    @property
    def open(self) -> bool:
        """Whether the terminal is still there."""
        return not self._pty.closed

    def resize(self, size: Size) -> None:
        """Give the terminal another size; its foreground processes get SIGWINCH if it differs."""
        fcntl.ioctl(self._pty.fd, termios.TIOCSWINSZ, size.window())

    def signal(self, number: int) -> None:
        """Signal what is in the foreground, as a key would."""
        group = self._foreground()
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        else:
            self._child.signal(number)

    async def stop(self, number: int, grace: float) -> None:
        """Hang up, ask, and kill the whole tree after the grace period."""
        foreground = self._foreground()
        if foreground:
            with contextlib.suppress(OSError):
                os.killpg(foreground, number)
                os.killpg(foreground, signal.SIGCONT)
        self._child.signal(number)
        self._child.signal(signal.SIGCONT)
        await asyncio.wait([self._child.exited], timeout=min(POLITE, grace))
        if not self._child.exited.done():
            await super().stop(signal.SIGTERM, max(0.0, grace - POLITE))

    def close(self) -> None:
        """Let go of everything; what still runs below is killed by its reaper."""
        super().close()
        self._pty.close()

    def _foreground(self) -> int:
        """Find the group that has the terminal, 0 where that is none of the program's session."""
        try:
            group = os.tcgetpgrp(self._pty.fd)
            return group if group > 0 and os.getsid(group) == self.pid else 0
        except ProcessLookupError:
            return group  # its first process has ended, as in `true | less`
        except OSError:
            return 0
