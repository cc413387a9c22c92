"""What a client sends over a WebSocket: bytes as they come, messages out of them (RFC 6455).

It neither waits nor writes. aiohttp has such a reader as well, which puts messages into a queue for
a task; here each is taken out by whoever carries it out, in the turn of the loop that has read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from aiohttp import WSMsgType

from daemon.web.close import NO_TEXT, PROTOCOL_ERROR, CloseCode

FINAL, RESERVED, OPCODE, MASKED, LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
"""Bits of the first two bytes of a frame."""

MASK_BYTES = 4
CONTROL = 0x08
"""The bit of an opcode that marks a control frame, of 125 bytes and one fragment at most."""

CONTINUATION = 0
TEXT, BINARY, CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE
PING, PONG = WSMsgType.PING, WSMsgType.PONG
KNOWN = {each.value: each for each in (TEXT, BINARY, CLOSE, PING, PONG)}

CODES = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
"""Close codes that may be sent (section 7.4, and those that were registered later)."""


class Message(NamedTuple):
    """A message: `data` is the str of a TEXT, the code of a CLOSE (0 where none came), or bytes."""

    type: WSMsgType
    data: Any


FRAGMENT = Message(WSMsgType.CONTINUATION, b"")
"""What stands for a frame that makes no message whole, so that who takes them can count them."""


class Violation(Exception):  # ends the connection, is no failure of ours
    """What must not be sent; nothing after it can be read."""

    def __init__(self, code: int, reason: str) -> None:
        """Say it with the close code that answers it."""
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Receiver:
    """The frames of one client."""

    __slots__ = ("_at", "_begun", "_data", "_kind", "_limit", "_needed", "_partial")

    def __init__(self, max_bytes: int) -> None:
        """Take messages of so many bytes at most."""
        self._limit = max_bytes
        self._data = b""
        self._at = 0
        self._partial = bytearray()
        self._needed = 0
        self._kind: WSMsgType | None = None
        self._begun = bytearray()

    def allow(self, max_bytes: int) -> None:
        """Take messages of so many bytes from now on."""
        self._limit = max_bytes

    def feed(self, data: bytes) -> None:
        """Take what was read; `next` gives the messages in it."""
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return
            data = bytes(self._partial)
            self._partial = bytearray()
        elif self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data, self._at = data, 0

    def next(self) -> Message | None:
        """Take the next frame, and give the message that it is or makes whole, else FRAGMENT.

        None where the frame is not whole yet; Violation where it is none.
        """
        data, at = self._data, self._at
        start = at + 2
        if len(data) < start:
            return self._wait(2)
        first, second = data[at], data[at + 1]
        size = second & LENGTH
        if size > 125:
            wide = 2 if size == 126 else 8
            start += wide
            if len(data) < start:
                return self._wait(start - at)
            size = int.from_bytes(data[at + 2 : start], "big")
        kind = self._checked(first, second, size)
        start += MASK_BYTES
        end = start + size
        if len(data) < end:
            return self._wait(end - at)
        self._at = end
        payload = unmasked(data[start:end], data[start - MASK_BYTES : start])
        return self._message(kind, payload, final=first >= FINAL)

    def _message(self, kind: WSMsgType | None, payload: bytes, *, final: bool) -> Message:
        if kind is CLOSE:
            return Message(kind, _code(payload))
        if kind is PING or kind is PONG:
            return Message(kind, payload)
        if kind is None or not final:
            self._kind = kind or self._kind
            self._begun += payload
            if not final:
                return FRAGMENT
            kind, payload = self._kind, bytes(self._begun)
            self._kind, self._begun = None, bytearray()
        if kind is BINARY:
            return Message(BINARY, payload)
        try:
            return Message(TEXT, payload.decode())
        except UnicodeDecodeError:
            raise Violation(NO_TEXT, "text is UTF-8") from None

    def _checked(self, first: int, second: int, size: int) -> WSMsgType | None:
        """Give a frame's kind, None for one that continues; refuse it by its head alone."""
        opcode = first & OPCODE
        kind = KNOWN.get(opcode)
        if first & RESERVED or (kind is None and opcode != CONTINUATION):
            raise Violation(PROTOCOL_ERROR, "no extension was agreed on")
        if not second & MASKED:
            raise Violation(PROTOCOL_ERROR, "a client masks its frames")
        if opcode & CONTROL:
            if first < FINAL or second & LENGTH > 125:
                raise Violation(PROTOCOL_ERROR, "a control frame has 125 bytes at most")
            return kind
        if (kind is None) is (self._kind is None):
            raise Violation(PROTOCOL_ERROR, "a fragment out of its order")
        if len(self._begun) + size > self._limit:
            raise Violation(CloseCode.TOO_BIG, f"a message has {self._limit} bytes at most")
        return kind

    def _wait(self, needed: int) -> Message | None:
        """Keep the beginning of a frame until so many bytes of it are there."""
        if self._at < len(self._data):
            self._partial += self._data[self._at :]
            self._needed = needed
        self._data, self._at = b"", 0
        return None


def unmasked(data: bytes, mask: bytes) -> bytes:
    """Take the mask off, or put it on (section 5.3); as numbers, which are quick at any size."""
    size = len(data)
    key = (mask * (size // MASK_BYTES + 1))[:size]
    plain = int.from_bytes(data, "little") ^ int.from_bytes(key, "little")
    return plain.to_bytes(size, "little")


def _code(payload: bytes) -> int:
    """Read the code of a goodbye; 0 where it has none."""
    if not payload:
        return 0
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or code not in CODES:
        raise Violation(PROTOCOL_ERROR, "this is no close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(NO_TEXT, "a reason is UTF-8") from None
    return code
