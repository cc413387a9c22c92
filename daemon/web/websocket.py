"""A WebSocket as every door that has one takes it: the handshake, and what the client sends.

What is sent to the client is not here: frames are shared, and go straight to the transport.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from contextvars import Context, copy_context

from aiohttp import WSMsgType, web

from daemon.core.errors import BadRequest
from daemon.web.receiver import CLOSE, FRAGMENT, Message, Receiver, Violation

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What proves that the server has understood the handshake (RFC 6455, section 1.3)."""

AT_ONCE = 64
"""Frames that are taken in one turn of the loop: one read may hold 43,000 empty ones."""

OVER = Message(WSMsgType.CLOSED, b"")
"""What `receive` gives when nothing follows."""


class WebSocket(asyncio.Protocol):
    """A client's frames, from the handshake to the end; who does not ask for more gets no more."""

    def __init__(self, transport: asyncio.Transport, receiver: Receiver) -> None:
        """Read from a transport, once it was taken over."""
        self.transport = transport
        self.over = False
        """Whether the client has said goodbye, has broken the protocol, or is gone."""
        self.broken = False
        """Whether it has broken the protocol: what it still sends cannot be read."""
        self.response: web.StreamResponse
        self._receiver = receiver
        self._gone = False
        self._hear: Callable[[Message], bool] | None = None
        self._context: Context
        self._waiter: asyncio.Future[None] | None = None
        self._taken = 0
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> Message:
        """Wait for the next message: an ERROR's data is the Violation, and CLOSED is the end."""
        while True:
            self._taken += 1
            if self._taken % AT_ONCE == 0:
                await asyncio.sleep(0)
            message = self._next()
            if message is None and self.over:
                return OVER
            if message is None:
                self.transport.resume_reading()
                await self._more()
            elif message is not FRAGMENT:
                return message

    async def listen(self, hear: Callable[[Message], bool]) -> None:
        """Have each message heard in the turn of the loop that reads it, until `hear` has enough.

        Ends with the client, too. A waiter for each message, and a turn of the loop until it runs,
        would be a tenth of the time that a key takes to a terminal and back.
        """
        self._hear, self._context = hear, copy_context()
        self._loop.call_soon(self._go_on)
        try:
            await self._more()
        finally:
            self._hear = None

    def allow(self, max_bytes: int) -> None:
        """Take messages of so many bytes from now on."""
        self._receiver.allow(max_bytes)

    async def gone(self) -> None:
        """Read and forget until the client has closed its side: a reset would hide our goodbye."""
        self.over = True
        self.transport.resume_reading()
        while not self._gone:
            await self._more()

    # The transport's side

    def take_over(self, http: web.RequestHandler) -> None:
        """Read in the place of aiohttp, which still learns of all else: it ends the request."""
        self._http = http
        http.set_parser(self)  # type: ignore[arg-type]  # of which it wants these two methods
        http.keep_alive(False)
        self.transport.set_protocol(self)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what came with the handshake; none of it is left over."""
        self.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """Learn that nothing more is read."""
        self.over = self._gone = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        if not self.over:
            self._receiver.feed(data)
        if self._hear is not None:
            self._context.run(self._heard, self._hear)
        elif self._waiter is not None:
            self._wake()
        else:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on the end, which comes back as `feed_eof`."""
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the client does not keep up, for those that `drain`."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it does again."""
        self._http.resume_writing()

    # Inside

    def _go_on(self) -> None:
        """Have heard what was read and not yet taken."""
        if self._hear is not None:
            self.transport.resume_reading()
            self._context.run(self._heard, self._hear)

    def _heard(self, hear: Callable[[Message], bool]) -> None:
        try:
            for _ in range(AT_ONCE):
                message = self._next()
                if message is None:
                    if self.over:
                        self._wake()
                    return
                if message is not FRAGMENT and not hear(message):
                    self._wake()
                    return
        except Exception as error:  # noqa: BLE001  # whoever listens shall have it
            self._wake(error)
            return
        self.transport.pause_reading()
        self._loop.call_soon(self._go_on)

    def _next(self) -> Message | None:
        if self.over:
            return None
        try:
            message = self._receiver.next()
        except Violation as violation:
            self.over = self.broken = True
            return Message(WSMsgType.ERROR, violation)
        if message is not None and message.type is CLOSE:
            self.over = True
        return message

    async def _more(self) -> None:
        if self._gone:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self, error: Exception | None = None) -> None:
        self._hear = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)


async def accept(
    request: web.Request, *, max_bytes: int, protocols: tuple[str, ...] = ()
) -> WebSocket:
    """Take a WebSocket in, one whose frames are ours to write and to answer.

    It never compresses, since frames are shared, and a compressor costs a client 300 KB. A message
    over `max_bytes` is a Violation with 1009. HTTPBadRequest where the request is no handshake.
    """
    offered = _handshake(request, protocols)
    if offered is None:
        raise web.HTTPBadRequest(
            reason="this is for WebSocket clients, version 13; read with /api/events",
            headers={"Sec-WebSocket-Version": "13"},
        )
    response = web.StreamResponse(status=101, headers=offered)
    response.force_close()
    try:
        await response.prepare(request)
    except ConnectionError:
        raise BadRequest("the handshake broke off") from None
    if request.transport is None:
        raise BadRequest("the handshake broke off")
    websocket = WebSocket(request.transport, Receiver(max_bytes))
    websocket.response = response
    websocket.take_over(request.protocol)
    return websocket


def _handshake(request: web.Request, protocols: tuple[str, ...]) -> dict[str, str] | None:
    """Give the headers that answer a handshake; None where the request is none."""
    try:
        ready = web.WebSocketResponse(protocols=protocols).can_prepare(request)
    except ValueError:  # a key that is no ASCII
        return None
    if not ready.ok:
        return None
    key = request.headers["Sec-WebSocket-Key"].encode()
    proof = hashlib.sha1(key + GUID, usedforsecurity=False).digest()
    headers = {
        "Upgrade": "websocket",
        "Connection": "upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(proof).decode(),
    }
    return headers | ({"Sec-WebSocket-Protocol": ready.protocol} if ready.protocol else {})
