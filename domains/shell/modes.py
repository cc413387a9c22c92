"""What a terminal has been told that a viewer who comes later cannot see in the end of its output.

A `Tracker` reads the output as it passes and keeps the `Modes` that a fresh terminal needs, and
besides the title and the folder.

A chunk may hold tens of thousands of sequences, so little is done for each. Of equal ones only the
last is looked at, for most set something whatever it was before; only what saves and restores
colours or changes the screen is followed step by step, where there is any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from domains.shell.cut import NOISE, seven_bit, unfinished, without_noise
from domains.shell.keyboard import (
    keyboard_step,
    resources_set,
    stepped,
)
from domains.shell.modes_kept import INITIAL, Modes

HELD = 4 << 10
"""Bytes kept of a sequence that has not ended; what follows up to its end is passed over."""

STRING = 4000
"""Bytes that are looked at of a title or a folder."""

PARAMETER = 40
"""Bytes of the longest parameter that makes a colour."""

PARAMETERS = 32
"""Parameters that count of a sequence; xterm.js drops the others as well."""

TITLE = 1000
"""Characters of the longest title."""

SCREENS = frozenset({47, 1047, 1049})
MICE = frozenset({9, 1000, 1001, 1002, 1003})
ENCODINGS = frozenset({1005, 1006, 1015, 1016})
SWITCHES = frozenset({1, 5, 6, 7, 12, 25, 45, 67, 1004, 1007, 2004, 2027, 2031, 2048, 5522, 9001})
"""The private modes that are on or off each by itself; of the others one is on, or none."""

OUTLIVES_SOFT_RESET = frozenset({5, 12, 67, 1007, 2027, 2031, 2048, 5522, 9001})

_BEGIN = rb"\x1b(?!\[[0-;]*+[A-Zm])[%b]*+" % NOISE  # most move the cursor or colour the text
_CURSOR = rb"[78](?:\x1b[78])*+"  # only the first of a run saves or restores anything else
_SEQUENCE = (
    rb"%(begin)b(?:"
    rb"\[[%(noise)b -?]*+[hlpqrsu]"
    rb"|\[[%(noise)b]*+>[%(noise)b0-;]*+[fmn]"
    rb"|\][^\x07\x18\x1a\x1b]*+(?![\x18\x1a])"
    rb"|[]PX^_][^\x18\x1a\x1b]*+[\x18\x1a]?+"  # passed over: what is in a string is no event
    rb"|[()][%(noise)b]*+[0-~]"
    rb"|[=>c]"
    rb"|%(cursor)b)"
) % {b"begin": _BEGIN, b"cursor": _CURSOR, b"noise": NOISE}
_EVENT = re.compile(_SEQUENCE)
_EVENT_OR_SHIFT = re.compile(rb"\x0e|\x0f|" + _SEQUENCE)
"""Slower, for it has not one first byte that could be searched for."""

_FOLLOWED = re.compile(rb"(%b(?:%b|\[[%b -?]*+[hlprsu]))" % (_BEGIN, _CURSOR, NOISE))
"""The events that may have steps. No string need be passed over, for none has an ESC in it."""

_COLOURS = re.compile(rb"\x1b[%(noise)b]*+\[([%(noise)b0-;]*+)m" % {b"noise": NOISE})
_RGB = re.compile(rb"(?<=m[34]8;2;)\d+;\d+;\d+")
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

_Steps = tuple[tuple[str, Any], ...]
"""What an event does that depends on what came before it: names and values."""
_Colours = bytes | tuple["_Colours", int, int]
"""Colours, or those that come of other colours and the texts from one number to another."""

_SAVE: _Steps = (("save", 0),)
_LOAD: _Steps = (("load", 0),)
_KEYBOARD = frozenset({"push", "pop", "flags"})


_RESET = msgspec.structs.asdict(Modes())
del _RESET["pending"]
_SOFT = ("insert", "keypad", "region", "g0", "g1", "shifted", "cursor_style")
_SOFT_RESET = {name: _RESET[name] for name in _SOFT}


class Tracker:
    """Reads a terminal's output, cut anywhere, and knows its modes."""

    def __init__(self, modes: Modes | None = None) -> None:
        """Begin at a place with these modes, else with a terminal that was just reset."""
        self.modes = modes or Modes()
        """Those after all that was fed; the same object for as long as nothing changes."""
        self.title = ""
        self.folder = ""

    def feed(self, data: bytes, *, ordinary: bool = False) -> None:
        """Take the next output; `ordinary` as `cut.Ordinary` says."""
        before = self.modes
        ordinary = ordinary and not before.pending
        if before.pending:
            data = before.pending + data
        shifts = b"\x0e" in data or b"\x0f" in data
        if not (shifts or b"\x1b" in data or b"\xc2" in data):
            return
        data = seven_bit(data)
        end = len(data) if ordinary else unfinished(data, len(data))
        events = _EVENT_OR_SHIFT if shifts else _EVENT
        heard = [] if ordinary and not shifts else events.findall(data, 0, end)
        text = data[:end]
        now = self._read(text, heard) if heard else {"colours": _coloured(before.colours, text)}
        pending = data[end:]
        if len(pending) > HELD:  # a C2 may be the first half of the end of a string
            more = b"0" if pending.startswith(b"\x1b[") else b" "
            pending = pending[:HELD] + (b"\xc2" if pending.endswith(b"\xc2") else more)
        modes = msgspec.structs.replace(before, pending=pending, **now)
        if modes != before:
            self.modes = modes

    def resized(self) -> None:
        """Take note that the terminal has another size, with which a scroll region ends."""
        if self.modes.region:
            self.modes = msgspec.structs.replace(self.modes, region=None)

    def _read(self, data: bytes, heard: list[bytes]) -> dict[str, Any]:
        """Give the fields of the modes after whole sequences, the events of which are these."""
        now = msgspec.structs.asdict(self.modes)
        del now["pending"]
        newest: dict[bytes, bytes] = {}
        strings = []
        reset = False  # all that was before one counts no more
        for event in dict.fromkeys(reversed(heard)):
            text = without_noise(event)
            if text.startswith(b"\x1b]"):
                strings.append(event)
            elif text == b"\x1bc" and not reset:
                reset, now = True, dict(_RESET)
                data = data.rpartition(event)[2]
            elif not reset:
                newest[event] = text
        self._strings(strings)
        begun = dict(now)
        steps = {event: _take(now, event, text) for event, text in reversed(newest.items())}
        if any(name != "region" for each in steps.values() for name, _ in each):
            return now | _followed(begun, steps, _FOLLOWED.split(data))
        return now | {"colours": _coloured(now["colours"], data)}

    def _strings(self, newest: Iterable[bytes]) -> None:
        """Take the last title and the last folder that OSCs tell."""
        title = folder = None
        for event in newest:
            text = event[event.index(b"]") + 1 :]
            found = None if text.endswith((b"\x18", b"\x1a")) else _STRING.match(text[:STRING])
            if found and found["title"] is not None:
                title = title or found
            elif found:
                folder = folder or found
        if title:
            self.title = _printable(title["title"])[:TITLE]
        if folder:
            path = folder["path"]
            self.folder = _printable(unquote_to_bytes(path) if path else folder["plain"])


