"""A terminal's output without what reaches for the clipboard of whoever looks at it.

That is OSC 52, the OSC 5522 of kitty, and `Copy` in the OSC 1337 (once 50) of iTerm2. What is
dropped leaves a string terminator: it cut off whatever came before it, and without that the
beginning of a sequence there might be completed by what comes after, and be an OSC 52 again.
"""

from __future__ import annotations

import re

from domains.shell.cut import NOISE, seven_bit

HELD = 64
"""Bytes held back of what may yet become such a sequence."""

TERMINATOR = b"\x1b\\"

_NUMBERS = (b"52", b"5522")
_COMMANDS = (b"50;Copy", b"1337;Copy")
_WITHIN = NOISE.replace(rb"\x00-\x17", rb"\x00-\x06\x08-\x17")  # BEL ends an OSC
_BEGIN = rb"\x1b[%b]*+(?:\][%b0]*+" % (NOISE, _WITHIN)


def _any_of(*texts: bytes) -> bytes:
    """Match one of these texts, whatever a parser would pass over within it."""
    noise = rb"[%b]*+" % _WITHIN
    return rb"(?:%b)" % b"|".join(
        b"".join(b"%c%b" % (byte, noise) for byte in text) for text in texts
    )


_CLIPBOARD = re.compile(
    rb"%b(?:%b(?![0-9]|\Z)|%b))[^\x07\x18\x1a\x1b]*+(?:\x07|\x1b\\|(?P<open>\x1b?+\Z))?+"
    % (_BEGIN, _any_of(*_NUMBERS), _any_of(*_COMMANDS))
)
_UNDECIDED = re.compile(
    rb"%b%b?)?\Z"
    % (
        _BEGIN,
        _any_of(*(t[:end] for t in _NUMBERS + _COMMANDS for end in range(len(t), 0, -1))),
    )
)
_DROPPING = b"\x1b]52;"
"""Held in the place of a sequence that is being dropped and has no end yet."""


class ClipboardFilter:
    """Drops those sequences from a stream, wherever it is cut; all else leaves at once as it is."""

    def __init__(self) -> None:
        """Begin outside of any sequence."""
        self._held = b""

    def feed(self, data: bytes, *, ordinary: bool = False) -> bytes:
        """Take the next output and give what may be shown; `ordinary` as `cut.Ordinary` says."""
        if not self._held and (ordinary or (b"\x1b" not in data and b"\xc2" not in data)):
            return data
        data = self._held + data
        plain = seven_bit(data)
        shown = []
        at = 0
        for found in _CLIPBOARD.finditer(plain):
            shown.append(data[at : found.start()])
            at = found.end()
            if found["open"] is not None:  # an ESC or C2 at the end may be half a terminator
                self._held = _DROPPING + (data[-1:] if data[-1] in b"\x1b\xc2" else b"")
                return b"".join(shown)
            shown.append(TERMINATOR)
        begin = plain.rfind(b"\x1b", at)
        if begin < 0 or not _UNDECIDED.match(plain, begin):
            begin = len(plain) - plain.endswith(b"\xc2", at)
        shown.append(data[at:begin])
        self._held = data[begin:]
        if len(self._held) > HELD:
            shown.append(self._given_up())
        return b"".join(shown)

    def flush(self) -> bytes:
        """Give what is held; the stream has ended."""
        held, self._held = self._held, b""
        return b"" if held.startswith(_DROPPING) else held

    def _given_up(self) -> bytes:
        """Give what was held without its introducer; a C2 at its end may be half of another."""
        held = self._held
        introducer = 1 if held.startswith(b"\x1b") else 2
        self._held = b"\xc2" if held.endswith(b"\xc2") else b""
        return TERMINATOR + held[introducer : len(held) - len(self._held)]
