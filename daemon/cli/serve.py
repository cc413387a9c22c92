"""agentcmd serve: the daemon in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from daemon import __version__, home
from daemon.app import Daemon, check_bind
from daemon.cli.connect import add_home, settings_of
from daemon.cli.printing import say
from daemon.core.errors import AgentcmdError
from daemon.core.spawner import libc_prctl
from daemon.log import logging_to
from daemon.sdnotify import ServiceManager

log = structlog.get_logger(__name__)

PR_SET_DUMPABLE = 4
"""Closes /proc/<daemon>/environ and ptrace(2) to the same user (prctl(2))."""


def add_commands(commands: Any) -> None:
    """Add `serve`."""
    own = commands.add_parser(
        "serve",
        help="run the daemon in the foreground",
        description="Runs the daemon in the foreground. Sockets that systemd hands over are served "
        "instead of what --host, --port or --uds say.",
    )
    own.add_argument("--host", help="address to bind (127.0.0.1)")
    own.add_argument("--port", type=int, help="port to bind (4100); 0 picks a free one")
    own.add_argument("--uds", metavar="PATH", help="Unix socket to bind instead")
    add_home(own)
    own.set_defaults(run=serve)


async def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; then drain."""
    flags = {"server": {"host": args.host, "port": args.port, "uds": args.uds}}
    settings = settings_of(args, flags)
    manager = ServiceManager.taken_from(os.environ)
    if not manager.sockets:  # whoever wrote a socket unit has said where
        check_bind(settings, explicit_host=args.host is not None)
    if manager.notify_socket:  # agents of the same user are not to read our memory
        libc_prctl(PR_SET_DUMPABLE, 0)
    home.make(settings.state_dir)
    _link_log(settings.state_dir, os.environ.get("LOGS_DIRECTORY", ""))
    daemon = Daemon(settings, manager=manager)
    loop = asyncio.get_running_loop()
    with logging_to(
        settings.state_dir,
        level=settings.log.level,
        file_bytes=settings.log.file_bytes,
        files=settings.log.files,
    ):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop_requested.set)
        async with daemon:
            if sys.stdin is not None and sys.stdin.isatty():  # its terminal is closed: so is it
                loop.add_signal_handler(signal.SIGHUP, daemon.stop_requested.set)
            else:
                loop.add_signal_handler(signal.SIGHUP, _reload, daemon, args, flags)
            say(f"agentcmd {__version__} listening on {daemon.url}\n")
            gc.freeze()  # what was loaded stays; going over it again held up the loop for 50 ms
            await daemon.stop_requested.wait()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, daemon.hurry)  # in the other's place, at once
    return 0


def _reload(daemon: Daemon, args: argparse.Namespace, flags: dict[str, dict[str, Any]]) -> None:
    """Read the settings anew; those that cannot be read change nothing."""
    try:
        new = settings_of(args, flags)
    except AgentcmdError as error:
        log.error("daemon.reload_refused", error=error.message)
    else:
        daemon.reload(new)


def _link_log(state_dir: Path, unit_dir: str) -> None:
    """Keep the log in the unit's LogsDirectory=, and findable from the state dir as everywhere."""
    log = state_dir / "log"
    if log.is_symlink() and not log.exists():
        log.unlink()  # to a folder that is no more
    if unit_dir and not log.exists():
        log.symlink_to(unit_dir.partition(":")[0])
