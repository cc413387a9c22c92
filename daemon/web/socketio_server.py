"""python-socketio below our cursors: what is loaded when the first Socket.IO client comes.

Events do not pass through python-socketio's `emit`, which starts a task and encodes a packet for
each client. They are encoded once for all Socket.IO clients and written to the WebSocket as they
are, the way /ws does it. What Engine.IO says by itself (the handshake, pings, acknowledgements)
goes through its queue; a `Turn` in that queue keeps both in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import socketio
from aiohttp import web
from engineio.packet import MESSAGE, Packet
from engineio.payload import Payload
from socketio.exceptions import ConnectionRefusedError  # noqa: A004  # its name
from socketio.packet import Packet as SocketIoPacket

from daemon.core.errors import BadRequest
from daemon.web.peer import WebSettings
from daemon.web.socketio_peer import serving

NAMESPACE = "/"

MAX_ATTACHMENTS = 16
"""Binary parts of one packet that are waited for; python-socketio itself would wait for any."""


class Turn(Packet):
    """A place in a client's queue: asked for its text when all that was queued before has left."""

    def __init__(self, leave: Callable[[bool], str]) -> None:
        """Ask `leave`, which is told whether the client polls, what to send at this place."""
        super().__init__(MESSAGE)
        self._leave = leave

    def encode(self, b64: bool = False) -> str:
        """Give what is to be sent now; only polling asks for base64."""
        return self._leave(b64)


class BoundedPacket(SocketIoPacket):
    """A Socket.IO packet that cannot announce endless attachments."""

    def decode(self, encoded_packet: str) -> int:
        """Read a packet; ValueError where it announces too many attachments."""
        count = int(super().decode(encoded_packet) or 0)
        if count > MAX_ATTACHMENTS:
            raise ValueError("too many attachments")
        return count


class Clients(socketio.AsyncManager):
    """python-socketio's list of clients, which tells when one has been let in."""

    def __init__(self, connected: Callable[[str], None]) -> None:
        """Call `connected` with the client's id right after it was told."""
        super().__init__()
        self._connected = connected

    async def connect(self, sid: str, namespace: str) -> str:
        """Note a client as connected."""
        sid = await super().connect(sid, namespace)
        self._connected(sid)
        return sid


class Server:
    """A python-socketio server that knows only its handlers."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        connected: Callable[[str], None],
        start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
    ) -> None:
        """Make one, whose tasks are started by `start`.

        Nothing of it logs, since its lines carry tokens and payloads.
        """
        # A client that polls sends in one request what it has gathered, bounded by its size alone.
        Payload.max_decode_packets = settings.max_message_bytes
        quiet = _silent()
        self._clients = Clients(connected)
        self._sio = socketio.AsyncServer(
            client_manager=self._clients,
            async_mode="aiohttp",
            serializer=BoundedPacket,
            namespaces="*",
            logger=quiet,
            engineio_logger=quiet,
            ping_interval=max(1.0, settings.heartbeat),
            ping_timeout=max(1.0, settings.peer_timeout - settings.heartbeat),
            max_http_buffer_size=settings.max_message_bytes,
            http_compression=False,  # it would compress on the loop
            cors_allowed_origins="*",  # the doorkeeper has refused all that are not ours
        )

        self._start = start
        self._polls: dict[str, set[asyncio.Task[Any]]] = {}
        self._disconnected = self._sio.eio.handlers["disconnect"]
        self._sio.eio.on("disconnect", self._end_polls)
        # The public way in for "the appropriate concurrency model": ours is the supervisor.
        self._sio.eio.start_background_task = lambda target, *args, **options: start(
            target(*args, **options)
        )

    def on(self, event: str, handler: Callable[..., Awaitable[Any]]) -> None:
        """Have an event of clients handled; what the handler gives is the acknowledgement."""
        self._sio.on(event, handler, namespace=NAMESPACE)

    def on_other_namespaces(self, handler: Callable[..., Awaitable[Any]]) -> None:
        """Have a connection to any namespace but ours handled."""
        self._sio.on("connect", handler, namespace="*")

    def guard(self, guard: Callable[[str, Any, Callable[..., Awaitable[None]]], Any]) -> None:
        """Put a guard before each packet: it gets the client, the packet, and who reads it."""
        inner = self._sio.eio.handlers["message"]

        async def guarded(eio_sid: str, data: Any) -> None:
            await guard(eio_sid, data, inner)

        self._sio.eio.on("message", guarded)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one HTTP request, or one WebSocket to its end."""
        if "j" in request.query:
            raise BadRequest("JSONP is not served: use the polling or the websocket transport")
        # Frames that are shared cannot be compressed, and a compressor costs a client 300 KB.
        headers = request.headers.copy()
        headers.popall("Sec-WebSocket-Extensions", None)
        plain = request.clone(headers=headers)
        token = serving.set(plain)
        try:
            return await self._served(plain)
        finally:
            serving.reset(token)

    async def _served(self, request: web.Request) -> web.StreamResponse:
        eio_sid = request.query.get("sid")
        polling = request.method == "GET" and request.query.get("transport") == "polling"
        answering = self._sio.eio.handle_request(request)
        response: web.StreamResponse
        if eio_sid is None or not polling:
            response = await answering
            return response
        poll = self._start(answering)
        polls = self._polls.setdefault(eio_sid, set())
        polls.add(poll)
        try:
            response = await poll
        finally:
            polls.discard(poll)
            if not polls:
                self._polls.pop(eio_sid, None)
        return response

    async def _end_polls(self, eio_sid: str, reason: str) -> None:
        """Forget a client; its poll would otherwise wait on until the ping timeout."""
        await self._disconnected(eio_sid, reason)
        if reason == self._sio.reason.CLIENT_DISCONNECT:
            for poll in self._polls.get(eio_sid, ()):
                poll.cancel()

    @property
    def sessions(self) -> list[str]:
        """Give the Engine.IO ids of all that have shaken hands, let in or not."""
        return list(self._sio.environ)

    @staticmethod
    def refusal(message: str, /, **details: str) -> Exception:
        """Make what a handler of `connect` raises: the client's `connect_error`, with `data`."""
        refused: Exception = ConnectionRefusedError(message, details)
        return refused

    def transport(self, eio_sid: str) -> asyncio.Transport | None:
        """Give the transport of the request that a client began with."""
        environ = self._sio.environ.get(eio_sid)
        found: asyncio.Transport | None = environ and environ["aiohttp.request"].transport
        return found

    def eio_sid(self, sid: str) -> str:
        """Give the Engine.IO id of a client."""
        found: str = self._clients.eio_sid_from_sid(sid, NAMESPACE)
        return found

    async def queue(self, eio_sid: str, packet: Packet) -> None:
        """Queue a packet behind all that Engine.IO has to say to a client."""
        await self._sio.eio.send_packet(eio_sid, packet)

    async def dismiss(self, sid: str) -> None:
        """Tell a client that it is to go, and not to come back by itself."""
        await self._sio.disconnect(sid, namespace=NAMESPACE)

    async def drop(self, eio_sid: str) -> None:
        """End a connection when what is queued has left; the caller bounds the wait."""
        await self._sio.eio.disconnect(eio_sid)

    async def close(self) -> None:
        """Stop watching over clients."""
        await self._sio.shutdown()


def _silent() -> logging.Logger:
    """Make a logger that says nothing, whatever the level."""
    logger = logging.getLogger(f"{__name__}.library")
    logger.disabled = True
    return logger
