"""Cursors of event streams: the place on all channels, as an `id:` and a `Last-Event-ID` have it.

A few channels are written out; many would not fit in a header that proxies and servers let through,
so they are packed: a digest of each name and epoch with the offset, nine bytes or so a channel.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from hashlib import blake2s

from daemon.core.channel_log import ChannelLog

WRITTEN_OUT = 512
"""Bytes up to which a cursor is written out."""

PACKED = "p1."
"""What a packed cursor begins with; no channel's name does."""

DIGEST = 3
"""Bytes of a digest. Two names of one stream with the same one are told apart by their epochs."""

MAX_PLACES = 4096
"""Places that are read; a stream has 256 channels by default."""

_PLACE = re.compile(r"([^=,]+)=([0-9a-f]{1,32}):(\d{1,18})")

Resumption = tuple[str | None, int | None]
"""The epoch and the offset after which to go on, as `subscribe` takes them."""


class StreamCursor:
    """The place of one stream on all channels that it follows by name."""

    def __init__(self) -> None:
        """Follow nothing yet."""
        self._places: dict[ChannelLog, int] = {}
        self._packed: dict[ChannelLog, bytes] = {}
        self._size = 0

    def __contains__(self, where: ChannelLog) -> bool:
        """Return whether a channel is followed by name."""
        return where in self._places

    def follow(self, where: ChannelLog, offset: int) -> None:
        """Add a channel, or move it."""
        if where not in self._places:
            self._size += len(where.name) + len(where.epoch) + 8
        self._places[where] = offset
        if self._size > WRITTEN_OUT:
            if not self._packed:
                self._packed = {each: _packed(each, at) for each, at in self._places.items()}
            self._packed[where] = _packed(where, offset)

    def text(self) -> bytes:
        """Encode it."""
        if self._packed:
            return PACKED.encode() + base64.urlsafe_b64encode(b"".join(self._packed.values()))
        places = (f"{each.name}={each.epoch}:{at}" for each, at in self._places.items())
        return ",".join(places).encode()


class LastPlaces:
    """A `Last-Event-ID` that was read; what is not ours is ignored: it may be anything."""

    def __init__(self, text: str) -> None:
        """Read it."""
        self._named: dict[str, tuple[str, int]] = {}
        self._digested: dict[bytes, list[tuple[bytes, int]]] = {}
        if text.startswith(PACKED):
            for name, epoch, offset in _unpacked(text.removeprefix(PACKED)):
                self._digested.setdefault(name, []).append((epoch, offset))
            return
        for part in text.split(",", MAX_PLACES)[:MAX_PLACES]:
            if (place := _PLACE.fullmatch(part)) is not None:
                self._named[place[1]] = place[2], int(place[3])

    def of(self, where: ChannelLog, since: int | None) -> Resumption:
        """Return where to go on in a channel; what it says goes before `since`."""
        if where.name in self._named:
            return self._named[where.name]
        known = self._digested.get(_digest(where.name))
        if not known:
            return None, since
        epoch = _digest(where.epoch)
        for digest, offset in known:
            if digest == epoch:
                return where.epoch, offset
        return "", known[0][1]  # another epoch than any channel has: not recovered


def _packed(where: ChannelLog, offset: int) -> bytes:
    """Pack one place; the offset is in groups of seven bits, the lowest first (LEB128)."""
    packed = bytearray(_digest(where.name) + _digest(where.epoch))
    while offset > 0x7F:
        packed.append(offset & 0x7F | 0x80)
        offset >>= 7
    packed.append(offset)
    return bytes(packed)


def _unpacked(text: str) -> Iterator[tuple[bytes, bytes, int]]:
    """Unpack places, up to where the text is none of ours."""
    try:
        data = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return
    at = 0
    for _ in range(MAX_PLACES):
        start = at + 2 * DIGEST
        offset = 0
        for shift in range(0, 63, 7):
            if start >= len(data):
                return
            byte = data[start]
            start += 1
            offset |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                break
        else:
            return
        yield data[at : at + DIGEST], data[at + DIGEST : at + 2 * DIGEST], offset
        at = start


def _digest(text: str) -> bytes:
    return blake2s(text.encode(), digest_size=DIGEST).digest()
