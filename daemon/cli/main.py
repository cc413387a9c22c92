"""The parser of the command line, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from daemon import __version__
from daemon.cli import (
    channels,
    doctor,
    git,
    logs,
    projects,
    run,
    serve,
    service,
    sessions,
    shell,
    tasks,
    tokens,
    workflow,
)
from daemon.cli.drawing import harmless
from daemon.cli.printing import complain, harmless_cell
from daemon.client import NoDaemon
from daemon.core.errors import AgentcmdError, BadRequest, InvalidChannel

USAGE, FAILURE, NO_DAEMON, INTERRUPTED = 2, 1, 3, 130
BROKEN_PIPE = 141
"""128 + SIGPIPE, what a shell reports of a program whose reader has left."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and say where the rest is.

    Where the first word is one of its `verbs`, the parser there takes the rest.
    """

    def __init__(self, **options: Any) -> None:
        """Begin without verbs."""
        super().__init__(**options)
        self.verbs: dict[str, Parser] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, by the verb where there is one."""
        if args and args[0] in self.verbs:
            return self.verbs[args[0]].parse_known_args(args[1:], namespace)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with the one line."""
        complain(harmless_cell(f"agentcmd: {message}; see '{self.prog} --help'") + "\n")
        self.exit(USAGE)


GROUPS = (
    run,
    serve,
    shell,
    sessions,
    git,
    workflow,
    tokens,
    tasks,
    channels,
    logs,
    projects,
    service,
    doctor,
)


def parser() -> argparse.ArgumentParser:
    """Build the whole parser; each group adds its commands."""
    top = Parser(
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
    _open_standard_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows the first `--` is a command of its own and not for our parser.
    cut = given.index("--") if "--" in given else len(given)
    args = parser().parse_args(given[:cut])
    args.command_line = given[cut + 1 :] if cut < len(given) else None
    if args.command_line is not None and not getattr(args, "takes_command", False):
        complain("agentcmd: nothing may follow -- here; see --help\n")
        return USAGE
    return _carry_out(args)


def _carry_out(args: argparse.Namespace) -> int:
    """Run what was asked for; an error becomes one line and an exit code."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was while all was loaded
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return int(asyncio.run(args.run(args)))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return BROKEN_PIPE
    except RecursionError:  # JSON may be nested without end, whoever wrote it
        complain("agentcmd: the data is nested too deeply to be read\n")
        return USAGE
    except (AgentcmdError, OSError) as error:
        with contextlib.suppress(OSError):
            complain(f"agentcmd: {harmless(_sentence(error))}\n")
        if isinstance(error, OSError):
            _forget_output()
        return _code_of(error)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        with contextlib.suppress(OSError):
            complain(f"agentcmd: {harmless(_fault(error))}\n")
        return FAILURE


def _fault(error: Exception) -> str:
    """Say that nobody has thought of this, and where it is."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return (
        f"a fault of agentcmd's own: {type(error).__name__} at {where}: {str(error)[:500]}; "
        "please report it, with what PYTHONDEVMODE=1 shows"
    )


def _code_of(error: Exception) -> int:
    if isinstance(error, NoDaemon):
        return NO_DAEMON
    return USAGE if isinstance(error, BadRequest | InvalidChannel) else FAILURE


def _sentence(error: Exception) -> str:
    if isinstance(error, AgentcmdError) or not isinstance(error, OSError) or not error.strerror:
        return str(error)
    about = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{about}"


def _open_standard_streams() -> None:
    """Give 0, 1 and 2 something to be, where a caller has closed them: or a file of ours is it.

    What is written is UTF-8, whatever the locale says: it is what children and files say.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, so this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # for good
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _forget_output() -> None:
    """Keep the interpreter from flushing what could not be written when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
