"""The /socket.io/ endpoint: the clients of the seed, on the same cursors as /ws."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Callable

import msgspec
import structlog
from aiohttp import web
from msgspec import Raw

from daemon import __version__
from daemon.core import frames
from daemon.core.channel_log import Batch, ChannelLog
from daemon.core.commands import Caller
from daemon.core.errors import (
    AgentcmdError,
    BadMessage,
    BadRequest,
    RateLimited,
    Unauthorized,
    UnknownCommand,
)
from daemon.core.fanout import Fanout
from daemon.web import socketio_packets as packets
from daemon.web.auth import AuthSettings, Tokens
from daemon.web.close import CloseCode
from daemon.web.engineio import EngineIo
from daemon.web.engineio_session import Session
from daemon.web.expiry import Expiry
from daemon.web.looks import looks
from daemon.web.messages import Authenticate, Connected, Draining
from daemon.web.peer import STRIKES, Peer, WebSettings
from daemon.web.requests import Requests
from daemon.web.socketio_packets import Encoder, Packet

log = structlog.get_logger(__name__)

PATH = "/socket.io/"

SWEEP = 0.5
"""Seconds between two looks at all clients."""

REFUSED = "Authentication error"
"""The message of the `connect_error` that the seed's clients know."""

EVENTS = "subscribe, unsubscribe, command"
A_COMMAND = 'a command is {"type", "channel"?, "data"?}, as in {"type":"session.list"}'
A_CHANNEL = 'name a channel, as in "session:123" or {"channel":"session:123","since":0}'

FINAL = (CloseCode.UNAUTHORIZED, CloseCode.BAD_MESSAGE)
"""Ends after which a client must not come back by itself."""

UNASKED = b'"-"'
"""The id of a request that wants no acknowledgement: only its refusal is told, as a message."""

REFUSALS = ("global.error", "global.subscription_error")

_fields = msgspec.json.Decoder(dict[str, Raw])
_asked = msgspec.json.Decoder(str | dict[str, Raw])


class SocketIoPeer(Peer):
    """One client, from its handshake on; `caller` is there once it has been let in."""

    def __init__(self, session: Session, door: SocketIo, *, rate: int) -> None:
        """Speak through a session; what it says is carried out by `door`."""
        super().__init__(rate=rate)
        self.session = session
        self.skipping = 0
        self.expiry: Expiry | None = None
        self._door = door
        self._out: list[bytes] = []

    @property
    def introduced(self) -> bool:
        """Tell whether it has been let in."""
        return self.caller is not None

    @property
    def sent(self) -> int:
        """Give the bytes that were written to it."""
        return self.session.sent

    # The fan-out's side

    def has_room(self) -> bool:
        """Tell whether the client takes more now."""
        return self.session.has_room()

    def take(self, batch: Batch) -> None:
        """Note a batch for the next push."""
        if self.session.outlet is None:
            self.session.send(*self._door.encoder.packets(batch))
        else:
            self._out.append(self._door.encoder.framed(batch))

    def push(self) -> None:
        """Write what was taken, in one call."""
        out, self._out = self._out, []
        self._write(b"".join(out))

    def give(self, batch: Batch) -> None:
        """Write one batch: the very bytes that all Socket.IO clients get."""
        if self.session.outlet is None:
            self.take(batch)
        else:
            self._write(self._door.encoder.framed(batch))

    def _write(self, framed: bytes) -> None:
        if self.session.outlet is not None and self.session.code is None:
            self.session.outlet.write(framed)

    async def room(self) -> bool:
        """Wait until there is room; False when the client is gone."""
        return await self.session.room()

    def overtaken(self, where: ChannelLog) -> None:
        """Cut the client off; when it resumes, the answer says `recovered: false`."""
        log.info("connection.overtaken", connection=self.id, channel=where.name)
        self.close(CloseCode.NO_PROGRESS, "what comes next is no longer kept; resume and reload")

    # Answers

    def say(self, payload: bytes) -> None:
        """Send one message."""
        self.session.send(packets.message(payload))

    def answer(self, type_: str, data: bytes, *, channel: str = "global", id_: bytes = b"") -> None:
        """Acknowledge the request with this id; without one it is a message."""
        payload = frames.answer(type_, data, channel=channel)
        if id_ and id_ != UNASKED:
            self.session.send(packets.acknowledgement(id_, payload))
        elif not id_ or type_ in REFUSALS:
            self.say(payload)

    def close(self, code: CloseCode, reason: str) -> None:
        """End the connection; the client is told where it must not come back."""
        if self.code is None:
            self.code = code
            if code in FINAL:
                self.session.send(packets.DISCONNECTED)
            self._door.end(self.session, code, reason)

    # Engine.IO's side

    def hear(self, text: str) -> None:
        """Take one packet of Socket.IO."""
        self._door.hear(self, text)

    def hear_bytes(self, size: int) -> None:
        """Pass over the attachment of an event that was refused."""
        if self.skipping:
            self.skipping -= 1
        else:
            self.object_to(f"binary messages are not known here, as this one of {size} bytes")

    def object_to(self, what: str) -> None:
        """Count a bad message; one who is not introduced has no second try."""
        if self.caller is None:
            self.close(CloseCode.BAD_MESSAGE, what)
        else:
            self.strike(BadMessage(what))

    def count_refusal(self) -> None:
        """End the session of one who is refused again and again."""
        self.strikes += 1
        if self.strikes > STRIKES:
            self.close(CloseCode.BAD_MESSAGE, "refused again and again")

    def left(self, reason: str) -> None:
        """Learn that the connection has ended."""
        self._door.forget(self, reason)


