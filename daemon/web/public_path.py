"""The path under which clients see us: `[server] base_path`, and what a trusted proxy says."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from aiohttp import web
from yarl import URL

from daemon.core.errors import BadRequest

PREFIX_HEADER = "X-Forwarded-Prefix"
PREFIX_BYTES = 256
UNIX = "unix"
"""How `[server] trusted_proxies` names those who come over a Unix socket."""

CAME_WITH_BASE = web.RequestKey("came_with_base", bool)
"""Whether a request's path began with the base path, which no route sees."""

_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PublicPath:
    """Takes the base path off what comes in, and puts it before what we point to."""

    def __init__(self, base_path: str, trusted: Iterable[str]) -> None:
        """Know the base path, and the addresses and networks of trusted proxies."""
        self.base = normal_base(base_path)
        names = set(trusted)
        self._trusts_unix = UNIX in names
        self._networks = [_network(name) for name in names - {UNIX}]

    def inner(self, path: str) -> str | None:
        """Return a path without the base path; None where it does not begin with it."""
        if not self.base or not path.startswith(self.base):
            return None
        rest = path[len(self.base) :]
        if rest[:1] not in ("", "/", "?"):
            return None
        return rest if rest.startswith("/") else f"/{rest}"

    def stripped(self, request: web.Request) -> web.Request:
        """Return a request as the routes know it."""
        inner = self.inner(request.raw_path)
        if inner is None:
            return request
        path, _, query = inner.partition("?")
        found = request.clone(rel_url=URL.build(path=path, query_string=query, encoded=True))
        found[CAME_WITH_BASE] = True
        return found

    def before(self, request: web.Request) -> str:
        """Return what stands before our paths, as the client of this request sees them."""
        told = self._told(request)
        if told is None or request.get(CAME_WITH_BASE):
            return (told or "") + self.base
        return told

    def _told(self, request: web.Request) -> str | None:
        """Read what a trusted proxy has taken off; several proxies stand in a row."""
        said = ",".join(request.headers.getall(PREFIX_HEADER, []))
        if not said or len(said) > PREFIX_BYTES or not self._trusts(request.remote):
            return None
        prefix = "".join(part.strip().rstrip("/") for part in said.split(","))
        return prefix if _PREFIX.fullmatch(prefix) else None

    def _trusts(self, remote: str | None) -> bool:
        if not remote:
            return self._trusts_unix
        try:
            address = ipaddress.ip_address(remote)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def normal_base(base_path: str) -> str:
    """Return a base path without a slash at its end; BadRequest where it is none."""
    base = base_path.rstrip("/")
    if not _PREFIX.fullmatch(base) or len(base) > PREFIX_BYTES:
        raise BadRequest(f"[server] base_path is {base_path[:80]!r}: use a path, as in /agents")
    return base


def _network(name: str) -> Network:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        raise BadRequest(
            f"[server] trusted_proxies has {name[:80]!r}: use addresses, networks as in "
            f"10.0.0.0/8, and {UNIX} for a Unix socket"
        ) from None