def _take(now: dict[str, Any], event: bytes, text: bytes) -> _Steps:
    """Set what an event sets whatever was before, and give the steps that it takes besides.

    `text` is the event without noise.
    """
    kind, rest = text[1:2], text[2:]
    if not text:
        now["shifted"] = event == b"\x0e"
    elif kind == b"[":
        return _csi(now, rest[:-1], rest[-1:])
    elif kind in b"78":
        return _SAVE if kind == b"7" else _LOAD
    elif kind in b"()":
        now["g0" if kind == b"(" else "g1"] = rest
    elif kind in b"=>":
        now["keypad"] = kind == b"="
    return ()


def _csi(now: dict[str, Any], body: bytes, final: bytes) -> _Steps:
    if final in b"hl" and body.startswith(b"?"):
        return _switched(now, _numbers(body[1:]), final == b"h")
    if final in b"su" and not body:
        return _SAVE if final == b"s" else _LOAD
    if final == b"u":
        step = keyboard_step(body, _numbers(body[1:]))
        return (step,) if step else ()
    if body.startswith(b">") and final in b"fmn":
        name = "formats" if final == b"f" else "modifiers"
        now[name] = resources_set(now[name], final, _numbers(body[1:]))
    if final == b"p" and body == b"!":
        now |= _SOFT_RESET
        now["private"] = INITIAL | now["private"] & OUTLIVES_SOFT_RESET
        return (("soft reset", 0),)
    if final == b"q" and body.endswith(b" "):
        style = _numbers(body[:-1])[0]
        now["cursor_style"] = style if style <= 6 else now["cursor_style"]
    plain = not body.strip(b"0123456789;:")
    if final in b"hl" and plain:
        now |= {_MODES[number]: final == b"h" for number in _numbers(body) if number in _MODES}
    elif final == b"r" and plain:
        top, bottom = (*_numbers(body), 0)[:2]
        top = top or 1
        if top < bottom or not bottom:
            now["region"] = (top, bottom) if top > 1 or bottom else None
            return (("region", now["region"]),)
    return ()


