"""The /socket.io/ endpoint: the clients of the seed, on the same cursors as /ws."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from daemon import __version__
from daemon.core.commands import Caller
from daemon.core.errors import (
    AgentcmdError,
    BadMessage,
    BadRequest,
    RateLimited,
    Unauthorized,
    Unavailable,
    UnknownCommand,
)
from daemon.core.fanout import Fanout
from daemon.core.supervisor import Supervisor
from daemon.web.auth import Admission, AuthSettings, Tokens
from daemon.web.close import CloseCode
from daemon.web.connection import CLOSE_TIMEOUT
from daemon.web.expiry import Expiry
from daemon.web.messages import Connected, Draining
from daemon.web.peer import WebSettings
from daemon.web.requests import Requests
from daemon.web.socketio_peer import Encoder, SocketIoPeer

if TYPE_CHECKING:
    from daemon.web.socketio_server import Server

log = structlog.get_logger(__name__)

PATH = "/socket.io/"

SWEEP = 0.5
"""Seconds between two looks at all clients."""

POLL_TIMEOUT = 0.5
"""Seconds for the next poll, which fetches our goodbye: one who polls does so all the time."""

REFUSED = "Authentication error"
"""The message of the `connect_error` that the seed's clients know."""

EVENTS = "subscribe, unsubscribe, command"
A_COMMAND = 'a command is {"type", "channel"?, "data"?}, as in {"type":"session.list"}'
A_CHANNEL = 'name a channel, as in "session:123" or {"channel":"session:123","since":0}'

FINAL = (CloseCode.UNAUTHORIZED, CloseCode.BAD_MESSAGE)
"""Ends after which a client must not come back by itself; Socket.IO's `disconnect` says so."""


