"""The parser of the command line, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence

from daemon import __version__
from daemon.cli import channels, doctor, logs, projects, run, serve, tasks, tokens
from daemon.client import NoDaemon
from daemon.core.errors import AgentcmdError, BadRequest, InvalidChannel

USAGE, FAILURE, NO_DAEMON, INTERRUPTED = 2, 1, 3, 130
BROKEN_PIPE = 141
"""128 + SIGPIPE, what a shell reports of a program whose reader has left."""

GROUPS = (run, serve, tokens, tasks, channels, logs, projects, doctor)


def parser() -> argparse.ArgumentParser:
    """Build the whole parser; each group adds its commands."""
    top = argparse.ArgumentParser(
        prog="agentcmd",
        description="Runs agents and commands as supervised tasks and streams them, "
        "live and replayable.",
        epilog="Begin with: agentcmd run -- CMD ARG...",
    )
    top.add_argument("--version", action="version", version=f"agentcmd {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        group.add_commands(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows the first `--` is a command of its own and not for our parser.
    cut = given.index("--") if "--" in given else len(given)
    args = parser().parse_args(given[:cut])
    args.command_line = given[cut + 1 :] if cut < len(given) else None
    if args.command_line is not None and not getattr(args, "takes_command", False):
        sys.stderr.write("agentcmd: nothing may follow -- here; see --help\n")
        return USAGE
    try:
        return int(asyncio.run(args.run(args)))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except (AgentcmdError, OSError) as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"agentcmd: {error}\n")
        return _code_of(error)


def _code_of(error: Exception) -> int:
    if isinstance(error, NoDaemon):
        return NO_DAEMON
    return USAGE if isinstance(error, BadRequest | InvalidChannel) else FAILURE


def _forget_stdout() -> None:
    """Keep the interpreter from flushing into a closed pipe when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
