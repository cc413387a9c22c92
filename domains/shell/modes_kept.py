"""The modes of a terminal at one place of its output, as xterm.js understands them."""

from __future__ import annotations

import msgspec

from domains.shell.keyboard import NONE, Flags, Resources, flags_restored, resources_restored

INITIAL = frozenset({7, 25})
"""The switches that are on after a reset: autowrap and the cursor."""


class Modes(msgspec.Struct, frozen=True, kw_only=True):
    """The state at one place of the output; as it is here after a reset (ESC c)."""

    screen: int = 0
    """The private mode that entered the alternate screen, 0 on the normal one."""

    mouse: int = 0
    encoding: int = 0
    private: frozenset[int] = INITIAL
    """Those of `SWITCHES` that are on."""

    insert: bool = False
    line_feed: bool = False
    keypad: bool = False
    region: tuple[int, int] | None = None
    """The first and the last row that scroll, from 1; 0 for the last of the screen."""

    g0: bytes = b"B"
    g1: bytes = b"B"
    shifted: bool = False
    cursor_style: int = 0
    keyboard: tuple[Flags, Flags] = (NONE, NONE)
    """The flags of kitty's keyboard protocol, of the normal and of the alternate screen."""

    modifiers: Resources = ()
    formats: Resources = ()
    """xterm's resources for keys: CSI > m, of which 4 is modifyOtherKeys, and CSI > f."""

    colours: bytes = b""
    """The parameters of an SGR that makes the colours and attributes."""

    saved: tuple[bytes, bytes] = (b"", b"")
    """The colours saved with the cursor of the normal and of the alternate screen."""

    pending: bytes = b""
    """The beginning of the sequence within which this place is."""

    def restore(self) -> bytes:
        """Bring a terminal that was just reset by ESC c into these modes.

        The cursor and the line feed mode are always told: xterm.js does not reset them.
        """
        numbers = (self.screen, self.mouse, self.encoding)
        parts = [flags_restored(self.keyboard[0])]
        parts += [b"\x1b[?%dh" % number for number in numbers if number]
        if self.screen:
            parts.append(flags_restored(self.keyboard[1]))
        parts.append(resources_restored(self.modifiers, self.formats))
        if self.region:
            parts.append(b"\x1b[%d;%dr" % self.region)
        for number in sorted(self.private ^ INITIAL | {25}):
            parts += b"\x1b[?%d" % number, _on(number in self.private)
        parts += b"\x1b[20", _on(self.line_feed)
        parts += [told for on, told in self._shown_otherwise() if on]
        if self.g0 != b"B":
            parts += b"\x1b(", self.g0
        if self.g1 != b"B":
            parts += b"\x1b)", self.g1
        if self.shifted:
            parts.append(b"\x0e")
        if self.colours:
            parts.append(b"\x1b[%bm" % self.colours)
        return b"".join(parts)

    def _shown_otherwise(self) -> tuple[tuple[object, bytes], ...]:
        return (
            (self.insert, b"\x1b[4h"),
            (self.keypad, b"\x1b="),
            (self.cursor_style, b"\x1b[%d q" % self.cursor_style),
        )


def _on(on: bool) -> bytes:
    return b"h" if on else b"l"