class SocketIo:
    """All Socket.IO clients. python-socketio is loaded when the first one comes."""

    def __init__(
        self,
        *,
        web_settings: WebSettings,
        auth_settings: AuthSettings,
        tokens: Tokens,
        admission: Admission,
        fanout: Fanout,
        requests: Requests,
        supervisor: Supervisor,
        crowded: Callable[[], bool],
    ) -> None:
        """Serve with these; `run` watches over the clients."""
        self._web = web_settings
        self._auth = auth_settings
        self._tokens = tokens
        self._admission = admission
        self._fanout = fanout
        self._requests = requests
        self._supervisor = supervisor
        self._crowded = crowded
        self.peers: dict[str, SocketIoPeer] = {}
        self.slow_closes = 0
        self.sent_bytes = 0
        self._server: Server | None = None
        self._loading = asyncio.Lock()
        self._encoder = Encoder()
        self._numbers = itertools.count(1)
        self._by_eio: dict[str, SocketIoPeer] = {}
        self._expiries: dict[SocketIoPeer, Expiry] = {}
        self._strangers: dict[str, float] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._draining = False

    def __len__(self) -> int:
        """Count who has shaken hands, let in or not."""
        return len(self._server.sessions) if self._server else 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one HTTP request of Engine.IO, or one WebSocket to its end."""
        if "sid" not in request.query:
            if self._draining:
                raise Unavailable("the daemon stops; try again when it is back")
            if self._crowded():
                raise RateLimited("too many connections; try again later")
        async with self._loading:
            server = self._server or await self._load()
        return await server.handle(request)

    def drain(self) -> None:
        """Tell every client to come back later; the close follows when the rest is delivered."""
        self._draining = True
        for peer in self.peers.values():
            spread = random.randrange(self._web.reconnect_ms + 1)  # noqa: S311  # not a secret
            peer.send(Draining(reconnect_ms=spread))

    async def close(self) -> None:
        """End every connection; clients come back by themselves."""
        self._draining = True
        if self._server is None:
            return
        for peer in list(self.peers.values()):
            peer.close(CloseCode.RESTART, "restart")
        for eio_sid in self._unknown_sessions():
            self._part_with(self._turn_away(eio_sid))
        if self._leaving:
            await asyncio.wait(self._leaving)  # bounded: each has a timeout
        await self._server.close()

    # Loading

    async def _load(self) -> Server:
        """Import python-socketio beside the loop, and make the server."""
        await asyncio.to_thread(importlib.import_module, "daemon.web.socketio_server")
        from daemon.web.socketio_server import Server  # noqa: PLC0415  # at its first use

        server = Server(
            self._web,
            connected=self._welcome,
            start=lambda work: self._supervisor.start(work, name="socketio.library"),
        )
        server.on("connect", self._admit)
        server.on("disconnect", self._bid_farewell)
        server.on("subscribe", self._subscribe)
        server.on("unsubscribe", self._unsubscribe)
        server.on("command", self._command)
        server.on("*", self._unknown)
        server.on_other_namespaces(self._refuse_namespace)
        server.guard(self._guard)
        self._server = server
        self._supervisor.start(self._watch(), name="socketio")
        return server

    # Coming and going

    async def _admit(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """Let a client in by its token, or refuse it as the seed's clients expect."""
        server = self._loaded
        try:
            caller = self._caller(environ["aiohttp.request"], auth)
        except AgentcmdError as error:
            raise server.refusal(REFUSED, code=error.code, message=error.message) from None
        peer = SocketIoPeer(
            sid=sid,
            eio_sid=server.eio_sid(sid),
            rate=self._web.messages_per_second,
            limit=self._web.buffer_bytes,
            encoder=self._encoder,
            queue_turn=self._queue_turn,
            see_off=lambda peer: self._part_with(self._see_off(peer)),
        )
        peer.caller = caller
        self.peers[sid] = self._by_eio[peer.eio_sid] = peer

    def _caller(self, request: web.Request, auth: Any) -> Caller:
        token = auth.get("token") if isinstance(auth, dict) else None
        if isinstance(token, str):
            return self._tokens.verify(token)
        caller = self._admission.caller(request)
        if caller is None:
            raise Unauthorized("a token is needed: io(url, {auth: {token}})")
        return caller

    def _welcome(self, sid: str) -> None:
        """Begin with a client that has been told that it is connected."""
        peer = self.peers.get(sid)
        if peer is None or peer.caller is None:
            return
        peer.send(
            Connected(
                user_id=peer.caller.sub,
                connection_id=peer.id,
                server_version=__version__,
                heartbeat=self._web.heartbeat,
            )
        )
        expiry = self._expiries[peer] = Expiry(peer, self._auth.warning)
        expiry.arm(peer.caller)
        peer.on_renewal = expiry.arm
        log.info("connection.opened", connection=peer.id, user=peer.caller.sub, door="socketio")

    async def _bid_farewell(self, sid: str, *reason: str) -> None:
        """Forget a client whose connection has ended."""
        peer = self.peers.pop(sid, None)
        if peer is None:
            return
        self._by_eio.pop(peer.eio_sid, None)
        if expiry := self._expiries.pop(peer, None):
            expiry.disarm()
        self._fanout.leave(peer)
        peer.end()
        self.sent_bytes += peer.sent
        log.info(
            "connection.closed",
            connection=peer.id,
            user=peer.caller.sub if peer.caller else None,
            door="socketio",
            code=int(peer.code) if peer.code else None,
            reason=peer.reason or " ".join(reason),
            sent=peer.sent,
            received=peer.received,
            seconds=round(time.monotonic() - peer.opened, 3),
        )

    async def _refuse_namespace(self, _: str, __: str, *___: Any) -> None:
        raise self._loaded.refusal("Invalid namespace")

    # What clients say

    async def _subscribe(self, sid: str, *args: Any) -> Any:
        return await self._about_channel("subscribe", sid, args)

    async def _unsubscribe(self, sid: str, *args: Any) -> Any:
        return await self._about_channel("unsubscribe", sid, args)

    async def _about_channel(self, type_: str, sid: str, args: tuple[Any, ...]) -> Any:
        asked = args[0] if args else None
        if isinstance(asked, str):
            return await self._ask(sid, {"type": type_, "channel": asked})
        if isinstance(asked, dict):
            data = {key: value for key, value in asked.items() if key != "channel"}
            channel = asked.get("channel")
            return await self._ask(sid, {"type": type_, "channel": channel, "data": data})
        return await self._ask(sid, BadRequest(A_CHANNEL))

    async def _command(self, sid: str, *args: Any) -> Any:
        asked = args[0] if args else None
        if isinstance(asked, dict) and isinstance(asked.get("type"), str):
            return await self._ask(sid, asked)
        return await self._ask(sid, BadMessage(A_COMMAND))

    async def _unknown(self, event: Any, sid: str, *_: Any) -> Any:
        refusal = UnknownCommand(f"there is no event {str(event)[:80]!r}; there is: {EVENTS}")
        return await self._ask(sid, refusal)

    async def _ask(self, sid: str, message: dict[str, Any] | AgentcmdError) -> Any:
        """Carry out a message, or refuse it; gives what is acknowledged, the answer."""
        peer = self.peers.get(sid)
        if peer is None or peer.code is not None:
            return None
        number = next(self._numbers)
        id_ = b"%d" % number
        acknowledged = peer.acks[id_] = asyncio.get_running_loop().create_future()
        if isinstance(message, AgentcmdError):
            over = peer.over_rate()
            peer.refuse(message, id_=id_)
            if over and peer.flooding:
                peer.close(CloseCode.RATE_LIMIT, "rate limit")
            return await acknowledged
        try:
            encoded = json.dumps({**message, "id": number}, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):  # bytes, NaN, half a character, too deep
            peer.refuse(BadRequest("the message is no JSON; binary data is not known"), id_=id_)
            return await acknowledged
        if message["type"] == "subscribe":
            peer.hold()  # what was missed follows the acknowledgement
        self._requests.take(peer, encoded)
        return await acknowledged

    async def _guard(
        self, eio_sid: str, data: str | bytes, read: Callable[..., Awaitable[None]]
    ) -> None:
        """Have a packet read, and count one that cannot be as a bad message."""
        peer = self._by_eio.get(eio_sid)
        if peer is not None:
            peer.received += len(data)
            if peer.code is not None:
                return  # said before it heard our goodbye
        try:
            await read(eio_sid, data)
        except Exception as error:  # noqa: BLE001  # whatever a library makes of such bytes
            log.debug("socketio.bad_packet", error=type(error).__name__)
            if peer is None:
                self._part_with(self._turn_away(eio_sid))
            else:
                peer.strike(BadMessage("this is no packet of Socket.IO v4"))

    # Turns, and ends

    @property
    def _loaded(self) -> Server:
        if self._server is None:
            raise LookupError("python-socketio is not loaded")
        return self._server

    def _queue_turn(self, peer: SocketIoPeer) -> None:
        from daemon.web.socketio_server import Turn  # noqa: PLC0415  # loaded by now

        turn = self._loaded.queue(peer.eio_sid, Turn(peer.leave))
        self._supervisor.start(turn, name="socketio.turn")

    def _part_with(self, farewell: Coroutine[Any, Any, None]) -> None:
        leaving = self._supervisor.start(farewell, name="socketio.farewell")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _see_off(self, peer: SocketIoPeer) -> None:
        """End a connection: politely, unless it takes nothing."""
        server = self._loaded
        if peer.code == CloseCode.NO_PROGRESS and peer.outlet is not None:
            peer.outlet.abort()
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT if peer.outlet else POLL_TIMEOUT):
                if peer.code in FINAL:
                    await server.dismiss(peer.sid)
                await server.drop(peer.eio_sid)
        except TimeoutError:
            pass
        peer.part()

    async def _turn_away(self, eio_sid: str) -> None:
        """End a session in which nobody was let in."""
        server = self._loaded
        transport = server.transport(eio_sid)
        try:
            async with asyncio.timeout(POLL_TIMEOUT):
                await server.drop(eio_sid)
        except TimeoutError:
            pass
        if transport is not None:
            transport.close()

    def _unknown_sessions(self) -> list[str]:
        return [eio_sid for eio_sid in self._loaded.sessions if eio_sid not in self._by_eio]

    async def _watch(self) -> None:
        """Watch over the clients until cancelled: stalls, and who does not introduce itself."""
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for peer in list(self.peers.values()):
                if peer.code is None and peer.stalled(now, self._web.stall_timeout):
                    self.slow_closes += 1
                    peer.close(CloseCode.NO_PROGRESS, "nothing was taken")
            seen = self._strangers
            self._strangers = {each: seen.get(each, now) for each in self._unknown_sessions()}
            for eio_sid, since in self._strangers.items():
                if now - since > self._auth.timeout:
                    self._part_with(self._turn_away(eio_sid))
