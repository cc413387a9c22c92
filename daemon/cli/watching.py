"""Follows a run to its end: drawn in the terminal here, or a line for each event elsewhere."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

from daemon.cli.connect import client
from daemon.cli.drawing import draw
from daemon.cli.printing import complain
from daemon.cli.runs import is_over, whole_run
from daemon.cli.telling import Lines
from daemon.cli.timeline import ENDS, Timeline
from daemon.cli.tty import Screen, Tty
from daemon.client import Client, ConnectionLost, Message, NoDaemon
from daemon.core.errors import AgentcmdError, Unavailable

Answer = dict[str, Any]
Got = TypeVar("Got")

INTERVAL = 0.1
"""Seconds from one drawing to the next, at least."""

SHARE = 10
"""A drawing that takes long is followed by a pause that is so many times as long."""

AWAY = 60.0
"""Seconds that a daemon may be away while a run of its is followed; a restart takes a few."""

ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
"""The alternate screen, without a cursor, where what is too wide does not wrap."""

LEAVE = b"\x1b[?2026l\x1b[m\x1b[?7h\x1b[?25h\x1b[?1049l"

TOGETHER = (b"\x1b[?2026h", b"\x1b[?2026l")
"""Around what a terminal is to show at once, if it can."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class View(Protocol):
    """How a run is shown."""

    notice: str

    async def show(self, message: Message) -> None:
        """Show a message that the timeline has taken."""

    async def keep(self) -> None:
        """Show what changes by itself, for as long as this runs."""

    def close(self) -> None:
        """Show how the run stands, and leave all as it was before."""


async def watch(
    args: argparse.Namespace, begin: Callable[[Client], Awaitable[str]], *, cancels: bool = False
) -> int:
    """Follow the run that `begin` gives, and give the exit code that its end stands for.

    A run that `cancels` is cancelled by Ctrl-C; otherwise that leaves, and the run goes on.
    """
    watching = Watching(args, cancels=cancels)
    try:
        with watching.heeding_signals():
            async with client(args, on_status=watching.on_status) as daemon:
                await watching.run(daemon, begin)
    except asyncio.CancelledError:
        if watching.why is None:
            raise
    return watching.code()


