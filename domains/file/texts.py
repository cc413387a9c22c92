"""Bytes and text: which encoding a file has, and where in it a character begins."""

from __future__ import annotations

import codecs
from typing import Literal, NamedTuple, cast

from daemon.core.commands import as_bytes
from daemon.core.errors import BadRequest
from domains.file.commands.looking import Encoding

SAMPLE = 64 << 10
"""Bytes at the beginning of a file that tell its encoding."""


class Codec(NamedTuple):
    """How Python calls an encoding, its byte order mark, and the bytes that its units have."""

    python: str
    mark: bytes = b""
    unit: int = 1


CODECS: dict[str, Codec] = {
    "utf-8": Codec("utf-8"),
    "utf-8-bom": Codec("utf-8", codecs.BOM_UTF8),
    "utf-16-le": Codec("utf-16-le", unit=2),
    "utf-16-le-bom": Codec("utf-16-le", codecs.BOM_UTF16_LE, 2),
    "utf-16-be": Codec("utf-16-be", unit=2),
    "utf-16-be-bom": Codec("utf-16-be", codecs.BOM_UTF16_BE, 2),
    "windows-1252": Codec("cp1252"),
    "iso-8859-1": Codec("iso-8859-1"),
}

_MARKS = ("utf-8-bom", "utf-16-le-bom", "utf-16-be-bom")

_UNLIKELY = frozenset(range(0x20)) - frozenset(b"\t\n\v\f\r\b\x1b") | {0x7F}
"""Control characters that no text has; what terminals are sent has escapes and backspaces."""

_NOT_1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")


def detect(sample: bytes, *, complete: bool) -> Encoding | None:
    """Tell the encoding by the beginning of a file, `complete` where it is all; None: no text."""
    for name in _MARKS:
        codec = CODECS[name]
        if sample.startswith(codec.mark):
            return cast("Encoding", name) if _fits(sample, codec, complete=complete) else None
    if not _UNLIKELY.isdisjoint(sample):
        return None
    if _fits(sample, CODECS["utf-8"], complete=complete):
        return "utf-8"
    return "windows-1252" if _NOT_1252.isdisjoint(sample) else "iso-8859-1"


def _fits(sample: bytes, codec: Codec, *, complete: bool) -> bool:
    decoder = codecs.getincrementaldecoder(codec.python)()
    try:
        text = decoder.decode(sample[len(codec.mark) :], complete)
    except UnicodeDecodeError:
        return False
    return "\0" not in text


def snapped(data: bytes, codec: Codec, lead: int, wanted: int, *, ends: bool) -> tuple[int, int]:
    """Give the range of whole characters in `data`, which is to begin at `lead`, `wanted` long.

    `data` may have a few bytes more on either side, so that the borders can be seen; `ends` where
    it reaches the end of the file. At least one character is in the range, where there is one.
    """
    start = lead
    while start < len(data) and _inside(data, start, codec):
        start += 1
    stop = min(lead + wanted, len(data))
    while start < stop < len(data) and _inside(data, stop, codec):
        stop -= 1
    if stop <= start:
        stop = min(start + 1, len(data))
        while stop < len(data) and _inside(data, stop, codec):
            stop += 1
    if stop == len(data) and not ends:
        stop -= _unfinished(data[start:stop], codec)
    return start, stop


def _inside(data: bytes, at: int, codec: Codec) -> bool:
    """Tell whether a place is within a character; UTF-16 is counted from the data's start."""
    if codec.python == "utf-8":
        return data[at] & 0xC0 == 0x80
    if codec.unit == 2:
        high = data[at + 1 : at + 2] if codec.python.endswith("le") else data[at : at + 1]
        return at % 2 == 1 or bool(high and 0xDC <= high[0] <= 0xDF)
    return False


def _unfinished(data: bytes, codec: Codec) -> int:
    """Count the bytes of the character that the end cuts."""
    decoder = codecs.getincrementaldecoder(codec.python)()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return 0  # said where it is decoded
    return len(decoder.getstate()[0])


def decoded(data: bytes, encoding: Encoding, *, at_start: bool) -> str:
    """Turn bytes into text; BadRequest where they are not in that encoding."""
    codec = CODECS[encoding]
    if at_start and codec.mark and data.startswith(codec.mark):
        data = data[len(codec.mark) :]
    try:
        text = data.decode(codec.python)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"that is not {encoding}, by its byte {data[error.start]:#04x}: read it with another "
            "encoding, as windows-1252, or with base64"
        ) from None
    return text


def encoded(text: str, encoding: Encoding) -> bytes:
    """Turn text into the bytes of a file; BadRequest for what the encoding cannot say."""
    if encoding in ("base64", "utf-8"):
        return as_bytes(text, encoding)
    codec = CODECS[encoding]
    try:
        return codec.mark + text.encode(codec.python)
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"{encoding} has no {text[error.start]!a}, the character {error.start + 1} of the "
            "content: write it as utf-8"
        ) from None


def line_endings(text: str) -> Literal["none", "lf", "crlf", "cr", "mixed"]:
    """Tell how lines end."""
    both = text.count("\r\n")
    kinds = {"crlf": both, "lf": text.count("\n") - both, "cr": text.count("\r") - both}
    found = [name for name, count in kinds.items() if count]
    if len(found) > 1:
        return "mixed"
    return cast('Literal["none", "lf", "crlf", "cr", "mixed"]', found[0] if found else "none")
