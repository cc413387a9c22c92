"""A terminal of the daemon, seen and used at the terminal of whoever has called."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.cli.detaching import NONE, Detaching, DetachKey
from daemon.cli.job import SIGNALS, note
from daemon.cli.printing import complain
from daemon.cli.stdin import Stdin
from daemon.cli.tty import RESTORE, Screen, Tty
from daemon.cli.undoing import OURS, Undoing
from daemon.client import Client, ConnectionLost, NoDaemon, Output, Status
from daemon.core.errors import AgentcmdError, Forbidden, NotFound, RateLimited, Unavailable

ENDING = (*SIGNALS, signal.SIGQUIT)
"""Signals that end a command in order."""

HELD_BYTES = 8 << 20
"""Bytes of input that wait here; a key beyond them that detaches is not seen yet."""

PIECE = 16 << 10
"""Bytes of input in one message."""

KEYS = 1 << 10
"""Bytes that are typed, and not pasted; these go without waiting for an answer to the last."""

SURE = 512 << 10
"""Bytes of input after which none goes so any more. They are half of what a terminal takes whose
program reads nothing: none of them is refused, and so none can overtake one that was."""

PACE = 0.005
"""Seconds between two messages of input, so that they stay below the limit of a connection."""

RETRY = 0.1
"""Seconds before what was refused for now is offered again."""

LOOK = 0.05
"""Seconds between two looks for a daemon that has gone away."""

BRIEF = 0.3
"""Seconds that a connection may be broken before a word is said about it."""

AWAY = 60.0
"""Seconds that a daemon may be away."""

NUDGE = 0.05
"""Seconds between the two sizes that have a program draw its screen anew."""

GOODBYE = 1.0
"""Seconds that what was typed before one detaches has to get there."""

END_OF_INPUT = 0.2
MOST_PATIENT = 60.0
"""Seconds between the first two Ctrl-D after the end of the input, and at most between two."""

LEAVE = 3
"""How many times SIGINT leaves where it is not a key."""

STOPPED = "the daemon stopped, and the terminal with it"


@dataclass(frozen=True)
class Ending:
    """How the command ends: its exit code, and a line about it."""

    code: int
    line: str = ""


class Attached:
    """Keys, sizes and signals there; output and the end here."""

    def __init__(self, tty: Tty, *, gone: Callable[[], bool], own: bool, key: DetachKey) -> None:
        """Attach this terminal; `gone` tells whether the daemon is certainly no more.

        A terminal of our `own` is ended where the input is no terminal and ends. The key detaches
        where the input is one.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._tty = tty
        self._gone = gone
        self._own = own
        self._key = key if tty.interactive else NONE
        self._left: asyncio.Future[Ending] = loop.create_future()
        self._standing = asyncio.Event()
        self._broken = asyncio.Event()
        self._changed = asyncio.Event()
        self._keys = asyncio.Event()
        self._room = asyncio.Event()
        self._typed = bytearray()
        self._sent = 0
        self._writes = True
        self._asked = self._ended = self._leaving = False
        self._broke = self._redraws = False
        self._pause = END_OF_INPUT
        self._interrupts = 0
        self._why = ""

    def on_status(self, status: Status, _: str) -> None:
        """Watch the connection."""
        if status == "disconnected":
            self._standing.clear()
            self._broken.set()
        elif status == "following":
            self._broken.clear()
            self._standing.set()
            if self._broke:
                self._say("connected again")
                self._broke, self._redraws = False, True
            self._changed.set()
        elif status == "gap" and not self._tty.shows:
            complain("agentcmd: some output is no longer kept\n")

    async def run(
        self, daemon: Client, terminal: str, *, since: int | None, writes: bool = True
    ) -> int:
        """Stay until the end, of whatever; gives the exit code."""
        self._daemon, self._id, self._writes = daemon, terminal, writes
        self._screen, self._undoing = Screen(), Undoing()
        if self._tty.shows:
            self._screen.say(OURS)
        works = (self._show(since), self._listen(), self._type(), self._fit(), self._watch())
        tasks = [self._begin(work) for work in works]
        try:
            with self._heeding_signals(), self._tty.raw():
                try:
                    ending = await self._left
                finally:
                    last = self._undoing.undo(RESTORE, ours=True) if self._tty.shows else b""
                    self._screen.close(last)
            if ending.line:
                self._say_last(ending.line)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=GOODBYE)
        return ending.code

    # The end

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        task.add_done_callback(self._heed_failure)
        return task

    def _heed_failure(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._left.done():
            self._left.set_exception(error)

    def _finish(self, ending: Ending) -> None:
        if not self._left.done():
            self._left.set_result(ending)

    def _detach(self, code: int = 0) -> None:
        self._finish(Ending(code, f"detached; 'agentcmd attach {self._id}' comes back"))

    def _say_last(self, line: str) -> None:
        before = "\n" if self._screen.midline and self._tty.shows else ""
        with contextlib.suppress(OSError):  # the terminal may have gone
            complain(f"{before}agentcmd: {line}\n")

    def _say(self, line: str) -> None:
        if self._tty.shows:
            self._screen.say(f"\r\nagentcmd: {line}\r\n".encode())
        else:
            note(line)

    def _ending(self, exit_: Mapping[str, Any]) -> Ending:
        """Say how the command ends where the terminal has."""
        code, number, reason = exit_.get("exitCode"), exit_.get("signal"), exit_.get("reason")
        if reason == "daemon_stopped":
            return Ending(1, STOPPED)
        if reason in ("exited", "signaled", "closed"):
            line = "the terminal was closed" if reason == "closed" else ""
            return Ending(128 + (number or 0) if code is None else int(code), line)
        return Ending(1, self._why or f"the terminal has ended: {reason}")

    # Signals

    @contextlib.contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """Leave in order at those that end a command; nohup is left alone."""
        ours = [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN]
        for number in ours:
            self._loop.add_signal_handler(number, self._heed, number)
        self._loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        self._loop.add_signal_handler(signal.SIGCONT, self._heed_continue)
        try:
            yield
        finally:
            for number in (*ours, signal.SIGWINCH, signal.SIGCONT):
                self._loop.remove_signal_handler(number)

    def _heed(self, number: int) -> None:
        self._interrupts += 1
        piped = self._own and not self._tty.interactive and self._standing.is_set()
        if number == signal.SIGINT and piped and self._interrupts < LEAVE:
            self._typed += b"\x03"  # nobody else makes a key of it
            self._keys.set()
        else:
            self._detach(128 + number)

    def _heed_continue(self) -> None:
        self._tty.again()
        self._changed.set()

    # Output

    async def _show(self, since: int | None) -> None:
        """Show what the program writes, until it has ended."""
        first = True
        try:
            async for each in self._daemon.subscribe_output(
                f"shell:terminal:{self._id}", since=since
            ):
                if isinstance(each, Output):
                    await self._put(each, first=first)
                    first = False
                elif each.type == "shell.error":
                    self._why = str(each.data["message"])
                elif each.type == "shell.exit":
                    self._finish(self._ending(each.data))
                    return
        except NotFound:
            if not self._broken.is_set():
                raise
            self._finish(Ending(1, STOPPED))  # what answers there now is another daemon

    async def _put(self, output: Output, *, first: bool) -> None:
        if output.fresh:
            undone = self._undoing.undo(RESTORE, ours=False)
            self._undoing.feed(output.data.removeprefix(b"\x1bc"))
            await self._screen.show(self._tty.beginning(output.data, first=first, undone=undone))
            return
        if self._tty.shows:
            self._undoing.feed(output.data)
        await self._screen.show(output.data)
        with contextlib.suppress(ConnectionLost):
            shown = {"terminalId": self._id, "offset": output.end}
            await self._daemon.tell("shell.ack", shown)

    # Input

    async def _listen(self) -> None:
        """Take what is typed, however much of it waits to be sent: the key always works."""
        stdin, detaching = Stdin(), Detaching(self._key)
        stdin.start()
        while not self._ended and not self._leaving:
            data, self._ended = await stdin.take(detaching.patience(self._loop.time()))
            if data:
                self._typed += detaching.feed(data, self._loop.time())
            else:
                self._typed += detaching.give_up()
            if detaching.left:
                self._leaving = True
                self._loop.call_later(GOODBYE, self._detach)
            self._keys.set()
            while len(self._typed) > HELD_BYTES and not self._ended:
                self._room.clear()
                await self._room.wait()

    async def _type(self) -> None:
        """Send what is typed, in order."""
        while True:
            await self._keys.wait()
            while self._typed:
                await self._standing.wait()
                piece = bytes(self._typed[:PIECE])
                del self._typed[:PIECE]
                self._room.set()
                await self._send(piece)
                await asyncio.sleep(PACE)
            self._keys.clear()
            if self._leaving:
                self._detach()
            elif self._ended and self._tty.interactive:
                self._detach(128 + signal.SIGHUP)  # the terminal here has gone
            elif self._ended and self._own:
                await self._end_input()

    async def _end_input(self) -> None:
        """Say Ctrl-D, again and again until all who read have heard it.

        One after the other reads it, and one that changes the terminal's mode may lose it.
        """
        await self._standing.wait()
        await self._send(b"\x04")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._keys.wait()
        self._pause = min(2 * self._pause, MOST_PATIENT)
        self._keys.set()

    async def _send(self, piece: bytes) -> None:
        data = {"terminalId": self._id, **_encoded(piece)}
        self._sent += len(piece)
        if self._asked and self._writes and len(piece) <= KEYS and self._sent <= SURE:
            with contextlib.suppress(ConnectionLost):
                await self._daemon.tell("shell.input", data)
            return
        while self._writes:
            try:
                await self._daemon.call("shell.input", data)
            except ConnectionLost:  # it may be there: to type it twice would be worse
                self._say("the last of the input may be lost with the connection")
                return
            except (Unavailable, RateLimited):
                await asyncio.sleep(RETRY)
            except Forbidden:
                self._look_on()
            except AgentcmdError:
                return  # it has ended, and that is told
            else:
                self._asked = True
                return

    def _look_on(self) -> None:
        if self._writes:
            self._writes = False
            self._say("this token may look on only")

    # Size and connection

    async def _fit(self) -> None:
        """Give the terminal the size of this one: at first for all, then as one viewer's."""
        take_over = True
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if self._tty.interactive and self._writes:
                    await self._resize(take_over=take_over)
                    take_over = False
            except ConnectionLost:
                pass  # the next connection begins with this
            except (Unavailable, RateLimited):
                await asyncio.sleep(RETRY)
                self._changed.set()
            except Forbidden:
                self._look_on()
            except AgentcmdError:
                pass  # it has ended, and that is told

    async def _resize(self, *, take_over: bool) -> None:
        size = self._tty.window()
        told = {"terminalId": self._id, **size}
        if self._redraws:  # our words stand in the midst of its screen
            self._redraws = False
            await self._daemon.call("shell.resize", {**told, "rows": max(1, size["rows"] - 1)})
            await asyncio.sleep(NUDGE)
        await self._daemon.call("shell.resize", {**told, "takeOver": take_over})

    async def _watch(self) -> None:
        """Wait for the connection to come back where it breaks, for as long as that makes sense."""
        while True:
            await self._broken.wait()
            begun = self._loop.time()
            while self._broken.is_set():
                away = self._loop.time() - begun
                if self._gone():
                    self._finish(Ending(1, STOPPED))
                elif away > AWAY:
                    raise NoDaemon(
                        f"the daemon has been away for {AWAY:.0f} s; once it is back, "
                        f"see 'agentcmd attach {self._id}'"
                    )
                elif away > BRIEF and not self._broke:
                    self._broke = True
                    leaves = self._key.name if self._tty.interactive else "Ctrl-C"
                    self._say(f"the connection broke; connecting again ({leaves} leaves)")
                await asyncio.sleep(LOOK)


def _encoded(data: bytes) -> dict[str, str]:
    """Put input into a message, as text where it is some."""
    try:
        return {"data": data.decode()}
    except UnicodeDecodeError:
        return {"data": base64.b64encode(data).decode(), "encoding": "base64"}
