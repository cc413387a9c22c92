"""What systemd hands to a service and hears from it (sd_notify(3), sd_listen_fds(3)).

Without systemd there is nothing to hand over and nobody to tell, and all of this has no effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Self

from daemon.core.errors import BadRequest

FIRST_DESCRIPTOR = 3
"""Where the descriptors that are handed over begin (SD_LISTEN_FDS_START)."""

MAX_DESCRIPTORS = 1024

FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)

PERIOD = 1.0
"""Seconds between two looks at what there is to tell; nobody reads it faster."""

VARIABLES = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The other side of a service: where to tell it something, and what it has handed over.

    `notify_socket` is a path, or a name behind `@`; empty where nobody listens. `watchdog` is in
    seconds: whoever says nothing for so long is taken for dead. `sockets` listen already.
    """

    notify_socket: str = ""
    watchdog: float | None = None
    sockets: tuple[socket.socket, ...] = ()

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Self:
        """Take what is meant for this process, and remove it, so that no child takes it for its.

        BadRequest when a descriptor is no listening stream socket.
        """
        told = {name: environ.pop(name, "") for name in VARIABLES}
        watched = told["WATCHDOG_PID"] in ("", str(os.getpid()))
        micros = _number(told["WATCHDOG_USEC"]) if watched else 0
        return cls(
            notify_socket=told["NOTIFY_SOCKET"],
            watchdog=micros / 1e6 if micros else None,
            sockets=_handed_over(told),
        )

    def notify(self, *states: str) -> None:
        """Send states such as READY=1 or STATUS=...; one that is not heard is no error."""
        if not self.notify_socket:
            return
        address = self.notify_socket
        if address.startswith("@"):
            address = "\0" + address[1:]
        # A manager that takes nothing just now must not hold up the loop.
        flags = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, flags) as own:
            own.sendto("\n".join(states).encode(errors="replace"), address)

    async def attend(self, states: Callable[[], tuple[str, ...]]) -> None:
        """Tell what `states` gives when it changes, and ping the watchdog; until cancelled.

        This runs on the loop on purpose: a loop that is blocked says nothing, and is found out.
        """
        if not self.notify_socket:
            return
        told: tuple[str, ...] = ()
        due = time.monotonic()
        while True:
            current = states()
            words = [] if current == told else list(current)
            told = current
            if self.watchdog is not None and time.monotonic() >= due:
                words.append("WATCHDOG=1")
                due = time.monotonic() + self.watchdog / 2
            if words:
                self.notify(*words)
            pause = PERIOD if self.watchdog is None else min(PERIOD, due - time.monotonic())
            await asyncio.sleep(pause)


def extension(seconds: float) -> str:
    """Give the state that asks for `seconds` more until the next word of this process."""
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"


def _handed_over(told: MutableMapping[str, str]) -> tuple[socket.socket, ...]:
    """Open the descriptors that are for this process."""
    if told["LISTEN_PID"] != str(os.getpid()):
        return ()
    count = min(_number(told["LISTEN_FDS"]), MAX_DESCRIPTORS)
    names = told["LISTEN_FDNAMES"].split(":")
    found = []
    for place in range(count):
        number = FIRST_DESCRIPTOR + place
        name = names[place] if place < len(names) else ""
        with contextlib.suppress(OSError):
            os.set_inheritable(number, False)
        found.append((number, name))
    return tuple(_listening(number, name) for number, name in found)


def _listening(number: int, name: str) -> socket.socket:
    """Take a descriptor for the listening socket that it should be."""
    what = f"descriptor {number}" + (f" ({name})" if name else "")
    refused = BadRequest(
        f"systemd hands over {what}, which is no listening stream socket: the socket unit needs "
        "ListenStream= with an address or a path, and Accept=no"
    )
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise refused
        taken = socket.socket(fileno=number)
    except OSError:
        raise refused from None
    if (
        taken.family not in FAMILIES
        or taken.type != socket.SOCK_STREAM
        or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        or (taken.family == socket.AF_UNIX and not _path_of(taken).startswith("/"))
    ):
        taken.detach()
        raise refused
    return taken


def _path_of(listening: socket.socket) -> str:
    """Give the path of a Unix socket; an abstract one has none."""
    return os.fsdecode(listening.getsockname())


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
