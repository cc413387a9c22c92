"""What a terminal has been told that a viewer who comes later cannot see in the end of its output.

A `Tracker` reads the output as it passes and keeps the `Modes` that a fresh terminal needs, as
xterm.js understands them, and besides the title and the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import unquote_to_bytes

import msgspec

from domains.shell.cut import NOISE, seven_bit, unfinished, without_noise

HELD = 4 << 10
"""Bytes kept of a sequence that has not ended; what follows up to its end is passed over."""

STRING = 4000
"""Bytes that are looked at of a title or a folder."""

PARAMETER = 40
"""Bytes of the longest parameter that makes a colour."""

TITLE = 1000
"""Characters of the longest title."""

SCREENS = frozenset({47, 1047, 1049})
MICE = frozenset({9, 1000, 1001, 1002, 1003})
ENCODINGS = frozenset({1005, 1006, 1015, 1016})
SWITCHES = frozenset({1, 5, 6, 7, 12, 25, 1004, 1007, 2004})
"""The private modes that are on or off each by itself; of the others one is on, or none."""

INITIAL = frozenset({7, 25})
"""The switches that are on after a reset: autowrap and the cursor."""

OUTLIVES_SOFT_RESET = frozenset({5, 12, 1007})

_SEQUENCE = (
    rb"\x1b(?!\[[0-;]*+[A-Zm])[%(noise)b]*+(?:"  # most move the cursor or colour the text
    rb"\[(?P<csi>[%(noise)b -?]*+[hlpqrsu])"
    rb"|\](?P<osc>[^\x07\x18\x1a\x1b]*+)(?![\x18\x1a])"
    rb"|[]PX^_][^\x18\x1a\x1b]*+"  # passed over: what is in a string is no event
    rb"|(?P<charset>[()][%(noise)b]*+[0-~])"
    rb"|(?P<esc>[78=>c]))" % {b"noise": NOISE}
)
_EVENT = re.compile(_SEQUENCE)
_EVENT_OR_SHIFT = re.compile(rb"(?P<shift>[\x0e\x0f])|" + _SEQUENCE)
"""Eight times as slow, for it has no first byte that could be searched for."""

_COLOURS = re.compile(rb"\x1b[%(noise)b]*+\[([%(noise)b0-;]*+)m" % {b"noise": NOISE})
_RGB = re.compile(rb"(?<=m[34]8;2;)\d+;\d+;\d+")
_NEEDS_COLOURS = re.compile(rb"[78csu]|!p|\?.*104[89]")
_STRING = re.compile(
    rb"0*(?:(?:2|(?<=0));(?P<title>.*)"
    rb"|7;file://[^/]*(?P<path>/.*)"
    rb'|9;9;"?(?P<plain>[^"]*))',
    re.DOTALL,
)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")

_MODES = {4: "insert", 20: "line_feed"}
_ATTRIBUTES = {number: number for number in (1, 2, 3, 4, 5, 7, 8, 9, 53)} | {6: 5, 21: 4}
_ATTRIBUTES |= dict.fromkeys((*range(30, 38), *range(90, 98), 38), 38)
_ATTRIBUTES |= dict.fromkeys((*range(40, 48), *range(100, 108), 48), 48) | {58: 58}
"""What a parameter of SGR sets, by the number of the first that sets it."""

_ENDS = {22: (1, 2), 23: (3,), 24: (4,), 25: (5,), 27: (7,), 28: (8,), 29: (9,)}
_ENDS |= {39: (38,), 49: (48,), 55: (53,), 59: (58,)}


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
        parts = [b"\x1b[?%dh" % number for number in numbers if number]
        if self.region:
            parts.append(b"\x1b[%d;%dr" % self.region)
        for number in sorted(self.private ^ INITIAL | {25}):
            parts += b"\x1b[?%d" % number, _on(number in self.private)
        parts += b"\x1b[20", _on(self.line_feed)
        if self.insert:
            parts.append(b"\x1b[4h")
        if self.keypad:
            parts.append(b"\x1b=")
        if self.cursor_style:
            parts.append(b"\x1b[%d q" % self.cursor_style)
        if self.g0 != b"B":
            parts += b"\x1b(", self.g0
        if self.g1 != b"B":
            parts += b"\x1b)", self.g1
        if self.shifted:
            parts.append(b"\x0e")
        if self.colours:
            parts.append(b"\x1b[%bm" % self.colours)
        return b"".join(parts)


class Tracker:
    """Reads a terminal's output, cut anywhere, and knows its modes."""

    def __init__(self, modes: Modes | None = None) -> None:
        """Begin at a place with these modes, else with a terminal that was just reset."""
        self.modes = modes or Modes()
        """Those after all that was fed; the same object for as long as nothing changes."""
        self.title = ""
        self.folder = ""

    def feed(self, data: bytes) -> None:
        """Take the next output."""
        before = self.modes
        if before.pending:
            data = before.pending + data
        shifts = b"\x0e" in data or b"\x0f" in data
        if not (shifts or b"\x1b" in data or b"\xc2" in data):
            return
        data = seven_bit(data)
        end = unfinished(data, len(data))
        self._read(data, end, _EVENT_OR_SHIFT if shifts else _EVENT)
        pending = data[end:]
        if len(pending) > HELD:  # a C2 may be the first half of the end of a string
            pending = pending[:HELD] + (b"\xc2" if pending.endswith(b"\xc2") else b" ")
        self._change(pending=pending)
        if self.modes == before:
            self.modes = before

    def resized(self) -> None:
        """Take note that the terminal has another size, with which a scroll region ends."""
        if self.modes.region:
            self._change(region=None)

    def _change(self, **fields: object) -> None:
        self.modes = msgspec.structs.replace(self.modes, **fields)

    def _read(self, data: bytes, end: int, events: re.Pattern[bytes]) -> None:
        coloured = 0
        for found in events.finditer(data, 0, end):
            kind = found.lastgroup
            if kind is None:
                continue
            text = found[kind]
            if kind == "osc":
                self._string(text[:STRING])
                continue
            if kind == "shift":
                self._change(shifted=text == b"\x0e")
                continue
            text = without_noise(text)
            if kind == "charset":
                self._change(**{"g0" if text.startswith(b"(") else "g1": text[1:]})
                continue
            if _NEEDS_COLOURS.match(text):
                self._colour(data, coloured, found.start())
                coloured = found.start()
            (self._esc if kind == "esc" else self._csi)(text)
        self._colour(data, coloured, end)

    def _colour(self, data: bytes, start: int, end: int) -> None:
        """Take the colours between two places; what is before the last reset need not be read."""
        start = max(start, data.rfind(b"\x1b[0m", start, end))
        start = max(start, data.rfind(b"\x1b[m", start, end))
        runs = _COLOURS.findall(data, start, end)
        if runs:
            self._change(colours=_folded((self.modes.colours, *_latest(runs))))

    def _esc(self, text: bytes) -> None:
        if text == b"c":
            self.modes = Modes()
        elif text == b"7":
            self._save()
        elif text == b"8":
            self._load()
        else:
            self._change(keypad=text == b"=")

    def _csi(self, text: bytes) -> None:
        body, final = text[:-1], text[-1:]
        plain = not body.strip(b"0123456789;:")
        if final in b"hl" and plain:
            modes = {_MODES[number] for number in _numbers(body) if number in _MODES}
            self._change(**dict.fromkeys(modes, final == b"h"))
        elif final in b"hl" and body.startswith(b"?"):
            for number in _numbers(body[1:]):
                self._switch(number, final == b"h")
        elif text == b"!p":
            self._soft_reset()
        elif text == b"s":
            self._save()
        elif text == b"u":
            self._load()
        elif final == b"q" and body.endswith(b" "):
            style = _numbers(body[:-1])[0]
            self._change(cursor_style=style if style <= 6 else self.modes.cursor_style)
        elif final == b"r" and plain:
            self._region(*_numbers(body + b";")[:2])

    def _region(self, top: int, bottom: int) -> None:
        top = top or 1
        if top < bottom or not bottom:
            self._change(region=(top, bottom) if top > 1 or bottom else None)

    def _switch(self, number: int, on: bool) -> None:
        """Set or reset one private mode."""
        modes = self.modes
        if number in SWITCHES:
            self._change(private=modes.private | {number} if on else modes.private - {number})
        elif number in MICE:
            self._change(mouse=number if on else 0)
        elif number in ENCODINGS and (on or number == modes.encoding):
            self._change(encoding=number if on else 0)
        elif number == 66:
            self._change(keypad=on)
        elif number in SCREENS or number == 1048:
            self._turn(number, on)

    def _turn(self, number: int, on: bool) -> None:
        """Change the screen, or save and restore the cursor, or both."""
        if on and number >= 1048:
            self._save()
        if number in SCREENS and bool(self.modes.screen) != on:
            self._change(screen=number if on else 0, region=None)  # each screen has its own region
        if not on and number >= 1048:
            self._load()

    def _save(self) -> None:
        normal, alternate = self.modes.saved
        colours = self.modes.colours
        self._change(saved=(normal, colours) if self.modes.screen else (colours, alternate))

    def _load(self) -> None:
        self._change(colours=self.modes.saved[bool(self.modes.screen)])

    def _soft_reset(self) -> None:
        modes = self.modes
        self.modes = Modes(
            screen=modes.screen,
            mouse=modes.mouse,
            encoding=modes.encoding,
            line_feed=modes.line_feed,
            private=INITIAL | modes.private & OUTLIVES_SOFT_RESET,
            saved=(modes.saved[0], b"") if modes.screen else (b"", modes.saved[1]),
        )

    def _string(self, text: bytes) -> None:
        """Take a title or a folder, if that is what an OSC tells."""
        found = _STRING.match(text)
        if not found:
            return
        title, path, plain = found.groups()
        if title is not None:
            self.title = _printable(title)[:TITLE]
        else:
            self.folder = _printable(plain if path is None else unquote_to_bytes(path))


