"""The /ws endpoint: takes clients in, carries out what they say, and watches over them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
from aiohttp import WSMsgType, web

from daemon import __version__
from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError, BadMessage, BadRequest, RateLimited, Unauthorized
from daemon.core.fanout import Fanout
from daemon.web.auth import SUBPROTOCOL, Admission, AuthSettings, Tokens
from daemon.web.close import ABNORMAL, CloseCode
from daemon.web.connection import Connection
from daemon.web.expiry import Expiry
from daemon.web.http_connection import authenticate, connection_of
from daemon.web.looks import looks
from daemon.web.messages import Authenticate, Connected, Draining, Refused, Request, parse
from daemon.web.peer import WebSettings
from daemon.web.receiver import TEXT, Message
from daemon.web.requests import Requests
from daemon.web.websocket import WebSocket, accept

log = structlog.get_logger(__name__)

SWEEP = 0.5
"""Seconds between two looks at all connections."""

LINGER = 1.0
"""Seconds in which what a client still sends is read after 1009, so that no reset hides that."""

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
        self.authenticated = 0
        """How many of the connections have shown a token."""
        self.slow_closes = 0
        self.sent_bytes = 0
        self._draining = False
        self._empty = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one client from its handshake to its end."""
        ws = await accept(
            request, max_bytes=self._web.unauthenticated_bytes, protocols=(SUBPROTOCOL,)
        )
        peer = Connection(
            ws.transport,
            request.writer.drain,
            buffer_bytes=self._web.buffer_bytes,
            rate=self._web.messages_per_second,
        )
        with structlog.contextvars.bound_contextvars(connection=peer.id):
            self.connections.add(peer)
            try:
                if self._draining:
                    peer.close(CloseCode.RESTART, "restart")
                else:
                    await self._serve(ws, peer, request)
                await self._see_off(ws)
            finally:
                self.connections.discard(peer)
                if peer.caller is not None:
                    self.authenticated -= 1
                self._fanout.leave(peer)
                peer.end()
                self.sent_bytes += peer.sent
                peer.log_end("websocket", int(peer.code or ABNORMAL))
                if not self.connections:
                    self._empty.set()
        return ws.response

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

    async def _serve(self, ws: WebSocket, peer: Connection, request: web.Request) -> None:
        opening: Request | None = None
        if (connection := connection_of(request)) is not None:
            connection.on_drop = partial(
                peer.cut, CloseCode.TOO_MANY, "others wait without a token"
            )
        try:
            caller = self._admission.caller(request)
            if caller is None:
                if (opening := await self._first(ws, peer)) is None:
                    return
                caller = self._introduced(opening)
        except AgentcmdError as error:
            self._turn_away(peer, opening, error)
            return
        authenticate(request)
        if self._crowded():
            peer.refuse(RateLimited("too many connections; try again later"))
            peer.close(CloseCode.TOO_MANY, "too many connections")
            return
        ws.allow(self._web.max_message_bytes)
        peer.admit(caller)
        self.authenticated += 1
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
            while peer.code is None and not ws.over:
                await ws.listen(partial(self._hear, peer))
                if not peer.has_room() and not await peer.room():
                    return  # one who does not read is not read either
        finally:
            expiry.disarm()

    async def _first(self, ws: WebSocket, peer: Connection) -> Request | None:
        """Wait for the first message; None when the peer leaves instead."""
        try:
            async with asyncio.timeout(self._auth.timeout):
                message = await ws.receive()
                while message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    self._heed(peer, message)
                    if ws.over:
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

    def _hear(self, peer: Connection, message: Message) -> bool:
        """Take one message; False where no more is to come, or not now."""
        peer.heard_at = time.monotonic()
        self._heed(peer, message)
        return peer.code is None and peer.has_room()

    def _heed(self, peer: Connection, message: Message) -> None:
        if peer.code is not None:
            return  # said before it heard our goodbye
        if message.type is TEXT:  # first of all, and at once: it is a key at a terminal, mostly
            peer.received += len(message.data)
            self._requests.take(peer, message.data)
            return
        match message.type:
            case WSMsgType.BINARY:
                peer.strike(BadMessage("binary messages are not known here"))
            case WSMsgType.PING:
                peer.pong(message.data)
            case WSMsgType.ERROR:
                peer.close(message.data.code, message.data.reason)
            case WSMsgType.CLOSE:
                peer.close(message.data or CloseCode.NORMAL, "")

    @staticmethod
    async def _see_off(ws: WebSocket) -> None:
        """Read until the peer has heard our goodbye; its own, a cut, or the end of its patience."""
        while not ws.over:
            await ws.receive()
        if ws.broken:
            with suppress(OSError):  # among them TimeoutError, and what a socket says that is gone
                async with asyncio.timeout(LINGER):
                    if not ws.transport.get_write_buffer_size():
                        ws.transport.write_eof()
                    await ws.gone()

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
