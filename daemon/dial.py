"""How a client reaches its daemon: the handshake, the greeting, and errors by their codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from daemon.core.errors import AgentcmdError, Unauthorized, Unavailable, error_classes
from daemon.home import Address

GOODBYE = aiohttp.ClientWSTimeout(ws_close=1.0)
"""Seconds that a daemon has to answer our close frame."""

CONNECT = 10.0
"""Seconds that a daemon has to answer the handshake."""

_BY_CODE = {cls.code: cls for cls in reversed(error_classes())}


class NoDaemon(Unavailable):
    """No daemon answers at the address."""


class ConnectionLost(Unavailable):
    """The connection broke before the answer: the command may or may not have been carried out."""


@dataclass(frozen=True, slots=True)
class Line:
    """A connection that was greeted: `http` for requests below `base`, `ws` for messages."""

    http: aiohttp.ClientSession
    ws: aiohttp.ClientWebSocketResponse
    base: str

    async def close(self) -> None:
        """Hang up, also when who waits for the daemon's goodbye is cancelled meanwhile."""
        try:
            await self.ws.close()
        finally:
            await self.http.close()


async def dial(address: Address, token: str) -> Line:
    """Connect; NoDaemon or Unauthorized where that does not work."""
    connector = aiohttp.UnixConnector(address.socket) if address.socket else None
    base = "http://localhost" if address.socket else address.url.rstrip("/")
    http = aiohttp.ClientSession(connector=connector)
    try:
        async with asyncio.timeout(CONNECT):
            ws = await http.ws_connect(
                f"{base}/ws",
                headers={"Authorization": f"Bearer {token}"},
                max_msg_size=0,
                compress=0,
                timeout=GOODBYE,
            )
            await _greeted(ws)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        await http.close()
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status in (401, 403):
            raise Unauthorized(f"{base} refuses this token or origin") from None
        at = address.socket or address.url
        raise NoDaemon(f"no daemon answers at {at}; start one with 'agentcmd serve'") from None
    except BaseException:
        await http.close()
        raise
    return Line(http, ws, base)


def error_of(data: Mapping[str, Any]) -> AgentcmdError:
    """Make the error of a code that came over the wire."""
    kind = _BY_CODE.get(data["code"], AgentcmdError)
    return kind(data["message"], **data.get("details", {}))


async def _greeted(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Take the first message: welcome, or why not."""
    refusal: AgentcmdError | None = NoDaemon("what answers there is no daemon of ours")
    try:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            hello = json.loads(await ws.receive_str())
            refusal = None if hello["type"] == "global.connected" else error_of(hello["data"])
    finally:
        if refusal is not None:
            await ws.close()
    if refusal is not None:
        raise refusal
