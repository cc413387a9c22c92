"""The side of systemd in tests: a socket that hears, and a start that hands over sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

HANDOVER = """
import os, sys
given = [os.dup(int(number)) for number in sys.argv[1].split(",") if number]
high = [os.dup2(fd, 100 + place) for place, fd in enumerate(given)]
os.closerange(3, 100)
for place, fd in enumerate(high):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Puts descriptors where a service finds them; the pid stays, as with systemd."""

SERVE = [sys.executable, "-m", "daemon", "serve"]


class Heard:
    """What a service tells its manager, in the order in which it comes."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.own.setblocking(False)
        self.own.bind("\0" + address[1:] if address.startswith("@") else address)

    async def next(self, timeout: float = 30.0) -> list[str]:
        """Give the states of the next message."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            return (await loop.sock_recv(self.own, 4096)).decode().split("\n")

    async def until(self, wanted: Callable[[str], bool]) -> list[str]:
        """Pass over messages up to one with a state that is wanted; gives its states."""
        async with asyncio.timeout(30):
            while not any(map(wanted, states := await self.next())):
                pass
        return states

    def waiting(self) -> list[str]:
        """Take what has come so far."""
        states = []
        while True:
            try:
                states += self.own.recv(4096).decode().split("\n")
            except BlockingIOError:
                return states

    def close(self) -> None:
        self.own.close()


def begin(
    state_dir: Path,
    *sockets: socket.socket,
    argv: list[str] | None = None,
    umask: int = -1,
    **environ: str,
) -> subprocess.Popen[str]:
    """Start the daemon as systemd does, with sockets and variables."""
    numbers = [each.fileno() for each in sockets]
    more = {"LISTEN_FDS": str(len(sockets))} if sockets else {}
    return subprocess.Popen(
        [sys.executable, "-c", HANDOVER, ",".join(map(str, numbers)), *(argv or SERVE)],
        env={
            **os.environ,
            "AGENTCMD_SERVER__STATE_DIR": str(state_dir),
            "AGENTCMD_SERVER__PORT": "0",
            "PYTHONPATH": str(ROOT),
            **more,
            **environ,
        },
        pass_fds=numbers,
        umask=umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def listening_line(process: subprocess.Popen[Any]) -> str:
    """Read the line of a daemon that listens; gives where."""
    line = process.stdout.readline()
    assert "listening on" in line, (line, process.stderr.read())
    return line.rsplit(" ", 1)[1].strip()


@contextmanager
def beginning(state_dir: Path, **environ: str) -> Iterator[Callable[..., Any]]:
    """Give what starts daemons on sockets; what is left of them is killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*sockets: socket.socket, **more: str) -> subprocess.Popen[str]:
        started.append(begin(state_dir, *sockets, **environ, **more))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()
