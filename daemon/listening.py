"""Where the daemon listens: on a socket of its own making, or on those that systemd hands over."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from daemon.core.errors import Unavailable

ACCEPTED_AT_ONCE = 8
"""Connections that are accepted in one turn of the loop: asyncio takes as many as its backlog, and
who comes with a thousand others must not hold up those who are there."""


class Place(NamedTuple):
    """Where clients find the daemon: `url` over TCP, `path` of a Unix socket; one is enough."""

    url: str = ""
    path: str = ""

    def __str__(self) -> str:
        """Give what a person or `--url` needs."""
        return self.url or f"unix:{self.path}"


async def listen_on_own(
    runner: web.AppRunner, stack: AsyncExitStack, *, host: str, port: int, path: Path | None
) -> Place:
    """Bind a Unix socket where `path` is given, else TCP; Unavailable says what is in the way."""
    try:
        if path is None:
            for each in await _bound_to(host, port):
                await _serve_on(runner, each)
            return Place(url=_url(*runner.addresses[0][:2]))
        str(path).encode()  # clients are told of it, in JSON
        await _serve_on(runner, _bound(path, stack))
    except (OSError, UnicodeError) as error:  # the latter for names that no host can have
        where = path or f"{host}:{port}"
        why = error.strerror if isinstance(error, OSError) else "there can be no such name"
        raise Unavailable(
            f"cannot listen on {where}: {why}; choose another with --port, --host or --uds"
        ) from None
    return Place(path=str(path))


async def listen_on_given(runner: web.AppRunner, sockets: Sequence[socket.socket]) -> Place:
    """Serve on sockets that listen already; they stay open elsewhere, with who waits on them."""
    urls, paths = [], []
    for each in sockets:
        await _serve_on(runner, each)
        if each.family == socket.AF_UNIX:
            paths.append(os.fsdecode(each.getsockname()))
        else:
            urls.append(_url(*each.getsockname()[:2]))
    return Place(url="".join(urls[:1]), path="".join(paths[:1]))


def hosts_of(sockets: Sequence[socket.socket]) -> tuple[str, ...]:
    """List the addresses that sockets are bound to, as a Host header may name them."""
    found = [str(each.getsockname()[0]) for each in sockets if each.family != socket.AF_UNIX]
    return tuple(f"[{host}]" if ":" in host else host for host in found)


async def _serve_on(runner: web.AppRunner, listening: socket.socket) -> None:
    """Accept on a socket; all who wait longer than a turn of the loop wait in the kernel.

    So do, on a socket of systemd, those who come while no daemon is there.
    """
    await web.SockSite(runner, listening, backlog=ACCEPTED_AT_ONCE).start()
    listening.listen(socket.SOMAXCONN)


async def _bound_to(host: str, port: int) -> list[socket.socket]:
    """Bind every address that a host's name stands for."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    bound: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            bound.append(socket.create_server(address, family=family))
    except BaseException:
        for each in bound:
            each.close()
        raise
    return bound


def _bound(path: Path, stack: AsyncExitStack) -> socket.socket:
    """Bind a Unix socket that is removed in the end."""
    if path.is_socket() and not _answers(path):
        path.unlink()  # a dead daemon left it
    listening = socket.socket(socket.AF_UNIX)
    old = os.umask(0o177)  # nobody else may even connect
    try:
        listening.bind(str(path))
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(old)
    stack.callback(path.unlink, missing_ok=True)
    return listening


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _answers(path: Path) -> bool:
    """Tell whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
