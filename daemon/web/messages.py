"""What passes between a client and a connection itself: the `global.*` messages and requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar

import msgspec

from daemon.core.channel_log import Subscribed
from daemon.core.channels import parse_channel
from daemon.core.errors import BadMessage, BadRequest, InvalidChannel
from daemon.core.events import Event, event

AnyStruct = TypeVar("AnyStruct", bound=msgspec.Struct)

NULL = msgspec.Raw(b"null")
NO_DATA = msgspec.Raw(b"{}")
"""What no data, and null, stand for."""

ID_BYTES = 256
"""Longest id, as JSON, that a client may give a message."""


@event("global.connected")
class Connected(Event):
    """The first message after a good handshake; `heartbeat` is the seconds between two pings."""

    user_id: str
    connection_id: str
    server_version: str
    heartbeat: float


@event("global.authenticated")
class Authenticated(Event):
    """A token was taken, at the beginning or to renew one; `expires_at` is in Unix seconds."""

    user_id: str
    expires_at: float


@event("global.token_expiring")
class TokenExpiring(Event):
    """The token expires soon: send `auth` with a fresh one of the same user."""

    expires_at: float


@event("global.pong")
class Pong(Event):
    """The answer to `ping`; carries the data of the ping itself, whatever that was."""


@event("global.error")
class Error(Event):
    """A request was refused; clients branch on `code`, people read `message`."""

    code: str
    message: str
    details: dict[str, Any] = msgspec.field(default_factory=dict)


@event("global.subscription_success")
class SubscriptionSuccess(Event):
    """A subscription stands; missed events follow, then live ones.

    `offset` is where the channel stood, `oldest` the first offset that is kept. `recovered` false
    means that events were missed for good: reload the state.
    """

    channel: str
    epoch: str
    offset: int
    oldest: int
    recovered: bool

    @classmethod
    def of(cls, told: Subscribed) -> Self:
        """Say what the fan-out has said."""
        return cls(**msgspec.structs.asdict(told))


@event("global.subscription_error")
class SubscriptionError(Event):
    """A subscription was refused, or ended because a renewed token no longer reaches it."""

    channel: str
    code: str
    message: str


@event("global.unsubscribed")
class Unsubscribed(Event):
    """A subscription has ended; nothing more of it follows."""

    channel: str


@event("global.draining")
class Draining(Event):
    """The daemon stops: reconnect after `reconnect_ms`, a delay spread over all clients."""

    reconnect_ms: int


class Subscribe(msgspec.Struct, frozen=True):
    """The data of `subscribe` and `unsubscribe`."""

    since: int | None = None
    epoch: str | None = None
    channels: list[str] | None = None
    encoding: Literal["json", "binary"] = "json"


class Authenticate(msgspec.Struct, frozen=True):
    """The data of `auth`."""

    token: str


class Request(msgspec.Struct, frozen=True):
    """One message of a client; `id` is kept as the JSON that it was."""

    type: str
    id: bytes
    channel: str | None
    data: msgspec.Raw

    @property
    def answer_channel(self) -> str:
        """Give the channel that an answer repeats."""
        return self.channel or "global"

    def decode(self, kind: Callable[..., AnyStruct]) -> AnyStruct:
        """Read the data as this structure; BadRequest says what does not fit."""
        try:
            decoded: AnyStruct = msgspec.json.decode(self.data, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"{self.type}: {error}") from None
        return decoded


class _Fields(msgspec.Struct):
    """A message as it came."""

    type: str
    id: msgspec.Raw = NULL
    channel: msgspec.Raw = NULL
    data: msgspec.Raw = NO_DATA


_fields = msgspec.json.Decoder(_Fields)
_text = msgspec.json.Decoder(str)


class Refused(Exception):  # carries an answer, is no failure of ours
    """A request with a type that cannot be carried out; it is answered with its id."""

    def __init__(self, id_: bytes, error: BadRequest | InvalidChannel) -> None:
        """Keep what the answer needs."""
        super().__init__(error.message)
        self.id = id_
        self.error = error


def _not_read(text: str | bytes) -> BadMessage | Refused:
    """Tell what is no message from one that holds half a character (a lone surrogate)."""
    try:
        fields = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and isinstance(fields.get("type"), str):
        id_ = fields.get("id")
        echoed = json.dumps(id_).encode() if isinstance(id_, str | int) else b""
        return Refused(echoed, BadRequest("the message holds text that is no Unicode"))
    return BadMessage('a message is a JSON object with a string type, as in {"type":"ping"}')


def no_constant(name: str) -> None:
    """Refuse what Python's json reads beyond JSON: NaN and the infinities."""
    raise ValueError(f"{name} is no JSON")


def parse(text: str | bytes) -> Request:
    """Read one message; BadMessage when it has no string `type`, Refused when the rest is wrong."""
    try:
        fields = _fields.decode(text)
    except RecursionError:
        raise Refused(b"", BadRequest("the message is nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeError):
        raise _not_read(text) from None
    id_ = b"" if fields.id is NULL else bytes(fields.id)
    if id_ == b"null":
        id_ = b""
    if id_ and (id_[:1] not in b'"-0123456789' or len(id_) > ID_BYTES):
        raise Refused(b"", BadRequest(f"an id is a string or a number of {ID_BYTES} bytes at most"))
    channel: str | None = None
    if fields.channel is not NULL and bytes(fields.channel) != b"null":  # a Raw equals no bytes
        try:
            channel = parse_channel(_text.decode(fields.channel))
        except msgspec.DecodeError:
            raise Refused(id_, InvalidChannel("a channel is a string")) from None
        except InvalidChannel as error:
            if fields.type not in ("subscribe", "unsubscribe"):  # which answer on their own
                raise Refused(id_, error) from None
            channel = _text.decode(fields.channel)
    data = fields.data
    if bytes(data) == b"null" and fields.type != "ping":  # which gives back what it got
        data = NO_DATA
    return Request(fields.type, id_, channel, data)
