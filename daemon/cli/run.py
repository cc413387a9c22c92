"""agentcmd run: the main job in one line, with the running daemon or one of its own."""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daemon import home
from daemon.app import Daemon
from daemon.cli.connect import add_connection, client, remote_url, settings_of
from daemon.client import Client, Message, Status
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, Unavailable
from daemon.log import logging_to
from daemon.settings import Settings

CHUNK = 64 << 10
ENDS = ("session.completed", "session.error", "session.cancelled")
INTERRUPTED = 130
"""128 + SIGINT, what a shell reports after Ctrl-C."""

DISCOVERY = 5.0
"""Seconds that a daemon which holds the state dir has to say where it answers."""

INPUT_RETRY = 0.1
"""Seconds before input that a program does not read yet is offered again."""


def add_commands(commands: Any) -> None:
    """Add `run`."""
    own = commands.add_parser(
        "run",
        help="run a command or an agent, and stream it",
        usage="agentcmd run [options] -- CMD ARG...",
        description="Runs a program in the current folder as a supervised task and streams it. "
        "Uses the running daemon, or brings its own for this call.",
    )
    own.add_argument("--agent", help="the agent to run; 'command' is any program")
    own.add_argument("--project", metavar="PATH", help="folder to run in (the current one)")
    own.add_argument("--env", action="append", default=[], metavar="K=V", help="a variable to set")
    own.add_argument("--json", action="store_true", help="print the wire messages, one a line")
    own.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to tell the agent")
    add_connection(own)
    own.set_defaults(run=run, takes_command=True)


async def run(args: argparse.Namespace) -> int:
    """Run it, and end as it ends."""
    request = _request(args)
    async with _daemon(args) as embedded:
        job = Job(args, request)
        async with client(args, on_status=job.on_status) as daemon:
            code = await job.run(daemon)
        if embedded is not None:
            await _wait_for_others(embedded)
    return code


def _request(args: argparse.Namespace) -> dict[str, Any]:
    """Turn the options into `session.create`, as far as they alone say it."""
    if args.agent not in (None, "command"):
        raise BadRequest(
            f"there is no agent {args.agent!r} here yet; use: agentcmd run -- CMD ARG..."
        )
    if args.prompt:
        raise BadRequest("a prompt needs an agent, and none is here yet; put a command after --")
    if not args.command_line:
        raise BadRequest("nothing to run: put a command after --, as in agentcmd run -- ls -l")
    env: dict[str, str] = {}
    for pair in args.env:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise BadRequest(f"--env wants K=V, not {pair!r}")
        env[name] = value
    if not remote_url(args) and "PATH" in os.environ:
        env.setdefault("PATH", os.environ["PATH"])  # what the shell finds, the daemon finds
    return {"agent": "command", "argv": args.command_line, "env": env}


@asynccontextmanager
async def _daemon(args: argparse.Namespace) -> AsyncIterator[Daemon | None]:
    """Have a daemon while this is open: the one that runs, or one for this call."""
    settings = settings_of(args)
    if remote_url(args) or home.discover(settings.state_dir) is not None:
        yield None
        return
    with logging_to(
        settings.state_dir,
        level=settings.log.level,
        file_bytes=settings.log.file_bytes,
        files=settings.log.files,
        quiet=True,
    ):
        daemon = Daemon(settings, unix_socket=home.socket_path(settings.state_dir))
        try:
            await daemon.__aenter__()
        except Conflict:
            await _discovered(settings)
            yield None
            return
        try:
            yield daemon
        finally:
            await daemon.__aexit__(None, None, None)


async def _discovered(settings: Settings) -> None:
    """Wait for the daemon that has just taken the state dir to say where it is."""
    end = time.monotonic() + DISCOVERY
    while home.discover(settings.state_dir) is None:  # another process
        if time.monotonic() > end:
            raise Unavailable(f"a daemon holds {settings.state_dir} and does not answer")
        await asyncio.sleep(0.02)


async def _wait_for_others(daemon: Daemon) -> None:
    """Stay while another call uses the daemon that this one brought."""
    if len(daemon.tasks):
        sys.stderr.write(
            f"agentcmd: done; staying for {len(daemon.tasks)} other tasks that use this daemon "
            "(Ctrl-C ends them)\n"
        )
        await daemon.tasks.idle()


