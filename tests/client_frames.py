"""A client's WebSocket frames, made by hand, right ones and wrong ones (RFC 6455)."""

from __future__ import annotations

import itertools
import operator

MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(payload="", opcode=TEXT, *, fin=True, rsv=0, mask=b"\x9a\x00\xff\x2c", size=-1, width=0):
    """Make a client's frame; `size` is the length it claims, `width` the bytes to write it in."""
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if size < 0 else size
    width = width or (1 if size < 126 else 2 if size < 65536 else 8)
    length = size if width == 1 else {2: 126, 8: 127}[width]
    head = bytes((0x80 * fin | rsv | opcode, 0x80 * bool(mask) | length))
    masked = bytes(map(operator.xor, data, itertools.cycle(mask))) if mask else data
    return head + (size.to_bytes(width, "big") if width > 1 else b"") + mask + masked


def fragments(*pieces, opcode=TEXT):
    """Make the frames of one message."""
    last = len(pieces) - 1
    return [frame(text, MORE if n else opcode, fin=n == last) for n, text in enumerate(pieces)]


def goodbye(code, reason=b""):
    """Make a Close."""
    return frame(code.to_bytes(2, "big") + reason, CLOSE)
