"""agentcmd run: the main job in one line, with the running daemon or one of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from daemon import home
from daemon.app import Daemon
from daemon.cli.connect import add_connection, client, remote_url, settings_of
from daemon.cli.job import Ending, Job, note
from daemon.client import NoDaemon
from daemon.core.errors import BadRequest, Conflict
from daemon.log import logging_to

PATIENCE = 15.0
"""Seconds for a daemon that just begins or ends to have done so; a drain has 10 of them."""

RETRY = 0.05


def add_commands(commands: Any) -> None:
    """Add `run`."""
    own = commands.add_parser(
        "run",
        help="run a command or an agent, and stream it",
        usage="agentcmd run [options] -- CMD ARG...\n"
        "       agentcmd run --agent NAME [options] PROMPT",
        description="Runs a program or an agent in the current folder as a supervised task and "
        "streams it. Uses the running daemon, or brings its own for this call.",
    )
    own.add_argument("--agent", help="the agent to run, as in claude; 'command' is any program")
    own.add_argument("--model", help="the agent's model")
    own.add_argument("--permission-mode", metavar="MODE", help="what the agent may do unasked")
    own.add_argument(
        "--allow", action="append", default=[], metavar="TOOL", help="a tool that is not asked for"
    )
    own.add_argument("--budget", type=float, metavar="USD", help="what it may cost")
    own.add_argument("--resume", metavar="ID", help="the agent's own id of a conversation")
    own.add_argument("--project", metavar="PATH", help="folder to run in (the current one)")
    own.add_argument("--env", action="append", default=[], metavar="K=V", help="a variable to set")
    own.add_argument("--json", action="store_true", help="print the wire messages, one a line")
    own.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to tell the agent")
    add_connection(own)
    own.set_defaults(run=run, takes_command=True)


async def run(args: argparse.Namespace) -> int:
    """Run it, and end as it ends."""
    request = _request(args)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await _run_once(args, request)
        except Ending as ending:
            if remote_url(args) or time.monotonic() > end:
                raise ending.__cause__ or ending from None
        await asyncio.sleep(RETRY)


async def _run_once(args: argparse.Namespace, request: dict[str, Any]) -> int:
    job = Job(args, request)
    try:
        with job.heeding_signals():
            async with _daemon(args, job) as embedded, _stand_in(args, job, embedded):
                try:
                    async with client(args, on_status=job.on_status) as daemon:
                        await job.run(daemon)
                except NoDaemon as error:
                    if job.session:
                        raise
                    raise Ending from error
    except asyncio.CancelledError:  # left by a signal, or after a long silence
        pass
    return job.code_when_left()


def _request(args: argparse.Namespace) -> dict[str, Any]:
    """Turn the options into `session.create`, as far as they alone say it."""
    given = {
        "model": args.model,
        "permissionMode": args.permission_mode,
        "allowedTools": args.allow,
        "budgetUsd": args.budget,
        "resume": args.resume,
    }
    given = {name: value for name, value in given.items() if value}
    if args.agent not in (None, "command"):
        if args.command_line:
            raise BadRequest(
                f"agent {args.agent} takes a prompt; a command goes without it: agentcmd run -- CMD"
            )
        asked = {"agent": args.agent, "prompt": _prompt(args), **given}
    else:
        if args.prompt:
            raise BadRequest(
                "a prompt needs an agent, as in agentcmd run --agent claude PROMPT; a command "
                "goes after --"
            )
        if not args.command_line:
            raise BadRequest("nothing to run: put a command after --, as in agentcmd run -- ls -l")
        asked = {"agent": "command", "argv": args.command_line, **given}
    env: dict[str, str] = {}
    for pair in args.env:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise BadRequest(f"--env wants K=V, not {pair!r}")
        env[name] = value
    if not remote_url(args) and "PATH" in os.environ:
        env.setdefault("PATH", os.environ["PATH"])  # what the shell finds, the daemon finds
    return {**asked, "env": env}


def _prompt(args: argparse.Namespace) -> str:
    """Give the prompt of the command line, or standard input where that is no terminal."""
    if args.prompt:
        return " ".join(args.prompt)
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise BadRequest(f"agent {args.agent} needs a prompt, as an argument or on standard input")
    text = sys.stdin.buffer.read().decode(errors="replace")
    if not text.strip():
        raise BadRequest("the prompt on standard input is empty")
    return text


@asynccontextmanager
async def _daemon(args: argparse.Namespace, job: Job) -> AsyncIterator[Daemon | None]:
    """Have a daemon while this is open: the one that runs, or one for this call."""
    settings = settings_of(args)
    if remote_url(args) or home.discover(settings.state_dir) is not None:
        yield None
        return
    home.make(settings.state_dir)
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
        except Conflict as error:  # another came first, or is about to go
            raise Ending from error
        asked = asyncio.ensure_future(_heed_stop(daemon, job))
        try:
            yield daemon
            await _wait_for_others(daemon)
        finally:
            asked.cancel()
            job.leave = daemon.hurry
            await daemon.__aexit__(None, None, None)


@asynccontextmanager
async def _stand_in(
    args: argparse.Namespace, job: Job, embedded: Daemon | None
) -> AsyncIterator[None]:
    """Follow on from another call's daemon that goes: its journal has the end of our session."""
    state_dir = settings_of(args).state_dir
    address = home.discover(state_dir)
    if (
        embedded is not None
        or remote_url(args)
        or address is None
        or address.socket != str(home.socket_path(state_dir))
    ):
        yield
        return
    standing = asyncio.ensure_future(_stand(args, job))
    try:
        yield
    finally:
        job.finished.set()
        if not job.disconnected.is_set():
            standing.cancel()
        await asyncio.wait([standing])


async def _stand(args: argparse.Namespace, job: Job) -> None:
    await job.disconnected.wait()
    while job.session and not job.finished.is_set():
        try:
            async with _daemon(args, job) as own:
                if own is not None:
                    await job.finished.wait()
        except Ending:
            pass  # its lock is still held
        await asyncio.sleep(RETRY)


async def _heed_stop(daemon: Daemon, job: Job) -> None:
    """Take a client's `system.stop` for the SIGTERM that it is elsewhere."""
    await daemon.stop_requested.wait()
    job.interrupt(signal.SIGTERM)


async def _wait_for_others(daemon: Daemon) -> None:
    """Stay while another call uses the daemon that this one brought."""
    if others := len(daemon.tasks):
        what = "1 other task that uses" if others == 1 else f"{others} other tasks that use"
        note(f"done; staying for {what} this daemon (Ctrl-C ends them)")
        await daemon.tasks.idle()
