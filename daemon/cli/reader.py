"""Whoever reads what a command prints: when that program is gone, the command ends too."""

from __future__ import annotations

import argparse
import asyncio
import errno
import functools
import os
import stat
import sys
from collections.abc import Awaitable, Callable

Command = Callable[[argparse.Namespace], Awaitable[int]]


def ends_with_its_reader(command: Command) -> Command:
    """Make a command that follows something end when nobody reads its standard output any more.

    A write would tell, but there may be nothing to write for days: `agentcmd tail X | head -n 1`.
    """

    @functools.wraps(command)
    async def run(args: argparse.Namespace) -> int:
        number = _pipe()
        if number is None:
            return await command(args)
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        left = False

        def leave() -> None:
            nonlocal left
            left = True
            loop.remove_reader(number)
            if task is not None:
                task.cancel()

        loop.add_reader(number, leave)  # the writing end of a pipe is only ever broken, never read
        try:
            return await command(args)
        except asyncio.CancelledError:
            if not left:
                raise
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        finally:
            loop.remove_reader(number)

    return run


def _pipe() -> int | None:
    """Return the descriptor of standard output, if that is a pipe."""
    try:
        number = sys.stdout.fileno()
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (OSError, ValueError):
        return None