class SocketIo:
    """All Socket.IO clients."""

    def __init__(
        self,
        *,
        web_settings: WebSettings,
        auth_settings: AuthSettings,
        tokens: Tokens,
        fanout: Fanout,
        requests: Requests,
        crowded: Callable[[], bool],
    ) -> None:
        """Serve with these; `run` watches over the clients."""
        self._web = web_settings
        self._auth = auth_settings
        self._tokens = tokens
        self._fanout = fanout
        self._requests = requests
        self._crowded = crowded
        self.encoder = Encoder()
        self.peers: set[SocketIoPeer] = set()
        self.sent_bytes = 0
        self._engine = EngineIo(
            web_settings,
            introduction=auth_settings.timeout,
            crowded=crowded,
            client_of=lambda session: SocketIoPeer(
                session, self, rate=web_settings.messages_per_second
            ),
        )

    def __len__(self) -> int:
        """Count who has shaken hands, let in or not."""
        return len(self._engine.sessions)

    @property
    def slow_closes(self) -> int:
        """Give how many were cut because they took nothing."""
        return self._engine.slow_closes

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve Engine.IO at its path."""
        router.add_get(PATH, self._engine.handle, allow_head=False)
        router.add_post(PATH, self._engine.handle)

    async def run(self) -> None:
        """Watch over the clients until cancelled."""
        async for now, deaf in looks(SWEEP):
            self._engine.sweep(now, deaf)

    def drain(self) -> None:
        """Tell every client to come back later; the close follows when the rest is delivered."""
        self._engine.drain()
        for peer in self.peers:
            spread = random.randrange(self._web.reconnect_ms + 1)  # noqa: S311  # not a secret
            peer.send(Draining(reconnect_ms=spread))

    async def close(self) -> None:
        """End every connection; clients come back by themselves."""
        await self._engine.close()

    def end(self, session: Session, code: CloseCode, reason: str) -> None:
        """End one."""
        self._engine.end(session, code, reason)

    def forget(self, peer: SocketIoPeer, reason: str) -> None:
        """Let go of a client whose connection has ended."""
        peer.code = peer.code or peer.session.code
        if peer.caller is None:
            return
        self.peers.discard(peer)
        self._fanout.leave(peer)
        if peer.expiry is not None:
            peer.expiry.disarm()
        self.sent_bytes += peer.sent
        peer.received = peer.session.received
        peer.log_end("socketio", int(peer.code or CloseCode.NORMAL), reason)

    # What clients say

    def hear(self, peer: SocketIoPeer, text: str) -> None:
        """Take one packet; what is none counts as a bad message."""
        try:
            self._take(peer, packets.read(text))
        except BadMessage as error:
            peer.object_to(error.message)

    def _take(self, peer: SocketIoPeer, packet: Packet) -> None:
        if packet.kind == packets.CONNECT:
            self._connect(peer, packet)
        elif peer.caller is None or packet.namespace != "/":
            raise BadMessage("connect before you say anything else")
        elif packet.kind == packets.DISCONNECT:
            peer.close(CloseCode.NORMAL, "client namespace disconnect")
        elif packet.kind == packets.EVENT:
            self._event(peer, packet)
        elif packet.kind == packets.BINARY_EVENT:
            self._binary_event(peer, packet)
        else:
            raise BadMessage("nothing was asked that this could answer")

    def _connect(self, peer: SocketIoPeer, packet: Packet) -> None:
        """Let a client in by its token, or refuse it as the seed's clients expect."""
        if packet.namespace != "/":
            peer.session.send(packets.refused(packet.namespace, "Invalid namespace"))
            peer.count_refusal()
            return
        if peer.caller is not None:
            raise BadMessage("this client is connected already")
        try:
            caller = self._caller(peer, packet)
            if self._crowded():
                raise RateLimited("too many connections; try again later")
        except AgentcmdError as error:
            details = {"code": error.code, "message": error.message}
            reason = REFUSED if error.code == "unauthorized" else error.message
            peer.session.send(packets.refused("/", reason, details))
            peer.count_refusal()
            return
        peer.admit(caller)
        self.peers.add(peer)
        peer.session.on_introduction()
        peer.session.send(packets.connected(secrets.token_urlsafe(15)))
        peer.send(
            Connected(
                user_id=caller.sub,
                connection_id=peer.id,
                server_version=__version__,
                heartbeat=self._web.heartbeat,
            )
        )
        peer.expiry = Expiry(peer, self._auth.warning)
        peer.expiry.arm(caller)
        peer.on_renewal = peer.expiry.arm
        log.info("connection.opened", connection=peer.id, user=caller.sub, door="socketio")

    def _caller(self, peer: SocketIoPeer, packet: Packet) -> Caller:
        """Verify the token of `auth`, or else that of the handshake."""
        token = peer.session.token
        if packet.data:
            with contextlib.suppress(msgspec.DecodeError, RecursionError):  # it may be anything
                token = msgspec.json.decode(packet.data, type=Authenticate).token
        if token is None:
            raise Unauthorized("a token is needed: io(url, {auth: {token}})")
        return self._tokens.verify(token)

    def _event(self, peer: SocketIoPeer, packet: Packet) -> None:
        id_ = UNASKED if packet.id is None else b"%d" % packet.id
        try:
            name, arguments = packets.arguments_of(packet)
            request = _request_of(name, arguments[0] if arguments else Raw(b"null"))
        except BadMessage as error:
            peer.strike(error, id_=id_)
        except AgentcmdError as error:
            self._refuse(peer, error, id_)
        else:
            request["id"] = Raw(id_)
            with structlog.contextvars.bound_contextvars(connection=peer.id):
                self._requests.take(peer, frames.encode(request))

    def _binary_event(self, peer: SocketIoPeer, packet: Packet) -> None:
        """Refuse an event with attachments, which are passed over when they come."""
        peer.skipping = packet.attachments
        id_ = UNASKED if packet.id is None else b"%d" % packet.id
        self._refuse(peer, BadRequest("binary data is not known here; send text"), id_)

    @staticmethod
    def _refuse(peer: SocketIoPeer, error: AgentcmdError, id_: bytes) -> None:
        over = peer.over_rate()
        peer.refuse(error, id_=id_)
        if over and peer.flooding:
            peer.close(CloseCode.RATE_LIMIT, "rate limit")


def _request_of(name: str, argument: Raw) -> dict[str, Raw]:
    """Make the message of /ws that an event stands for, as far as it can be one."""
    if name == "command":
        try:
            fields = _fields.decode(argument)
        except (msgspec.DecodeError, RecursionError):
            raise BadMessage(A_COMMAND) from None
        if bytes(fields.get("type", b""))[:1] != b'"':
            raise BadMessage(A_COMMAND)
        return fields
    if name not in ("subscribe", "unsubscribe"):
        raise UnknownCommand(f"there is no event {name[:80]!r}; there is: {EVENTS}")
    try:
        asked = _asked.decode(argument)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(A_CHANNEL) from None
    type_ = Raw(frames.encode(name))
    if isinstance(asked, str):
        return {"type": type_, "channel": Raw(frames.encode(asked))}
    channel = asked.pop("channel", Raw(b"null"))
    return {"type": type_, "channel": channel, "data": Raw(frames.encode(asked))}
