"""One session as `agentcmd run` shows it: output, input, signals, exit code."""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

from daemon.cli.printing import complain
from daemon.cli.questions import Questions
from daemon.cli.stdin import Stdin
from daemon.cli.view import View
from daemon.client import Client, ConnectionLost, Message, NoDaemon, Status
from daemon.core.errors import AgentcmdError, RateLimited, Unavailable

ENDS = ("session.completed", "session.error", "session.cancelled")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

QUIT = 3
"""How many signals it takes to leave a daemon that does not answer."""

AWAY = 60.0
"""Seconds that a daemon may be away while its program is followed; a restart takes a few."""

INPUT_RETRY = 0.1
"""Seconds before input that a program does not read yet is offered again."""

INPUT_PACE = 0.01
"""Seconds between two messages of input, so that they stay below the limit of a connection."""


class Ending(Exception):
    """The daemon that was found is about to end, and has not begun what it was asked for."""


class Job:
    """One session, from the request to its exit code."""

    def __init__(self, args: argparse.Namespace, request: dict[str, Any]) -> None:
        """Run this request, in the current asyncio task."""
        self.session = ""
        self.code: int | None = None
        self.leave: Callable[[], Any] = cast(asyncio.Task[Any], asyncio.current_task()).cancel
        self._args = args
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._daemon: Client | None = None
        self.disconnected = asyncio.Event()
        self.finished = asyncio.Event()
        self._creating = False
        self._signals: list[int] = []
        self._draining = False
        self._away: asyncio.TimerHandle | None = None
        self._helpers: list[asyncio.Task[None]] = []
        self._answered: set[str] = set()
        self._started = time.monotonic()
        self._stdin = Stdin() if sys.stdin is not None and not sys.stdin.closed else None
        self._is_command = request["agent"] == "command"
        self._view = View(as_json=args.json)
        asks = self._stdin is not None and not args.json and sys.stdin.isatty()
        self._questions = Questions(self._stdin if asks else None, self._respond, self._view.note)

    def on_status(self, status: Status, detail: str) -> None:
        """Watch the connection, and say on a terminal what happens to it."""
        if status in ("connected", "closed") and self._away is not None:
            self._away.cancel()
            self._away = None
        elif status == "disconnected" and self.code is None:
            self._draining = detail == "1012"
            self.disconnected.set()
            self._away = self._away or self._loop.call_later(AWAY, self.leave)
            if self.session:
                note("the connection broke; connecting again")
        elif status == "gap":
            complain(f"agentcmd: some output of {detail} is no longer kept\n")

    async def run(self, daemon: Client) -> None:
        """Create the session and follow it to its end; sets the exit code."""
        self._daemon = daemon
        await self._create()
        try:
            async for message in daemon.subscribe(f"session:{self.session}", since=0):
                if message.type == "session.started":
                    self._begin_input(daemon)
                await asyncio.to_thread(self._view.show, message)
                self._heed(message)
                if message.type in ENDS:
                    self.finished.set()
                    self.code = self._end(message)
                    return
        except OSError:  # our reader has left, or our disk is full
            if self._connected:
                await self._ask("session.cancel")
            raise
        finally:
            for helper in self._helpers:
                helper.cancel()
        raise Unavailable("the stream ended before the session did")

    async def _create(self) -> None:
        folder = Path(self._args.project or ".").absolute()
        self._creating = True
        try:
            added = await self._call("project.add", {"path": str(project_root(folder))})
            created = await self._call(
                "session.create",
                {
                    **self._request,
                    "projectId": added["projectId"],
                    "cwd": str(folder),
                    "keepAlive": self._is_command and self._stdin is not None,
                },
            )
        except ConnectionLost as error:
            if self._draining:  # it answers what it has taken on, so this it has not
                raise Ending from error
            raise
        except Unavailable as error:
            if await self._daemon_drains():
                raise Ending from error
            raise
        self.session = created["sessionId"]
        for number in range(len(self._signals)):  # they came when there was nothing to cancel
            self._pass_on(number)

    async def _daemon_drains(self) -> bool:
        try:
            return bool((await self._call("system.status"))["status"] == "draining")
        except ConnectionLost:
            return True

    async def _call(self, type_: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the daemon that was found, and not one that may come after it."""
        if not self._connected:
            raise Ending from ConnectionLost("the connection broke; try again")
        return await cast(Client, self._daemon).call(type_, data)

    # Output

    def _heed(self, message: Message) -> None:
        """Act on what a message asks of the person here."""
        data = message.data
        if message.type == "session.updated" and "position" in data:
            note(f"queued, place {data['position']}")
        elif message.type == "session.permission_requested":
            self._questions.ask(data)
        elif message.type == "session.permission_resolved":
            here = data["requestId"] in self._answered
            self._questions.resolved(data["requestId"], data["decision"], here=here)

    def _end(self, message: Message) -> int:
        """Give the exit code that the end stands for, and say it on a terminal."""
        data = message.data
        code, text = data.get("exitCode", 1), f"exit {data.get('exitCode', '?')}"
        if message.type == "session.error":
            code = 128 + data["signal"] if data["code"] == "signaled" else 1
            text = data["message"]
        elif message.type == "session.cancelled":
            number = data.get("signal", signal.SIGTERM)
            code, text = 128 + (self._signals[0] if self._signals else number), "cancelled"
        if sys.stderr.isatty():
            took = time.monotonic() - self._started
            note(f"{text}, {took:.1f} s{_used(data)}, session {self.session}")
        elif message.type == "session.error" and data["code"] != "signaled":
            complain(f"agentcmd: {text}\n")
        return int(code)

    # Signals

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """Turn Ctrl-C and the like into a cancel while this is open; nohup is left alone."""
        ours = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        for number in ours:
            self._loop.add_signal_handler(number, self.interrupt, number)
        try:
            yield
        finally:
            for number in ours:
                self._loop.remove_signal_handler(number)

    def interrupt(self, number: int) -> None:
        """Cancel at the first signal, kill at the second; leave where nobody could be asked."""
        self._signals.append(number)
        count = len(self._signals)
        under_way = self.code is None and (self.session or self._creating)
        if not under_way or count >= QUIT or not self._connected:
            self.leave()
        elif self.session:
            self._pass_on(count - 1)

    @property
    def _connected(self) -> bool:
        return self._daemon is not None and self._daemon.connected

    def _pass_on(self, earlier: int) -> None:
        if not earlier:
            note("cancelling; once more kills it", before="\n")
        self._help(self._ask("session.kill" if earlier else "session.cancel"))

    async def _ask(self, command: str) -> None:
        with contextlib.suppress(AgentcmdError):
            await cast(Client, self._daemon).call(command, {"sessionId": self.session})

    def code_when_left(self) -> int:
        """Give the exit code of a run that was left by a signal, or because nobody answers."""
        if self.code is not None:
            return self.code
        if self._signals:
            if self.session:
                note(f"left; see 'agentcmd tail session:{self.session}'")
            return 128 + self._signals[0]
        raise NoDaemon(
            f"the daemon has been away for {AWAY:.0f} s; once it is back, see "
            f"'agentcmd tail session:{self.session}'"
        )

    # Input

    def _begin_input(self, daemon: Client) -> None:
        """Read standard input: a command's own, or the answers to an agent's questions."""
        if self._stdin is not None and (self._is_command or self._questions.at_a_terminal):
            self._stdin.start()
        if not self._is_command:
            self._help(self._questions.run())
        elif self._stdin is not None:
            self._help(self._pass_input(self._stdin, daemon))

    async def _respond(self, answer: dict[str, Any]) -> None:
        self._answered.add(answer["requestId"])
        with contextlib.suppress(AgentcmdError):  # somebody else was faster, or it has ended
            await cast(Client, self._daemon).call(
                "session.respond_permission", {"sessionId": self.session, **answer}
            )

    async def _pass_input(self, stdin: Stdin, daemon: Client) -> None:
        ended = False
        while not ended:
            data, ended = await stdin.take()
            request = {
                "sessionId": self.session,
                "data": base64.b64encode(data).decode(),
                "encoding": "base64",
                "end": ended,
            }
            while True:
                try:
                    await daemon.call("session.input", request)
                    break
                except (Unavailable, RateLimited):
                    await asyncio.sleep(INPUT_RETRY)  # it is not reading, or we are reconnecting
                except AgentcmdError:
                    return  # it has closed its input, or ended
            await asyncio.sleep(INPUT_PACE)

    def _help(self, work: Coroutine[Any, Any, None]) -> None:
        self._helpers.append(self._loop.create_task(work))


def note(text: str, *, before: str = "") -> None:
    """Say something to the person at the terminal; elsewhere output is the program's alone."""
    with contextlib.suppress(OSError):  # the terminal may have gone
        if sys.stderr.isatty():
            complain(f"{before}agentcmd: {text}\n")


def _used(data: dict[str, Any]) -> str:
    """Say what an agent has used."""
    if "usage" not in data:
        return ""
    tokens = sum(data["usage"].values())
    return f", {tokens} tokens, ${data.get('costUsd', 0.0):.4f}"


def project_root(folder: Path) -> Path:
    """Find the project of a folder: the root of its git checkout, or itself."""
    for around in (folder, *folder.parents):
        if (around / ".git").exists():
            return around
    return folder
