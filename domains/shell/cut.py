"""Where a terminal's output may be cut: between its characters and outside its sequences.

Sequences are understood as xterm.js does (its `EscapeSequenceParser`): an ESC always begins anew,
even within a string, which it ends; CAN and SUB end everything; other control characters within a
sequence are carried out and do not end it.
"""

from __future__ import annotations

import re

LINE_WITHIN = 8 << 10
"""Bytes within which a replay waits for the start of a line."""

BEGUN = 64
"""Bytes of a sequence that goes on in the next piece; the longest that colours has half of it."""

NOISE = rb"\x00-\x17\x19\x1c-\x1f\x7f-\xff"
"""What a parser passes over within a sequence, as the inside of a character class.

Bytes over 127 are among them: xterm.js drops what is no UTF-8 before it parses, and whether a byte
is any depends on how the stream is cut into messages.
"""

SEQUENCE = (
    rb"\x1b[%(noise)b]*+(?:"
    rb"\[[%(noise)b -?]*+[@-~]?+"  # CSI
    rb"|\][^\x07\x18\x1a\x1b]*+(?:\x07|\x1b\\)?+"  # OSC
    rb"|[PX^_][^\x18\x1a\x1b]*+(?:\x1b\\)?+"  # DCS, SOS, PM, APC
    rb"|[ -/][%(noise)b -/]*+[0-~]?+"
    rb"|[0-~])?+"
) % {b"noise": NOISE}
"""A sequence, from its ESC to its end or as far as it goes; of a text that is `seven_bit`."""

_UNFINISHED = re.compile(
    rb"\x1b[%(noise)b]*+(?:"
    rb"\[[%(noise)b -?]*+"
    rb"|\][^\x07\x18\x1a\x1b]*+"
    rb"|[PX^_][^\x18\x1a\x1b]*+"
    rb"|[ -/][%(noise)b -/]*+)?+\Z" % {b"noise": NOISE}
)
_SEQUENCE = re.compile(SEQUENCE)
_STEP = re.compile(rb"\n|" + SEQUENCE)
_C1 = re.compile(rb"\xc2([\x80-\x9f])")
_NOISE = bytes(byte for byte in range(256) if re.match(rb"[%b]" % NOISE, bytes((byte,))))
_OTHER = re.compile(rb"\x1b(?!\[[0-;]*+[A-Zm])")
_SO_FAR = re.compile(rb"\x1b(?:\[[0-;]*+)?")
_INSIDE_A_CHARACTER = re.compile(rb"[\x80-\xbf]{0,3}")


class Ordinary:
    """Tells whether output is ordinary: all sequences are whole and only move the cursor or colour.

    Nearly all output is, and what looks for other sequences need not look then: one search serves
    them all. It sees each piece as soon as it was read (`TerminalPump.glance`).
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._so_far = True
        self._begun = b""

    def look(self, piece: bytes) -> None:
        """Take the next piece."""
        if not self._so_far:
            return
        if self._begun:
            piece, self._begun = self._begun + piece, b""
        other = _OTHER.search(piece)
        if b"\xc2" in piece:  # it may begin a control of 8 bits
            self._so_far = False
        elif other is not None:
            self._begun = piece[other.start() :]
            self._so_far = len(self._begun) <= BEGUN and bool(_SO_FAR.fullmatch(self._begun))

    def take(self) -> bool:
        """Answer for all pieces since the last answer, which end here."""
        answer = self._so_far and not self._begun
        self._so_far, self._begun = True, b""
        return answer


def seven_bit(data: bytes) -> bytes:
    """Write the 8-bit controls, which UTF-8 encodes as C2 80 to C2 9F, as the two bytes ESC @ to _.

    They mean the same, and every place stays where it was.
    """
    if b"\xc2" not in data:
        return data
    return _C1.sub(lambda found: bytes((0x1B, found[1][0] - 0x40)), data)


def without_noise(text: bytes) -> bytes:
    """Leave out of a sequence what parsers pass over."""
    return text.translate(None, _NOISE)


def unfinished(data: bytes, end: int) -> int:
    """Tell where the sequence begins within which `data[:end]` ends, or `end` if it is outside.

    `data` is `seven_bit`; a C2 at the end may yet be the first half of an 8-bit control.
    """
    begin = data.rfind(b"\x1b", 0, end)
    if begin >= 0 and _UNFINISHED.match(data, begin, end):
        return begin
    return end - data.endswith(b"\xc2", 0, end)


def safe_start(data: bytes, wanted: int) -> int:
    """Find the first place from `wanted` on at which a replay of `data` may begin.

    It is the start of a line if one is near, else any place outside of sequences and characters,
    and `len(data)` if there is none. `data` may begin in the middle of anything.
    """
    data = seven_bit(data)
    at = data.rfind(b"\x1b", 0, wanted)
    last = _SEQUENCE.match(data, at) if at >= 0 else None
    at = last.end() if last else _end_of_a_string_begun_before(data)
    place = None
    for found in _STEP.finditer(data, max(at, wanted - 1)):  # between them is plain text
        begin = found.start()
        if place is None and begin >= wanted:
            place = _next_character(data, max(at, wanted))
        if place is not None and begin >= wanted + LINE_WITHIN:
            break
        at = found.end()
        if found[0] == b"\n" and at >= wanted:
            return at
    return _next_character(data, max(at, wanted)) if place is None else place


def _end_of_a_string_begun_before(data: bytes) -> int:
    """Tell where text begins: after the first ESC, if that one ends a string and begins nothing."""
    first = data.find(b"\x1b")
    return first + 2 if first >= 0 and data.startswith(b"\\", first + 1) else 0


def _next_character(data: bytes, place: int) -> int:
    inside = _INSIDE_A_CHARACTER.match(data, place)
    return inside.end() if inside else place
