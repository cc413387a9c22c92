"""Engine.IO 4: one session over two transports, polling over HTTP and a WebSocket.

A client begins with either; one that polls may go over to a WebSocket. This is our own and no
library, because the one there is keeps an unbounded queue for each client, leaves WebSockets open
whose session has ended, and reads and encodes on the loop whatever it is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from aiohttp import WSMsgType, web

from daemon.core import frames
from daemon.core.errors import BadRequest, RateLimited, Unavailable
from daemon.web.auth import token_of
from daemon.web.border import read_body
from daemon.web.close import CloseCode
from daemon.web.connection import CLOSE_TIMEOUT
from daemon.web.engineio_session import CLOSE, SEPARATOR, Client, Session
from daemon.web.http_connection import answers_for_long
from daemon.web.outlet import WRITE_BYTES, Outlet
from daemon.web.peer import WebSettings
from daemon.web.unauthenticated import Unauthenticated
from daemon.web.websocket import WebSocket, accept

OPEN, PING, PONG, NOOP = b"0", b"2", b"3", b"6"
"""Packets, or what they begin with; `CLOSE` is the session's own."""

POLL_TIMEOUT = 0.5
"""Seconds for the poll that fetches our goodbye: one who polls does so all the time."""

PROBE_TIMEOUT = 10.0
"""Seconds for going over to a WebSocket."""

PACKETS_A_TURN = 50
"""Packets of one request that are read before others get their turn of the loop."""