def _switched(now: dict[str, Any], numbers: list[int], on: bool) -> _Steps:
    """Set or reset private modes."""
    steps: _Steps = ()
    for number in numbers:
        if number in SWITCHES:
            now["private"] = now["private"] | {number} if on else now["private"] - {number}
        elif number in MICE:
            now["mouse"] = number if on else 0
        elif number in ENCODINGS and (on or number == now["encoding"]):
            now["encoding"] = number if on else 0
        elif number == 66:
            now["keypad"] = on
        elif number == 1048:
            steps += _SAVE if on else _LOAD
        elif number in SCREENS:
            turn: _Steps = (("screen", number if on else 0),)
            if number == 1049:  # the cursor as well
                turn = _SAVE + turn if on else turn + _LOAD
            steps += turn
    return steps


def _followed(
    now: Mapping[str, Any], steps: Mapping[bytes, _Steps], pieces: list[bytes]
) -> dict[str, Any]:
    """Go through texts and the events between them, and give the fields that these change.

    `pieces` are texts with an event between each two. Colours are read only when it is known which
    of them still count.
    """
    texts = pieces[::2]
    screen, region, colours = now["screen"], now["region"], now["colours"]
    saved: list[_Colours] = [*now["saved"]]
    keyboard = [*now["keyboard"]]
    since = 0  # the first text that is not yet in the colours
    for at, event in enumerate(pieces[1::2], 1):
        for name, value in steps.get(event, ()):
            if name == "save":
                since += since == at - 1 and not texts[since]
                saved[screen > 0] = (colours, since, at) if since < at else colours
            elif name == "load":
                colours, since = saved[screen > 0], at
            elif name == "region":
                region = value
            elif name in _KEYBOARD:
                keyboard[screen > 0] = stepped(keyboard[screen > 0], name, value)
            elif name == "screen":
                if (screen > 0) != (value > 0):
                    screen, region = value, None  # each screen has its own region
            else:
                colours, since, region = b"", at, None
                saved[screen > 0] = b""
    last = _read_colours((colours, since, len(texts)), texts)
    both = tuple(_read_colours(each, texts) for each in saved)
    return {
        "screen": screen,
        "region": region,
        "colours": last,
        "saved": both,
        "keyboard": (keyboard[0], keyboard[1]),
    }


def _read_colours(colours: _Colours, texts: list[bytes]) -> bytes:
    parts: list[bytes] = []
    while not isinstance(colours, bytes):
        colours, start, end = colours
        parts += reversed(texts[start:end])
    return _coloured(colours, b"\x18".join(reversed(parts)))  # CAN: no sequence goes on in the next


def _coloured(colours: bytes, text: bytes) -> bytes:
    """Add the colours in a text; what is before the last reset need not be read."""
    start = max(text.rfind(b"\x1b[0m"), 0)
    start = max(start, text.rfind(b"\x1b[m", start))
    runs = _COLOURS.findall(text, start)
    return _folded((colours, *_latest(runs))) if runs else colours


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
    parts = iter(run.split(b";", PARAMETERS)[:PARAMETERS])
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
    if body.isdigit() and len(body) < 10:  # as most are
        return [int(body)]
    parts = [part.partition(b":")[0] for part in body.split(b";", PARAMETERS)[:PARAMETERS]]
    return [int(part) if part.isdigit() and len(part) < 10 else 0 for part in parts]


def _printable(text: bytes) -> str:
    return _CONTROLS.sub("", text.decode(errors="replace"))
