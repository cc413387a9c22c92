"""Socket.IO 5 packets inside Engine.IO messages: read, and encoded once for all clients."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import msgspec

from daemon.core import frames
from daemon.core.channel_log import Batch
from daemon.core.errors import BadMessage, BadRequest
from daemon.web.messages import no_constant

CONNECT, DISCONNECT, EVENT, ACK, REFUSED, BINARY_EVENT, BINARY_ACK = "0123456"

MAX_ATTACHMENTS = 16
"""Binary parts of one packet that are passed over."""

_PACKET = re.compile(r"([0-6])(?:(\d{1,4})-)?(?:(/[^,]{0,127}),?)?(\d{1,18})?(.*)", re.DOTALL)
_arguments = msgspec.json.Decoder(list[msgspec.Raw])
_name = msgspec.json.Decoder(str)


class Packet(NamedTuple):
    """One packet; `id` asks for an acknowledgement, `data` is JSON or nothing."""

    kind: str
    namespace: str
    id: int | None
    attachments: int
    data: str


def read(text: str) -> Packet:
    """Read a packet; BadMessage where it is none."""
    found = _PACKET.fullmatch(text)
    if found is None:
        raise BadMessage("this is no packet of Socket.IO 4")
    kind, attachments, namespace, id_, data = found.groups()
    count = int(attachments or 0)
    if (kind in (BINARY_EVENT, BINARY_ACK)) != (attachments is not None) or count > MAX_ATTACHMENTS:
        raise BadMessage("this is no packet of Socket.IO 4, or has too many attachments")
    name = (namespace or "/").partition("?")[0]
    return Packet(kind, name, None if id_ is None else int(id_), count, data)


def arguments_of(packet: Packet) -> tuple[str, list[msgspec.Raw]]:
    """Read an event's name and what it carries.

    BadMessage where it has none, BadRequest where it holds half a character (a lone surrogate).
    """
    try:
        name, *arguments = _arguments.decode(packet.data)
        return _name.decode(name), arguments
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise _unread(packet.data) from None


def _unread(data: str) -> BadMessage | BadRequest:
    try:
        parts = json.loads(data, parse_constant=no_constant)
    except (ValueError, RecursionError):
        parts = None
    if isinstance(parts, list) and parts and isinstance(parts[0], str):
        return BadRequest("the message holds text that is no Unicode")
    return BadMessage("an event is a JSON array that begins with its name")


def message(payload: bytes) -> bytes:
    """Encode `emit("message", payload)`, with the payload encoded already."""
    return b'42["message",%b]' % payload


def acknowledgement(id_: bytes, payload: bytes) -> bytes:
    """Encode the answer to a packet with this id."""
    return b"43%b[%b]" % (id_, payload)


def connected(sid: str) -> bytes:
    """Encode that a client has been let in."""
    return b"40" + frames.encode({"sid": sid})


def refused(namespace: str, reason: str, details: dict[str, str] | None = None) -> bytes:
    """Encode that it has not been: the `connect_error` of the client, with `data`."""
    told: dict[str, object] = {"message": reason}
    if details:
        told["data"] = details
    where = b"" if namespace == "/" else namespace.encode() + b","
    return b"44" + where + frames.encode(told)


DISCONNECTED = b"41"
"""Tells a client to go, and not to come back by itself."""


class Encoder:
    """Encodes a batch once for all clients: the fan-out gives it to one after another."""

    def __init__(self) -> None:
        """Begin with nothing encoded."""
        self._of: Batch | None = None
        self._packets: list[bytes] = []
        self._framed: bytes | None = None

    def packets(self, batch: Batch) -> list[bytes]:
        """Give a packet for each event."""
        if batch is not self._of:
            self._of, self._framed = batch, None
            self._packets = [message(frames.payload(framed)) for framed in batch.frames]
        return self._packets

    def framed(self, batch: Batch) -> bytes:
        """Give the same as WebSocket frames in a row."""
        packets = self.packets(batch)
        if self._framed is None:
            self._framed = b"".join(map(frames.frame, packets))
        return self._framed