TEXT = {"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "no-store"}


class EngineIo:
    """The endpoint: takes sessions in, carries their packets, and watches over them."""

    def __init__(
        self,
        settings: WebSettings,
        *,
        introduction: float,
        crowded: Callable[[], bool],
        client_of: Callable[[Session], Client],
    ) -> None:
        """Serve; who is not introduced within `introduction` seconds is turned away."""
        self._settings = settings
        self._introduction = introduction
        self._crowded = crowded
        self._client_of = client_of
        self.sessions: dict[str, Session] = {}
        self.unauthenticated = Unauthenticated[Session](
            settings.max_unauthenticated, self._displace
        )
        self.slow_closes = 0
        self._draining = False
        self._empty = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one HTTP request, or one WebSocket to its end."""
        transport, sid = request.query.get("transport"), request.query.get("sid", "")
        if transport not in ("polling", "websocket") or "j" in request.query:
            raise BadRequest("the transports are polling and websocket")
        if not sid:
            return await self._shake_hands(request, transport)
        session = self.sessions.get(sid)
        if session is None:
            raise BadRequest("this session is unknown, or has ended: connect anew")
        if session.outlet is not None:
            raise BadRequest("this session has a WebSocket already")
        session.heard_at = time.monotonic()
        with session.served_by(request):
            if transport == "websocket":
                return await self._upgrade(request, session)
            if request.method == "POST":
                return await self._post(request, session)
            return await self._poll(request, session)

    def drain(self) -> None:
        """Take nobody in any more."""
        self._draining = True

    async def close(self) -> None:
        """End every session; clients come back by themselves."""
        self._draining = True
        self._empty.clear()
        for session in list(self.sessions.values()):
            self.end(session, CloseCode.RESTART, "restart")
        if self.sessions:
            await self._empty.wait()  # bounded: each has its timeout

    # Coming

    async def _shake_hands(self, request: web.Request, transport: str) -> web.StreamResponse:
        if request.query.get("EIO") != "4":
            raise BadRequest("Engine.IO 4 is spoken here: connect with Socket.IO 3 or newer")
        if self._draining:
            raise Unavailable("the daemon stops; try again when it is back")
        if self._crowded():
            raise RateLimited("too many connections; try again later")
        if transport == "polling":
            if request.method != "GET":
                raise BadRequest("a session begins with a GET")
            session = self._begin(request)
            self._greet(session, upgrades=["websocket"])
            return web.Response(body=session.take(), headers=TEXT)
        session = self._begin(request)  # counted from the first byte of its handshake
        self._greet(session, upgrades=[])
        try:
            with session.served_by(request):
                with session.on(request.transport):
                    ws = await self._accept(request, session)
                await self._carry(ws, request, session)
        finally:
            self._forget(session)
        return ws.response

    async def _accept(self, request: web.Request, session: Session) -> WebSocket:
        """Take a WebSocket in; until the client is let in, its messages are small."""
        session.websocket = ws = await accept(request, max_bytes=self._allowed(session))
        return ws

    def _allowed(self, session: Session) -> int:
        """Return the bytes that a message of this client may have."""
        limits = self._settings
        known = session.client.introduced
        return limits.max_message_bytes if known else limits.unauthenticated_bytes

    def _begin(self, request: web.Request) -> Session:
        token = token_of(request.headers, request.query)
        session = Session(self._settings.buffer_bytes, token)
        session.client = self._client_of(session)
        session.on_introduction = partial(self._introduced, session)
        self.sessions[session.sid] = session
        self.unauthenticated.add(session)
        return session

    def _introduced(self, session: Session) -> None:
        """Lift the limits of clients without a token from one that has been let in."""
        self.unauthenticated.discard(session)
        for connection in session.connections:
            connection.authenticate()
        if session.websocket is not None:
            session.websocket.allow(self._settings.max_message_bytes)

    def _displace(self, session: Session) -> None:
        """End a client without a token for a newer one."""
        self.end(session, CloseCode.TOO_MANY, "others wait without a token")

    def _greet(self, session: Session, *, upgrades: list[str]) -> None:
        opening = {
            "sid": session.sid,
            "upgrades": upgrades,
            "pingInterval": round(self._settings.heartbeat * 1000),
            "pingTimeout": round(self._settings.peer_timeout * 1000),
            "maxPayload": self._settings.max_message_bytes,
        }
        session.send(OPEN + frames.encode(opening))

    async def _upgrade(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Let a session that polls go over to a WebSocket, once the client says that it has."""
        if session.probing or session.code is not None:
            raise BadRequest("this session goes over to a WebSocket already, or has ended")
        session.probing = True
        try:
            with session.on(request.transport):
                ws = await self._accept(request, session)
                probed = await self._probed(ws, request, session)
        finally:
            session.probing = session.paused = False
        if probed:
            try:
                await self._carry(ws, request, session)
            finally:
                self._forget(session)
        elif request.transport is not None:
            request.transport.close()  # the session polls on
        return ws.response

    @staticmethod
    async def _probed(ws: WebSocket, request: web.Request, session: Session) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                if (await ws.receive()).data != "2probe" or request.transport is None:
                    return False
                request.transport.write(frames.frame(PONG + b"probe"))
                session.pause()  # the client waits for its poll before it goes over
                return (await ws.receive()).data == "5" and session.code is None
        except TimeoutError:
            return False

    # The WebSocket

    async def _carry(self, ws: WebSocket, request: web.Request, session: Session) -> None:
        transport = request.transport
        if transport is not None and session.code is None:
            session.go_over(request, transport)
            await self._listen(ws, session)
        elif transport is not None:
            transport.abort()  # it ended during the handshake, and nobody else would end this

    async def _listen(self, ws: WebSocket, session: Session) -> None:
        """Hear a client until it is gone, or has had time to hear that we are."""
        code, reason = int(CloseCode.NORMAL), "transport close"
        while True:
            message = await ws.receive()
            session.heard_at = time.monotonic()
            match message.type:
                case WSMsgType.TEXT:
                    session.received += len(message.data)
                    self._heed(session, message.data)
                case WSMsgType.BINARY:
                    session.received += len(message.data)
                    if session.code is None:
                        session.client.hear_bytes(len(message.data))
                case WSMsgType.PING:
                    session.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.ERROR:
                    code, reason = message.data.code, message.data.reason
                    break
                case _:
                    break
            if not session.has_room() and not await session.room():
                continue  # it has ended: what follows is read and forgotten, up to the close
        self.end(session, code, reason)
        session.part()

    # Polling

    async def _poll(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Answer with what waits, as soon as something does."""
        if request.can_read_body:
            raise BadRequest("a poll has no body")
        answers_for_long(request)
        if session.polling:
            self.end(session, CloseCode.BAD_MESSAGE, "two polls at once")
            raise BadRequest("this session polls already; it has ended now")
        session.polling = True
        try:
            while not (session.waits or session.outlet or session.paused or session.code):
                session.filled.clear()
                await session.filled.wait()
            transport = request.transport
            if transport is None or transport.is_closing():
                self.end(session, CloseCode.NORMAL, "poll connection closed")
                raise BadRequest("the poll broke off")
            with session.on(transport):
                return await self._answer(request, session, Outlet(transport, 4 * WRITE_BYTES))
        finally:
            session.polling = False
            session.polled_at = time.monotonic()
            if session.code is not None and not session.waits:
                self._forget(session)

    async def _answer(
        self, request: web.Request, session: Session, answer: Outlet
    ) -> web.StreamResponse:
        """Write the answer of a poll here, to learn whether it is taken."""
        data = session.take() or (NOOP if session.code is None else CLOSE)
        session.answer, session.answering = answer, True
        response = web.StreamResponse(headers=TEXT)
        response.content_length = len(data)
        try:
            await response.prepare(request)
            for start in range(0, len(data), WRITE_BYTES):
                piece = data[start : start + WRITE_BYTES]
                answer.written += len(piece)
                await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            self.end(session, CloseCode.NORMAL, "poll connection closed")
        finally:
            session.answering = False
            session.polled += answer.written
        return response

    async def _post(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Hear the packets of one request; one who does not fetch answers is not heard either."""
        if session.posting:
            self.end(session, CloseCode.BAD_MESSAGE, "two requests at once")
            raise BadRequest("this session sends already; it has ended now")
        session.posting = True
        try:
            with session.on(request.transport):
                known = session.client.introduced
                body = await read_body(request, None if known else self._allowed(session))
            session.received += len(body)
            for number, packet in enumerate(body.split(SEPARATOR), 1):
                if session.code is not None:
                    break
                self._heed(session, packet.decode())
                if number % PACKETS_A_TURN == 0:
                    await asyncio.sleep(0)
                if not session.has_room(asked=True):
                    await session.room(asked=True)
        except UnicodeDecodeError:
            self.end(session, CloseCode.BAD_MESSAGE, "no UTF-8")
            raise BadRequest("the body is no UTF-8; the session has ended") from None
        finally:
            session.posting = False
        return web.Response(text="ok", headers=TEXT)

    # Both

    def _heed(self, session: Session, packet: str) -> None:
        if session.code is not None:
            return  # said before it heard our goodbye
        match packet[:1]:
            case "4":
                session.client.hear(packet[1:])
            case "3":
                pass  # to have been heard is all that a pong is for
            case "1":
                self.end(session, CloseCode.NORMAL, "client disconnect")
            case "b":
                session.client.hear_bytes(len(packet) * 3 // 4)
            case _:
                session.client.object_to("this is no packet of Engine.IO 4")

    def end(self, session: Session, code: int, reason: str) -> None:
        """End one; what is written to it still leaves, if it is taken soon."""
        if session.code is not None:
            return
        session.end(code, reason)
        if session.outlet is None:  # nobody may come for our goodbye
            patience = CLOSE_TIMEOUT if session.answering else POLL_TIMEOUT
            asyncio.get_running_loop().call_later(patience, self._forget, session)

    def _forget(self, session: Session) -> None:
        session.end(CloseCode.NORMAL, "transport error")  # unless it has ended
        session.abandon()
        self.unauthenticated.discard(session)
        self.sessions.pop(session.sid, None)
        if not self.sessions:
            self._empty.set()

    def _cut(self, session: Session) -> None:
        if session.code is None:
            self.slow_closes += 1
            self.end(session, CloseCode.NO_PROGRESS, "nothing was taken")

    def sweep(self, now: float, deaf: float) -> None:
        """Look at every session: stalls, silence, pings, and who is not introduced.

        For `deaf` seconds before that nobody could be heard.
        """
        self.unauthenticated.make_room(now)
        for session in list(self.sessions.values()):
            if session.code is not None:
                continue
            session.excuse(now, deaf)
            if session.stalled(now, self._settings.stall_timeout):
                self._cut(session)
            elif now - session.heard_at > self._settings.peer_timeout:
                self.end(session, CloseCode.NORMAL, "ping timeout")
            elif not session.client.introduced and now - session.opened > self._introduction:
                self.end(session, CloseCode.UNAUTHORIZED, "not introduced")
            elif now - session.pinged_at >= self._settings.heartbeat and session.has_room():
                session.pinged_at = now
                session.send(PING)
