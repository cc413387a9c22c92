"""What a program has switched on in the terminal here, so that it can be switched off again."""

from __future__ import annotations

import re

OURS = b"\x1b[>0u"
"""Puts flags of ours on the normal screen's stack, so that those of whoever called stay below."""

HELD = 4 << 10
"""Bytes of a sequence that has not ended."""

STACK = 99
"""Flags of a keyboard that are counted; terminals keep about eight."""

ELSEWHERE = frozenset({3, 47, 1047, 1048, 1049})
"""Private modes that are undone in another way, or clear the screen when they are."""

ON_AT_FIRST = frozenset({7, 8, 25, 1034, 1035, 1036, 1039})

_SEQUENCE = re.compile(
    rb"\x1b(?:"
    rb"\[\?(?P<modes>[0-9;:]*)(?P<on>[hl])"
    rb"|\[(?P<key>[<>=])(?P<numbers>[0-9;]*)(?P<final>[ufmn])"
    rb"|\](?P<number>4|5|1[0-9]|9;4);(?P<body>[^\x07\x18\x1a\x1b]*)(?=[\x07\x1b])"
    rb"|(?P<reset>c))"
)
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;:?<=>]*|\][^\x07\x18\x1a\x1b]*)?\Z")
_EIGHT_BITS = ((b"\xc2\x9b", b"\x1b["), (b"\xc2\x9d", b"\x1b]"), (b"\xc2\x9c", b"\x1b\\"))


class Undoing:
    """Reads what is shown, cut anywhere."""

    def __init__(self) -> None:
        """Begin with a terminal of which nothing was made."""
        self._rest = b""
        self._forget()

    def _forget(self) -> None:
        self._alternate = 0
        self._pushed = [0, 0]  # of the normal and of the alternate screen
        self._set = [False, False]
        self._modes: dict[int, bool] = {}
        self._keys: set[tuple[bytes, int]] = set()
        self._colours: dict[bytes, set[bytes]] = {}
        self._progress = False

    def feed(self, data: bytes) -> None:
        """Take the next output."""
        if b"\x1b" not in data and b"\xc2" not in data and not self._rest:
            return
        data = self._rest + data
        for eight, seven in _EIGHT_BITS:
            data = data.replace(eight, seven)
        for found in _SEQUENCE.finditer(data):
            if found["modes"] is not None:
                for number in _numbers(found["modes"]):
                    self._switch(number, on=found["on"] == b"h")
            elif found["key"]:
                self._key(found["key"], _numbers(found["numbers"]), found["final"])
            elif found["reset"]:
                self._forget()
            else:
                self._colour(found["number"], found["body"])
        begun = _BEGUN.search(data, max(0, data.rfind(b"\x1b")))
        self._rest = data[begun.start() :] if begun else data[-1:] if data[-1:] == b"\xc2" else b""
        if len(self._rest) > HELD:
            self._rest = b""

    def undo(self, restore: bytes, *, ours: bool) -> bytes:
        """Return what brings the terminal back, around what always does; with `OURS`, if asked.

        What is of one screen is undone where it was done.
        """
        here = 1 if self._alternate else 0
        parts = [b"\x1b\\", self._flags(1) if here else b"", restore]
        if not here and (self._pushed[1] or self._set[1]):
            parts.append(b"\x1b7\x1b[?47h" + self._flags(1) + b"\x1b[?47l\x1b8")
        parts.append(self._flags(0, own=ours))
        for number, on in sorted(self._modes.items()):
            if on is not (number in ON_AT_FIRST):
                parts.append(b"\x1b[?%d%b" % (number, b"l" if on else b"h"))
        parts += [b"\x1b[>%d%b" % (number, final) for final, number in sorted(self._keys)]
        for colour, which in sorted(self._colours.items()):
            parts += [b"\x1b]1%02d%b\x1b\\" % (int(colour), each) for each in sorted(which)]
        if self._progress:
            parts.append(b"\x1b]9;4;0\x1b\\")
        self._rest = b""
        self._forget()
        return b"".join(parts)

    def _flags(self, screen: int, *, own: bool = False) -> bytes:
        """Return the bytes that reset a screen's keyboard flags, and with `own` also our entry."""
        count = self._pushed[screen] + own
        popped = b"\x1b[<%du" % count if count else b""
        return popped + (b"\x1b[=0u" if self._set[screen] and not own else b"")

    def _switch(self, number: int, *, on: bool) -> None:
        if number in ELSEWHERE:
            if number in (47, 1047, 1049):
                self._alternate = number if on else 0
        elif len(self._modes) < HELD or number in self._modes:
            self._modes[number] = on

    def _key(self, key: bytes, numbers: list[int], final: bytes) -> None:
        screen = 1 if self._alternate else 0
        if final != b"u":
            if key == b">" and numbers[0] < 16:
                self._keys.add((b"f" if final == b"f" else b"m", numbers[0]))
        elif key == b">":
            self._pushed[screen] = min(self._pushed[screen] + 1, STACK)
        elif key == b"<":
            self._pushed[screen] = max(0, self._pushed[screen] - max(1, numbers[0]))
        else:
            self._set[screen] = True

    def _colour(self, number: bytes, body: bytes) -> None:
        if number == b"9;4":
            self._progress = not body.startswith(b"0")
        elif number in (b"4", b"5"):
            for index, colour in zip(*[iter(body.split(b";"))] * 2, strict=False):
                if colour != b"?" and index.isdigit() and len(index) < 4:
                    self._colours.setdefault(number, set()).add(b";" + index)
        else:
            for at, colour in enumerate(body.split(b";")[: 20 - int(number)]):
                if colour != b"?":
                    self._colours.setdefault(b"%d" % (int(number) + at), set()).add(b"")


def _numbers(body: bytes) -> list[int]:
    """Read parameters, as many as terminals do."""
    parts = [part.partition(b":")[0] for part in body.split(b";", 32)[:32]]
    return [int(part) if part and len(part) < 10 else 0 for part in parts]
