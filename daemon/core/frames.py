"""The wire form of a message, encoded once: JSON, and the WebSocket text frame around it."""

from __future__ import annotations

import struct

import msgspec

TEXT_FRAME = 0x81
"""First byte of an unfragmented text frame (RFC 6455, section 5.2)."""

BINARY_FRAME = 0x82
CLOSE_FRAME = 0x88
PONG_FRAME = 0x8A
MAX_REASON = 120
"""Bytes; a control frame carries 125, two of them the code (RFC 6455, section 5.5)."""

OUTPUT_VERSION, OUTPUT_KIND = 1, 1
_OUTPUT_HEAD = struct.Struct("!BBQH")
"""Version, kind, byte offset, length of the channel's name, which follows (PROTOCOL, terminals)."""

_json = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """Encode anything as compact JSON."""
    return _json.encode(value)


def body(head: bytes, data: bytes, offset: int, ts: float) -> bytes:
    """Join the parts of an event of a channel; `head` is `head_of` its channel and type."""
    return b'%b%b,"offset":%d,"ts":%.3f}' % (head, data, offset, ts)


def head_of(channel: str, type_: str) -> bytes:
    """Encode what all events of one type on one channel begin with."""
    return b'{"channel":%b,"type":%b,"data":' % (encode(channel), encode(type_))


def answer(type_: str, data: bytes, *, channel: str = "global", id_: bytes = b"") -> bytes:
    """Encode what is no event of a channel: an answer, with the request's id where it had one."""
    tail = b',"id":%b}' % id_ if id_ else b"}"
    return head_of(channel, type_) + data + tail


def frame(payload: bytes, opcode: int = TEXT_FRAME) -> bytes:
    """Put a payload into one unmasked frame."""
    return _head(len(payload), opcode) + payload


def _head(size: int, opcode: int) -> bytes:
    if size < 126:
        return b"%c%c" % (opcode, size)
    if size < 65536:
        return b"%c\x7e%b" % (opcode, size.to_bytes(2, "big"))
    return b"%c\x7f%b" % (opcode, size.to_bytes(8, "big"))


def output_frame(channel: bytes, at: int, data: bytes) -> bytes:
    """Put bytes of a terminal into a binary frame; `at` is where they begin in its output."""
    head = _OUTPUT_HEAD.pack(OUTPUT_VERSION, OUTPUT_KIND, at, len(channel)) + channel
    return b"".join((_head(len(head) + len(data), BINARY_FRAME), head, data))


def read_output(payload: bytes) -> tuple[str, int, bytes] | None:
    """Take channel, offset and bytes out of a binary frame; None for one of another kind."""
    version, kind, at, size = _OUTPUT_HEAD.unpack_from(payload)
    if (version, kind) != (OUTPUT_VERSION, OUTPUT_KIND):
        return None
    start = _OUTPUT_HEAD.size + size
    return payload[_OUTPUT_HEAD.size : start].decode(), at, payload[start:]


def close_frame(code: int, reason: str) -> bytes:
    """Make a close frame; a reason that is too long is cut."""
    said = code.to_bytes(2, "big") + reason.encode()[:MAX_REASON]
    return b"%c%c%b" % (CLOSE_FRAME, len(said), said)


def pong_frame(payload: bytes) -> bytes:
    """Make the answer to a ping (RFC 6455, section 5.5.3)."""
    return b"%c%c%b" % (PONG_FRAME, len(payload), payload)


def payload(framed: bytes) -> bytes:
    """Take the payload back out of a frame made here."""
    size = framed[1]
    return framed[2 if size < 126 else 4 if size == 126 else 10 :]