class Job:
    """One session seen from the terminal: output, input, signals, exit code."""

    def __init__(self, args: argparse.Namespace, request: dict[str, Any]) -> None:
        """Run this request."""
        self._args = args
        self._request = request
        self._session = ""
        self._interrupts = 0
        self._started = time.monotonic()
        self._input: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._wants_input = sys.stdin is not None and not sys.stdin.closed

    def on_status(self, status: Status, detail: str) -> None:
        """Say on a terminal what happens to the connection."""
        if status == "disconnected" and self._session:
            sys.stderr.write("agentcmd: the connection broke; connecting again\n")
        elif status == "gap":
            sys.stderr.write(f"agentcmd: some output of {detail} is no longer kept\n")

    async def run(self, daemon: Client) -> int:
        """Create the session and follow it to its end; gives the exit code."""
        folder = Path(self._args.project or ".").absolute()
        added = await daemon.call("project.add", {"path": str(_root(folder))})
        created = await daemon.call(
            "session.create",
            {
                **self._request,
                "projectId": added["projectId"],
                "cwd": str(folder),
                "keepAlive": self._wants_input,
            },
        )
        self._session = created["sessionId"]
        loop = asyncio.get_running_loop()
        helpers: list[asyncio.Task[None]] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, daemon, helpers)
        try:
            async for message in daemon.subscribe(f"session:{self._session}", since=0):
                if message.type == "session.started" and self._wants_input:
                    threading.Thread(target=self._read_stdin, args=(loop,), daemon=True).start()
                    helpers.append(loop.create_task(self._pass_input(daemon)))
                await asyncio.to_thread(self._show, message)
                if message.type in ENDS:
                    return self._end(message)
        except BrokenPipeError:
            await daemon.call("session.cancel", {"sessionId": self._session})
            raise
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            for helper in helpers:
                helper.cancel()
        raise Unavailable("the stream ended before the session did")

    # Output

    def _show(self, message: Message) -> None:
        """Print one message; in a thread, because a terminal or a pipe may be slow."""
        if self._args.json:
            _write(sys.stdout, message.raw + "\n")
        elif message.type == "session.stream_output":
            stream = sys.stdout if message.data["type"] == "stdout" else sys.stderr
            _write(stream, message.data["content"])
        elif message.type == "session.updated" and sys.stderr.isatty():
            _write(sys.stderr, f"agentcmd: queued, place {message.data.get('position')}\n")

    def _end(self, message: Message) -> int:
        """Give the exit code that the end stands for, and say it on a terminal."""
        data = message.data
        code, text = data.get("exitCode", 1), f"exit {data.get('exitCode', '?')}"
        if message.type == "session.error":
            code = 128 + data["signal"] if data["code"] == "signaled" else 1
            text = data["message"]
        elif message.type == "session.cancelled":
            text = "cancelled"
            code = INTERRUPTED if self._interrupts else 128 + data.get("signal", signal.SIGTERM)
        if sys.stderr.isatty():
            took = time.monotonic() - self._started
            _write(sys.stderr, f"agentcmd: {text}, {took:.1f} s, session {self._session}\n")
        elif message.type == "session.error" and data["code"] != "signaled":
            _write(sys.stderr, f"agentcmd: {text}\n")
        return int(code)

    # Input and signals

    def _interrupt(self, daemon: Client, helpers: list[asyncio.Task[None]]) -> None:
        self._interrupts += 1
        command = "session.cancel" if self._interrupts == 1 else "session.kill"
        if self._interrupts == 1 and sys.stderr.isatty():
            sys.stderr.write("\nagentcmd: cancelling; once more kills it\n")
        helpers.append(asyncio.get_running_loop().create_task(self._ask(daemon, command)))

    async def _ask(self, daemon: Client, command: str) -> None:
        with contextlib.suppress(AgentcmdError):
            await daemon.call(command, {"sessionId": self._session})

    def _read_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read our own input in a thread, since a file or a terminal cannot be polled alike."""
        with contextlib.suppress(RuntimeError, OSError):  # the loop has ended, or a bad terminal
            while _in_foreground():
                chunk = os.read(0, CHUNK)
                asyncio.run_coroutine_threadsafe(self._input.put(chunk), loop).result()
                if not chunk:
                    return

    async def _pass_input(self, daemon: Client) -> None:
        while True:
            chunk = await self._input.get()
            request = {
                "sessionId": self._session,
                "data": base64.b64encode(chunk).decode(),
                "encoding": "base64",
                "end": not chunk,
            }
            while True:
                try:
                    await daemon.call("session.input", request)
                    break
                except Unavailable:
                    await asyncio.sleep(INPUT_RETRY)  # it is not reading, or we are reconnecting
                except AgentcmdError:
                    return  # it has closed its input, or ended
            if not chunk:
                return


def _in_foreground() -> bool:
    """Tell whether reading the terminal is allowed: a background job would be stopped by it."""
    try:
        return not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _write(stream: Any, text: str) -> None:
    """Write text as UTF-8 whatever the locale says, because that is what the child wrote."""
    stream.buffer.write(text.encode("utf-8", "surrogatepass"))
    stream.buffer.flush()


def _root(folder: Path) -> Path:
    """Find the project of a folder: the root of its git checkout, or itself."""
    for around in (folder, *folder.parents):
        if (around / ".git").exists():
            return around
    return folder
