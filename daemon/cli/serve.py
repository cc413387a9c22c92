"""agentcmd serve: the daemon in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import Any

from daemon import __version__, home
from daemon.app import Daemon, check_bind
from daemon.cli.connect import add_home, settings_of
from daemon.log import logging_to


def add_commands(commands: Any) -> None:
    """Add `serve`."""
    own = commands.add_parser("serve", help="run the daemon in the foreground")
    own.add_argument("--host", help="address to bind (127.0.0.1)")
    own.add_argument("--port", type=int, help="port to bind (4100); 0 picks a free one")
    own.add_argument("--uds", metavar="PATH", help="Unix socket to bind instead")
    add_home(own)
    own.set_defaults(run=serve)


async def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; then drain."""
    flags = {"server": {"host": args.host, "port": args.port, "uds": args.uds}}
    settings = settings_of(args, flags)
    check_bind(settings, explicit_host=args.host is not None)
    home.make(settings.state_dir)
    daemon = Daemon(settings)
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
            sys.stdout.write(f"agentcmd {__version__} listening on {daemon.url}\n")
            sys.stdout.flush()
            await daemon.stop_requested.wait()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                loop.add_signal_handler(number, daemon.hurry)
    return 0
