"""agentcmd status, stop, ps, cancel, kill: the daemon and its tasks from the shell."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from daemon import home
from daemon.cli.connect import add_connection, client, remote_url, settings_of
from daemon.cli.printing import harmless_cell, say, say_json
from daemon.client import NoDaemon
from daemon.core.errors import Unavailable

STOP_TIMEOUT = 60.0
"""Seconds that `stop` waits for the daemon's own drain, which has deadlines of its own."""


def add_commands(commands: Any) -> None:
    """Add the commands."""
    for name, run, help_ in (
        ("status", status, "is a daemon running, where, since when, what runs"),
        ("stop", stop, "drain and stop the daemon"),
        ("ps", ps, "list the supervised tasks"),
    ):
        own = commands.add_parser(name, help=help_)
        own.add_argument("--json", action="store_true", help="print JSON")
        add_connection(own)
        own.set_defaults(run=run)
    for name, help_ in (("cancel", "cancel a task politely"), ("kill", "kill a task at once")):
        own = commands.add_parser(name, help=help_)
        own.add_argument("id", help="the task, as ps lists it")
        add_connection(own)
        own.set_defaults(run=stop_task, verb=name)


async def status(args: argparse.Namespace) -> int:
    """Say how the daemon is."""
    async with client(args) as daemon:
        told = await daemon.call("system.status")
        address = home.discover(settings_of(args).state_dir)
    where = remote_url(args) or (address and (address.url or f"unix:{address.socket}")) or ""
    if args.json:
        say_json(json.dumps({**told, "url": where}) + "\n")
        return 0
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["startedAt"]))
    say(
        f"agentcmd {told['version']} at {where}, pid {told['pid']}: {told['status']} "
        f"since {since}, {told['tasks']} tasks ({told['queued']} queued), "
        f"{told['connections']} connections, journal {told['journal']}\n"
    )
    return 0


async def stop(args: argparse.Namespace) -> int:
    """Stop the daemon, and wait until it has ended when it is here."""
    address = None if remote_url(args) else home.discover(settings_of(args).state_dir)
    if remote_url(args):
        async with client(args) as daemon:
            await daemon.call("system.stop")
        return 0
    if address is None:
        raise NoDaemon("no daemon runs here, so there is nothing to stop")
    try:
        os.kill(address.pid, signal.SIGTERM)
    except ProcessLookupError:
        return 0  # it ends just now
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            while home.alive(address):  # noqa: ASYNC110  # another process: there is no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Unavailable(
            f"the daemon (pid {address.pid}) still drains; 'agentcmd stop' again kills its tasks"
        ) from None
    return 0


async def ps(args: argparse.Namespace) -> int:
    """List the tasks."""
    async with client(args) as daemon:
        tasks = (await daemon.call("task.list"))["tasks"]
    if args.json:
        say_json(json.dumps(tasks) + "\n")
        return 0
    rows = [("ID", "KIND", "STATE", "PID", "AGE", "CPU", "RSS", "PEAK", "CHANNEL")]
    rows += [
        (
            task["id"],
            task["kind"],
            task["state"],
            str(task.get("pid", "-")),
            f"{task['age']:.0f}s",
            f"{task['cpuSeconds']:.2f}s" if "cpuSeconds" in task else "-",
            _mebibytes(task.get("rssBytes")),
            _mebibytes(task.get("peakBytes")),
            task["channel"],
        )
        for task in tasks
    ]
    say(table(rows))
    return 0


def _mebibytes(size: int | None) -> str:
    return "-" if size is None else f"{size / (1 << 20):.1f}M"


async def stop_task(args: argparse.Namespace) -> int:
    """Cancel or kill one task."""
    async with client(args) as daemon:
        await daemon.call(f"task.{args.verb}", {"taskId": args.id})
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Set rows in columns, for people."""
    rows = [[harmless_cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines) + "\n"