class Watching:
    """One run, from its beginning to the exit code."""

    def __init__(self, args: argparse.Namespace, *, cancels: bool) -> None:
        """Watch in the current asyncio task."""
        self.why: int | None = None
        """The signal for which this was left, 0 where the daemon was away for too long."""

        self._json = args.json
        self._cancels = cancels
        self._cancelled = False
        self._id = ""
        self._end: Answer | None = None
        self._view: View | None = None
        self._daemon: Client | None = None
        self._loop = asyncio.get_running_loop()
        self._leave = cast(asyncio.Task[Any], asyncio.current_task()).cancel
        self._away: asyncio.TimerHandle | None = None
        self._helpers: set[asyncio.Task[None]] = set()
        self._missed = asyncio.Event()

    async def run(self, daemon: Client, begin: Callable[[Client], Awaitable[str]]) -> None:
        """Follow it to its end."""
        self._daemon = daemon
        self._id = await begin(daemon)
        if self._cancelled:  # it was interrupted before there was a run
            self._cancel()
        run, steps = await self._get()
        timeline = Timeline(run, steps)
        view = self._view = view_of(timeline, as_json=self._json)
        works = [self._follow(timeline, run, steps), self._mend(timeline), view.keep()]
        tasks = [self._loop.create_task(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                if each.done():
                    each.result()
        finally:
            for each in [*tasks, *self._helpers]:
                each.cancel()
            try:
                await asyncio.wait(tasks)
            finally:  # also when the next signal comes meanwhile
                view.close()

    async def _follow(self, timeline: Timeline, run: Answer, steps: list[Answer]) -> None:
        """Take all that was told of the run, and what is told until it has ended."""
        view, channel = cast(View, self._view), f"workflow:run:{self._id}"
        daemon = cast(Client, self._daemon)
        ended = run["state"] == "ended"
        messages = daemon.history(channel) if ended else daemon.subscribe(channel, since=0)
        async for message in messages:
            timeline.feed(message.type, message.data, message.ts or 0.0)
            await view.show(message)
            if not ended and message.type in ENDS and await self._is_over(run, message.ts or 0.0):
                self._end = {"type": ENDS[message.type], **message.data}
                return
        if not ended:
            raise Unavailable("the stream ended before the run did")
        timeline.settle(run, steps)
        self._end = run["end"]

    async def _is_over(self, run: Answer, told: float) -> bool:
        return await self._again(lambda daemon: is_over(daemon, run, told))

    async def _mend(self, timeline: Timeline) -> None:
        """Ask how the run stands after events of it were missed; returns if it has ended."""
        while True:
            await self._missed.wait()
            self._missed.clear()
            run, steps = await self._get()
            timeline.settle(run, steps)
            if run["state"] == "ended":
                self._end = run["end"]
                return

    async def _get(self) -> tuple[Answer, list[Answer]]:
        return await self._again(lambda daemon: whole_run(daemon, self._id))

    async def _again(self, ask: Callable[[Client], Awaitable[Got]]) -> Got:
        """Ask something that may be asked twice, again when the daemon is back if it went away."""
        while True:
            try:
                return await ask(cast(Client, self._daemon))
            except ConnectionLost:
                await asyncio.sleep(INTERVAL)

    # What comes between

    def on_status(self, status: str, detail: str) -> None:
        """Watch the connection."""
        del detail
        if status in ("connected", "closed"):
            if self._away is not None:
                self._away.cancel()
                self._away = None
            self._say("")
        elif status == "disconnected" and self._end is None:
            self._away = self._away or self._loop.call_later(AWAY, self._go, 0)
            self._say("the connection broke; connecting again")
        elif status == "gap":
            self._missed.set()

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Have signals reach us while this is open; those that are ignored stay that."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ours = [each for each in numbers if signal.getsignal(each) is not signal.SIG_IGN]
        for number in ours:
            self._loop.add_signal_handler(number, self._interrupt, number)
        try:
            yield
        finally:
            for number in ours:
                self._loop.remove_signal_handler(number)

    def _interrupt(self, number: int) -> None:
        if number == signal.SIGINT and self._cancels and not self._cancelled and self._end is None:
            self._cancelled = True
            self._say("cancelling; Ctrl-C once more leaves it")
            if self._id:
                self._cancel()
        else:
            self._go(number)

    def _go(self, why: int) -> None:
        self.why = why
        self._leave()

    def _cancel(self) -> None:
        self._helpers.add(self._loop.create_task(self._ask_to_cancel()))

    async def _ask_to_cancel(self) -> None:
        try:
            asked = {"runId": self._id}
            await self._again(lambda daemon: daemon.call("workflow.cancel", asked))
        except AgentcmdError as error:
            if self._end is None:
                self._say(f"it cannot be cancelled: {error.message}")

    def _say(self, text: str) -> None:
        if isinstance(self._view, Drawing):
            self._view.notice = text
        elif text:
            _tell(text)

    def code(self) -> int:
        """Give the exit code."""
        if self._end is not None:
            if self._end["type"] == "completed":
                return 0
            return 130 if self._end["type"] == "cancelled" and self._cancelled else 1
        back = f"agentcmd workflow watch {self._id}"
        if not self.why:
            raise NoDaemon(
                f"the daemon has been away for {AWAY:.0f} s; once it is back, see {back}"
            )
        if self._id:
            _tell(f"left; the run goes on, and so you come back: {back}")
        elif self._cancels:
            _tell("left before the daemon has answered; see 'agentcmd workflow runs'")
        return 128 + self.why


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may have gone
        complain(f"agentcmd: {text}\n")


def view_of(timeline: Timeline, *, as_json: bool) -> View:
    """Choose how a run is shown here."""
    tty = Tty()
    if as_json or not tty.shows or os.environ.get("TERM") == "dumb" or not _in_front():
        return Lines(as_json=as_json)
    return Drawing(timeline, tty)


def _in_front() -> bool:
    """Tell whether the terminal is ours, and not that of another job of the shell."""
    try:
        return os.tcgetpgrp(1) == os.getpgrp()
    except OSError:  # not the terminal that controls us: nobody stops us there
        return True


class Drawing:
    """A run drawn on the alternate screen, and how it stood left on the one before."""

    def __init__(self, timeline: Timeline, tty: Tty) -> None:
        """Take the terminal."""
        self.notice = ""
        self._timeline = timeline
        self._tty = tty
        self._plain = bool(os.environ.get("NO_COLOR"))
        self._screen = Screen()
        self._drawn: list[str] = []
        self._size = (0, 0)
        self._before: list[Any] | None = None
        self._entered = False
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        self._loop.add_signal_handler(signal.SIGTSTP, self._pause)

    async def show(self, message: Message) -> None:
        """Leave it to the next drawing."""

    async def keep(self) -> None:
        """Draw it, again and again."""
        while True:
            began = time.monotonic()
            if _in_front():
                await self._draw()
            spent = time.monotonic() - began
            self._changed.clear()
            await asyncio.sleep(INTERVAL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), SHARE * spent - INTERVAL)

    def close(self) -> None:
        """Leave the screen as it was, with the last drawing on it."""
        for number in (signal.SIGWINCH, signal.SIGTSTP):
            self._loop.remove_signal_handler(number)
        cols, rows = self._tty.size()
        self.notice = ""
        last = self._lines(cols - 1, max(rows - 1, 1))
        text = "".join(f"{line}\r\n" for line in last).encode("utf-8", "replace")
        self._screen.close((LEAVE if self._entered else b"") + text)
        self._speak()

    async def _draw(self) -> None:
        if not self._entered:
            self._hush()
            self._entered, self._size = True, (0, 0)
            self._screen.say(ENTER)
        size = self._tty.size()
        lines = self._lines(size[0] - 1, size[1])
        data = changes([] if size != self._size else self._drawn, lines, fresh=size != self._size)
        self._drawn, self._size = lines, size
        if data:
            await self._screen.show(TOGETHER[0] + data + TOGETHER[1])

    def _lines(self, width: int, height: int) -> list[str]:
        lines = draw(self._timeline, width, height, time.time(), self.notice)
        return [_COLOURS.sub("", line) for line in lines] if self._plain else lines

    def _pause(self) -> None:
        """Give the terminal back to the shell, and stop until it has us go on."""
        if self._entered:
            self._screen.close(LEAVE)
            self._speak()
            self._entered, self._screen = False, Screen()
        self._loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        self._loop.add_signal_handler(signal.SIGTSTP, self._pause)
        self._changed.set()

    def _hush(self) -> None:
        """Keep what is typed from showing."""
        with contextlib.suppress(termios.error):
            before = termios.tcgetattr(1)
            now = [*before]
            now[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(1, termios.TCSANOW, now)
            self._before = before

    def _speak(self) -> None:
        before, self._before = self._before, None
        if before is not None and _in_front():  # elsewhere it would stop us
            with contextlib.suppress(termios.error):
                termios.tcsetattr(1, termios.TCSANOW, before)
                termios.tcflush(1, termios.TCIFLUSH)


def changes(before: list[str], lines: list[str], *, fresh: bool) -> bytes:
    """Give what makes one drawing of another: only the rows that differ, none of them blank."""
    out = ["\x1b[H\x1b[2J"] if fresh else []
    for number, line in enumerate(lines, 1):
        if number > len(before) or line != before[number - 1]:
            out.append(f"\x1b[{number};1H{line}\x1b[K")
    if len(lines) < len(before):
        out.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
    return "".join(out).encode("utf-8", "replace")
