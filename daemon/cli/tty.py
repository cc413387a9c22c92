"""The terminal of whoever has called: raw while it shows another one, and afterwards as before."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import select
import struct
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

DEFAULT_SIZE = (80, 24)
"""Columns and rows where there is no terminal to ask."""

STEP = 4 << 10
"""Bytes of one write, so that one to a slow terminal can be given up between two."""

PATIENCE = 1.0
"""Seconds that a terminal which takes nothing has for the last that is written to it."""

RESTORE = b"".join(
    (
        b"\x1b\\",  # ends a control string that was cut, and any other sequence
        b"\x1b7\x1b[?1049l",  # alternate screen; saved before: 1049 restores the cursor either way
        b"\x1b[!p",  # scroll region, origin, insertion, cursor, attributes: a soft reset
        b"\x1b[?9;1000;1002;1003;1005;1006;1015;1016l",  # mouse
        b"\x1b[?1;5;1004;2004;2026l\x1b>",  # application keys, reports of focus, pastes
        b"\x1b[?7;25h\x1b[4l\x1b[20l\x1b[0 q",  # wrap, cursor, insertion, line feeds, its shape
        b"\x1b(B\x0f\x1b[m",  # characters and colours
    )
)
"""Brings a terminal back from what programs often make of it, and erases nothing."""


class Tty:
    """Standard input and output, as far as they are a terminal."""

    def __init__(self) -> None:
        """Look."""
        self.shows = os.isatty(1)
        self.interactive = self.shows and os.isatty(0)
        """Whether somebody sits here: otherwise nothing is made raw, and no key is ours."""

        self._before: list[Any] | None = None

    def size(self) -> tuple[int, int]:
        """Give the columns and rows of what is a terminal."""
        for number in (1, 0, 2):
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(number)
                if size.columns > 0 and size.lines > 0:
                    return size.columns, size.lines
        return DEFAULT_SIZE

    def window(self) -> dict[str, int]:
        """Return the columns and rows, and the pixels where a terminal knows its own."""
        cols, rows = self.size()
        for number in (1, 0, 2):
            with contextlib.suppress(OSError):
                told = fcntl.ioctl(number, termios.TIOCGWINSZ, bytes(8))
                own_rows, own_cols, xpixel, ypixel = struct.unpack("HHHH", told)
                if (own_cols, own_rows) == (cols, rows):
                    return {"cols": cols, "rows": rows, "xpixel": xpixel, "ypixel": ypixel}
        return {"cols": cols, "rows": rows}

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Have every key come as it is while this is open."""
        if not self.interactive:
            yield
            return
        try:
            self._before = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSANOW)
        except termios.error as error:
            raise OSError(*error.args) from None
        try:
            yield
        finally:
            before, self._before = self._before, None
            if not _in_background():  # where it would stop us, and the shell has its own again
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(0, termios.TCSANOW, before)
                    termios.tcflush(0, termios.TCIFLUSH)  # answers and mice that were for there

    def again(self) -> None:
        """Make it raw once more: whoever stopped us has changed it."""
        if self._before is not None:
            with contextlib.suppress(termios.error):
                tty.setraw(0, termios.TCSANOW)

    def beginning(self, data: bytes, *, first: bool, undone: bytes = RESTORE) -> bytes:
        """Translate a reset and modes for a terminal that has other things on it as well.

        `undone` brings it back from what was made of it until now.

        ESC c would erase more than the screen in many. What stands on the screen at `first` goes
        up to where one can scroll back to.
        """
        if not self.shows:
            return b""
        up = b"\r" + b"\n" * (self.size()[1] - 1) if first else b""
        return undone + up + b"\x1b[H\x1b[J" + data.removeprefix(b"\x1bc")


@dataclass(frozen=True, slots=True)
class Job:
    """Something to write, and who waits for it."""

    data: bytes
    done: asyncio.Future[None] | None = None
    last: bool = False


class Screen:
    """Standard output, written by a thread of its own, since it may take its time."""

    def __init__(self) -> None:
        """Begin to write what comes."""
        self.midline = False
        """Whether what was shown ends within a line."""

        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._closing = False
        self._written = threading.Event()
        threading.Thread(target=self._run, name="screen", daemon=True).start()

    async def show(self, data: bytes) -> None:
        """Write; OSError where that is impossible."""
        done = self._loop.create_future()
        self._waiting.put(Job(data, done))
        await done

    def say(self, data: bytes) -> None:
        """Write after what waits, whether or not it succeeds."""
        self._waiting.put(Job(data))

    def close(self, last: bytes = b"") -> None:
        """Give up what waits and write the last; blocks for a moment, though never for long."""
        self._closing = True
        self._waiting.put(Job(last, last=True))
        if not self._written.wait(PATIENCE):
            with contextlib.suppress(termios.error, OSError):
                termios.tcflush(1, termios.TCOFLUSH)
            self._written.wait(PATIENCE)

    def _run(self) -> None:
        while not self._written.is_set():
            job = self._waiting.get()
            failure: OSError | None = None
            try:
                self._write(job)
            except OSError as error:
                failure = error
            if job.last:
                self._written.set()
            if job.done is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(_settle, job.done, failure)

    def _write(self, job: Job) -> None:
        left = memoryview(job.data)
        while left and (job.last or not self._closing):
            try:
                written = os.write(1, left[:STEP])
            except BlockingIOError:  # somebody who shares it has made it so
                select.select([], [1], [])
                continue
            if not job.last:
                self.midline = left[written - 1] != ord("\n")
            left = left[written:]


def _in_background() -> bool:
    try:
        return 0 < os.tcgetpgrp(0) != os.getpgrp()
    except OSError:  # it is not the terminal that sends us signals, or has gone
        return False


def _settle(done: asyncio.Future[None], failure: OSError | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
