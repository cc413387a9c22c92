"""The /ws endpoint: takes clients in, carries out what they say, and watches over them."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable

import structlog
from aiohttp import WSMessage, WSMsgType, web

from daemon import __version__
from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError, BadMessage, BadRequest, RateLimited, Unauthorized
from daemon.core.fanout import Fanout
from daemon.web.auth import SUBPROTOCOL, Admission, AuthSettings, Tokens
from daemon.web.close import CloseCode
from daemon.web.connection import Connection
from daemon.web.expiry import Expiry
from daemon.web.looks import looks
from daemon.web.messages import Authenticate, Connected, Draining, Refused, Request, parse
from daemon.web.peer import WebSettings
from daemon.web.requests import Requests
from daemon.web.websocket import accept

log = structlog.get_logger(__name__)

SWEEP = 0.5
"""Seconds between two looks at all connections."""

LINGER = 1.0
"""Seconds in which what a client still sends is read after 1009, so that no reset hides it."""

PROTOCOL_ERROR = 1002

OPENING_MESSAGES = ("auth",)
NOT_INTRODUCED = 'the first message must be {"type":"auth","data":{"token":...}}'


class Gateway:
    """All WebSocket clients."""

    def __init__(
        self,
        *,
        web_settings: WebSettings,
        auth_settings: AuthSettings,
        tokens: Tokens,
        admission: Admission,
        fanout: Fanout,
        requests: Requests,
        crowded: Callable[[], bool],
    ) -> None:
        """Serve with these; `run` watches over the connections."""
        self._web = web_settings
        self._auth = auth_settings
        self._tokens = tokens
        self._admission = admission
        self._fanout = fanout
        self._requests = requests
        self._crowded = crowded
        self.connections: set[Connection] = set()
        self.slow_closes = 0
        self.sent_bytes = 0
        self._draining = False
        self._empty = asyncio.Event()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one client from its handshake to its end."""
        ws = await accept(request, max_bytes=self._web.max_message_bytes, protocols=(SUBPROTOCOL,))
        transport = request.transport
        if transport is None:
            return ws
        peer = Connection(
            ws,
            transport,
            buffer_bytes=self._web.buffer_bytes,
            rate=self._web.messages_per_second,
        )
        with structlog.contextvars.bound_contextvars(connection=peer.id):
            crowded = self._crowded()
            self.connections.add(peer)
            try:
                if self._draining:
                    peer.close(CloseCode.RESTART, "restart")
                elif crowded:
                    peer.refuse(RateLimited("too many connections; try again later"))
                    peer.close(CloseCode.TOO_MANY, "too many connections")
                else:
                    await self._serve(ws, peer, request)
                if peer.code is not None:
                    await self._see_off(ws)
            finally:
                self.connections.discard(peer)
                self._fanout.leave(peer)
                peer.end()
                self.sent_bytes += peer.sent
                peer.log_end("websocket", int(peer.code or ws.close_code or 0) or None)
                if not self.connections:
                    self._empty.set()
        return ws

    async def run(self) -> None:
        """Watch over the connections until cancelled: pings, silence, stalls."""
        async for now, deaf in looks(SWEEP):
            self._sweep(now, deaf)

    def drain(self) -> None:
        """Tell every client to come back later; the close follows when the rest is delivered."""
        self._draining = True
        for peer in self.connections:
            spread = random.randrange(self._web.reconnect_ms + 1)  # noqa: S311  # not a secret
            peer.send(Draining(reconnect_ms=spread))

    async def close(self) -> None:
        """Close every connection with 1012; those that do not take it are cut."""
        self._draining = True
        self._empty.clear()
        for peer in self.connections:
            peer.close(CloseCode.RESTART, "restart")
        if self.connections:
            await self._empty.wait()  # bounded: each is cut when it does not answer

    # One client

    async def _serve(
        self, ws: web.WebSocketResponse, peer: Connection, request: web.Request
    ) -> None:
        opening: Request | None = None
        try:
            caller = self._admission.caller(request)
            if caller is None:
                if (opening := await self._first(ws, peer)) is None:
                    return
                caller = self._introduced(opening)
        except AgentcmdError as error:
            self._turn_away(peer, opening, error)
            return
        peer.admit(caller)
        peer.send(
            Connected(
                user_id=caller.sub,
                connection_id=peer.id,
                server_version=__version__,
                heartbeat=self._web.heartbeat,
            )
        )
        if opening is not None:
            self._requests.authenticated(peer, opening, caller)
        log.info("connection.opened", user=caller.sub, door="websocket")
        expiry = Expiry(peer, self._auth.warning)
        expiry.arm(caller)
        peer.on_renewal = expiry.arm
        try:
            while peer.code is None:
                message = await ws.receive()
                peer.heard_at = time.monotonic()
                if not await self._heed(ws, peer, message):
                    return
                if not peer.has_room() and not await peer.room():
                    return  # one who does not read is not read either
        finally:
            expiry.disarm()

    async def _first(self, ws: web.WebSocketResponse, peer: Connection) -> Request | None:
        """Wait for the first message; None when the peer leaves instead."""
        try:
            async with asyncio.timeout(self._auth.timeout):
                message = await ws.receive()
                while message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    if not await self._heed(ws, peer, message):
                        return None
                    message = await ws.receive()
        except TimeoutError:
            raise Unauthorized("no token came; send it as the first message, type auth") from None
        try:
            if message.type is WSMsgType.TEXT:
                return parse(message.data)
        except (Refused, BadMessage):
            pass
        raise Unauthorized(NOT_INTRODUCED)

    def _introduced(self, first: Request) -> Caller:
        """Take the token of the first message."""
        if first.type not in OPENING_MESSAGES:
            raise Unauthorized(NOT_INTRODUCED)
        try:
            return self._tokens.verify(first.decode(Authenticate).token)
        except BadRequest:
            raise Unauthorized(NOT_INTRODUCED) from None

    @staticmethod
    def _turn_away(peer: Connection, opening: Request | None, error: AgentcmdError) -> None:
        if opening is None:
            peer.refuse(error)
        else:
            peer.refuse(error, channel=opening.answer_channel, id_=opening.id)
        peer.close(CloseCode.UNAUTHORIZED, error.code)

    async def _heed(self, ws: web.WebSocketResponse, peer: Connection, message: WSMessage) -> bool:
        """Take one frame; False at the end of the connection."""
        if peer.code is not None and message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            return True  # said before it heard our goodbye
        match message.type:
            case WSMsgType.TEXT:
                peer.received += len(message.data)
                self._requests.take(peer, message.data)
            case WSMsgType.BINARY:
                peer.strike(BadMessage("binary messages are not known here"))
            case WSMsgType.PING:
                peer.pong(message.data)
            case WSMsgType.PONG:
                pass
            case WSMsgType.ERROR:
                peer.code = peer.code or getattr(message.data, "code", None) or ws.close_code
                await self._linger(ws)
                return False
            case WSMsgType.CLOSE:
                peer.close(_echo_of(message.data), "")
                return False
            case _:
                return False
        return True

    @staticmethod
    async def _see_off(ws: web.WebSocketResponse) -> None:
        """Read until the peer has heard our goodbye; its own, a cut, or the end of its patience."""
        going = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
        while (await ws.receive()).type in going:
            pass

    @staticmethod
    async def _linger(ws: web.WebSocketResponse) -> None:
        """Read what a refused message still brings: a reset would swallow our close frame."""
        transport_socket = ws.get_extra_info("socket")
        if transport_socket is None:
            return
        try:
            own = transport_socket.dup()  # outlives the transport, which is closing
        except OSError:
            return
        with own:
            own.setblocking(False)
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(LINGER):
                    await asyncio.sleep(0)
                    own.shutdown(socket.SHUT_WR)
                    while await loop.sock_recv(own, 1 << 18):
                        pass
            except (TimeoutError, OSError):
                pass

    # All clients

    def _sweep(self, now: float, deaf: float) -> None:
        for peer in list(self.connections):
            peer.excuse(now, deaf)
            if peer.stalled(now, self._web.stall_timeout):
                self.slow_closes += 1
                peer.cut(CloseCode.NO_PROGRESS, "nothing was taken")
            elif now - peer.heard_at > self._web.peer_timeout:
                peer.cut(CloseCode.NORMAL, "silent")
            elif now - max(peer.heard_at, peer.pinged_at) > self._web.heartbeat:
                peer.pinged_at = now
                peer.ping()


def _echo_of(code: int | None) -> int:
    """Give the code that answers a client's goodbye (RFC 6455, section 7.4)."""
    if not code:
        return CloseCode.NORMAL
    never_sent = code == 1006 or code >= 5000  # the rest aiohttp has refused
    return PROTOCOL_ERROR if never_sent else code