def _latest(runs: list[bytes]) -> list[bytes]:
    """Leave out those SGRs after which an equal one comes, or one with another RGB colour."""
    kinds = _RGB.sub(b"", b"m" + b"m".join(runs)).split(b"m")[1:]
    last = dict(zip(kinds, runs, strict=True))
    return [last[kind] for kind in reversed(dict.fromkeys(reversed(kinds)))]


def _folded(runs: Iterable[bytes]) -> bytes:
    """Reduce the parameters of SGRs to those that still count, in one order."""
    now: dict[int, bytes] = {}
    for run in runs:
        for number, parameter in _parameters(without_noise(run)):
            if number == 0:
                now.clear()
            elif number in _ENDS or parameter == b"4:0":
                for ended in _ENDS.get(number, (4,)):
                    now.pop(ended, None)
            elif number in _ATTRIBUTES:
                now[_ATTRIBUTES[number]] = parameter
    return b";".join(now[number] for number in sorted(now))


def _parameters(run: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each parameter of an SGR with its number; a colour that takes several is one."""
    parts = iter(run.split(b";"))
    for part in parts:
        digits, *more = part.split(b":")
        if len(part) > PARAMETER:
            continue
        number = int(digits or b"0")
        if number in (38, 48, 58) and not more:
            space = next(parts, b"")
            values = [space, *islice(parts, {b"5": 1, b"2": 3}.get(space, 0))]
            if len(values) in (2, 4):
                yield number, b";".join((b"%d" % number, *values))
        else:
            yield number, part if more else b"%d" % number


def _numbers(body: bytes) -> list[int]:
    """Read the parameters of a CSI without their parts after a colon; what is missing is 0."""
    parts = [part.partition(b":")[0] for part in body.split(b";")]
    return [int(part) if part.isdigit() and len(part) < 10 else 0 for part in parts]


def _on(on: bool) -> bytes:
    return b"h" if on else b"l"


def _printable(text: bytes) -> str:
    return _CONTROLS.sub("", text.decode(errors="replace"))
