"""The key that detaches: its names, how terminals report it, and one that is meant for a program.

Pressed once it detaches, after a moment; pressed again within that moment the program gets it once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from daemon.core.errors import BadRequest

VARIABLE = "AGENTCMD_DETACH_KEY"
"""The variable that names the key where no option does."""

USUAL = "ctrl-]"

AGAIN = 0.3
"""Seconds in which the key, pressed again, is for the program."""

ESCAPE = 0.05
"""Seconds that a lone ESC waits for the rest of a sequence; it may be the Escape key."""

REST = 0.3
"""Seconds that the beginning of a sequence waits for its rest."""

PASTE = 5.0
"""Seconds of silence after which a paste without an end is over: the key must work again."""

CTRL, SHIFT = 4, 1
LOCKS = 64 | 128
"""Bits of the modifiers that a terminal reports, less one; Caps Lock and Num Lock change no key."""

OTHERS = {
    b"\t": ("ctrl-i", "Tab"),
    b"\r": ("ctrl-m", "Return"),
    b"\x1b": ("ctrl-[", "Escape"),
    b"\x08": ("ctrl-h", "Backspace"),
    b"\x7f": ("ctrl-?", "Backspace"),
}
"""Keys that terminals cannot tell from others."""

PASTE_BEGINS, PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"

Kind = Literal["press", "held", "aside", "other"]
"""The key, pressed; repeated or released; what tells nothing of the next key; any other key."""

_NAME = re.compile(r"(?:ctrl|control|c)[-+](?P<named>space|.)|\^(?P<short>.)", re.IGNORECASE)
_SEQUENCE = rb"\x1b\[(?P<mark>[<=>?]?)(?P<numbers>[0-9:;]{0,64})[ -/]{0,2}(?P<final>[@-~])"
_BEGUN = re.compile(rb"\x1b(?:\[[<=>?]?[0-9:;]{0,64}[ -/]{0,2})?\Z")

ASIDE = frozenset(b"cnRtyIOMm")
"""How what a terminal reports of itself ends: answers, focus, the mouse."""

ASCII = 127

PRESS, RELEASE = 1, 3
"""Events of a key, in the protocol of kitty."""

MODIFIERS = range(57441, 57455)
LOCK_KEYS = range(57358, 57361)
"""Codes of keys such as Ctrl and Caps Lock in the protocol of kitty."""


@dataclass(frozen=True, slots=True)
class DetachKey:
    """A key with Ctrl, or none: `name` is what one reads, `byte` what it sends as ever."""

    name: str
    byte: bytes


NONE = DetachKey("no key", b"")


def detach_key(name: str) -> DetachKey:
    """Return the key of this name, such as `ctrl-]`, or `none`; else BadRequest."""
    if name.strip().lower() == "none":
        return NONE
    found = _NAME.fullmatch(name.strip())
    sign = (found["named"] or found["short"]).upper() if found else ""
    sign = "@" if sign == "SPACE" else sign
    if len(sign) != 1 or not "?" <= sign <= "_":
        raise BadRequest(
            f"{name[:40]!r} is no key that can detach: use ctrl- and a letter or one of @ ] \\ ^ _,"
            f" such as {USUAL}, or none"
        )
    byte = bytes([ord(sign) ^ 0x40])
    if byte in OTHERS:
        own, same = OTHERS[byte]
        raise BadRequest(f"{own} cannot detach: a terminal sends the same for {same}")
    return DetachKey(f"Ctrl-{sign}", byte)


class Detaching:
    """Reads what is typed, cut anywhere, and finds the key in it; times are those of one clock."""

    def __init__(self, key: DetachKey) -> None:
        """Begin with nothing typed."""
        self.left = False
        """Whether the key was pressed, and not once more."""

        self._key = key
        self._token = re.compile(_SEQUENCE + b"|" + re.escape(key.byte))
        self._rest = b""
        self._heard = 0.0
        self._pressed: float | None = None
        self._aside = b""
        self._pasting = False

    def patience(self, now: float) -> float | None:
        """Return for how long more input may be waited for before `give_up`; None without end."""
        if self._pressed is not None:
            return max(0.0, self._pressed + AGAIN - now)
        if self._pasting:
            return max(0.0, self._heard + PASTE - now)
        if self._rest:
            return max(0.0, self._heard + (ESCAPE if self._rest == b"\x1b" else REST) - now)
        return None

    def give_up(self) -> bytes:
        """Decide what waited for more, and return what of it is the program's."""
        if self._pressed is not None:
            self.left = True
            return b""
        rest, self._rest = self._rest, b""
        if self._pasting:
            self._pasting = False
            return b""
        return rest

    def feed(self, data: bytes, now: float) -> bytes:
        """Take what was typed, and return what of it the program gets now."""
        if not self._key.byte:
            return data
        self._heard = now
        passed = []
        data, at = self._rest + data, 0
        given = len(self._rest) if self._pasting else 0  # of the rest the program has that already
        self._rest = b""
        while at < len(data) and not self.left:
            if self._pasting:
                found = data.find(PASTE_ENDS, at)
                end = len(data) if found < 0 else found + len(PASTE_ENDS)
                passed.append(data[max(at, given) : end])
                self._pasting = found < 0
                if self._pasting:
                    self._rest = data[max(at, end - len(PASTE_ENDS) + 1) :]
            else:
                passed_by, end = self._step(data, at, now)
                passed.append(passed_by)
            at = end
        return b"".join(passed)

    def _step(self, data: bytes, at: int, now: float) -> tuple[bytes, int]:
        """Go on to behind the next token; gives what passes, and where that is."""
        found = self._token.search(data, at)
        plain = data[at : found.start() if found else len(data)]
        if found is None and (begun := _BEGUN.search(plain, max(0, plain.rfind(b"\x1b")))):
            self._rest = plain[begun.start() :]
            plain = plain[: begun.start()]
        if plain and self._pressed is not None:
            self.left = True  # another key: it was meant
            return b"", len(data)
        if found is None:
            return plain, len(data)
        return plain + self._take(found, now), found.end()

    def _take(self, found: re.Match[bytes], now: float) -> bytes:
        """Take a sequence or the key, and return what passes."""
        kind = self._kind(found)
        token = found[0]
        if self._pressed is None:
            if kind == "press":
                self._pressed = now
                return b""
            self._pasting = token == PASTE_BEGINS
            return token
        if kind == "press":
            aside, self._aside, self._pressed = self._aside, b"", None
            return aside + token
        if kind == "aside":
            self._aside += token
        elif kind == "other":
            self.left = True
        return b""

    def _kind(self, found: re.Match[bytes]) -> Kind:
        """Return what a sequence, or the key as ever, stands for."""
        final = found["final"]
        if final is None:
            return "press"
        if found["mark"] or final[0] in ASIDE:
            return "aside"
        numbers = [
            [int(each[:9]) if each else 0 for each in part.split(b":")]
            for part in found["numbers"].split(b";")
        ]
        event = _event(numbers, final)
        if self._is_key(numbers, final):
            return "press" if event == PRESS else "held"
        return "aside" if event == RELEASE or _is_modifier(numbers, final) else "other"

    def _is_key(self, numbers: list[list[int]], final: bytes) -> bool:
        """Return whether a sequence reports the key, in any keyboard protocol."""
        sign = self._key.byte[0] ^ 0x40
        codes = {sign, sign | 0x20} if 65 <= sign <= 90 else {sign}
        if sign == ord("@"):
            codes = {sign, 32}
        if final == b"_":  # Windows: key, scan code, character, whether it is down, and more
            return len(numbers) >= 4 and numbers[2][0] == self._key.byte[0] != 0
        if final == b"~":  # xterm's modifyOtherKeys: 27, modifiers, character
            if len(numbers) != 3 or numbers[0] != [27]:
                return False
            held, (code, shifted, base) = _modifiers(numbers[1]), (numbers[2][0], numbers[2][0], 0)
        elif final == b"u":  # kitty: key, it with Shift, it on a usual keyboard; modifiers, event
            held = _modifiers(numbers[1]) if len(numbers) > 1 else 0
            code, shifted, base = (*numbers[0], 0, 0)[:3]
        else:
            return False
        if held == CTRL:
            return code in codes or (code > ASCII and base in codes)
        return held == CTRL | SHIFT and not 65 <= sign <= 90 and shifted == sign


def _modifiers(numbers: list[int]) -> int:
    """Return the bits of the modifiers, without locks."""
    return max(0, numbers[0] - 1) & ~LOCKS


def _event(numbers: list[list[int]], final: bytes) -> int:
    """Return whether a key is pressed, repeated or released; pressed where that is not told."""
    if final == b"_":
        return PRESS if len(numbers) < 4 or numbers[3][0] else RELEASE
    told = numbers[1][1] if len(numbers) > 1 and len(numbers[1]) > 1 else PRESS
    return told or PRESS


def _is_modifier(numbers: list[list[int]], final: bytes) -> bool:
    """Return whether a sequence is about a key such as Ctrl alone."""
    if final == b"_":
        return len(numbers) >= 3 and not numbers[2][0]
    return final == b"u" and (numbers[0][0] in MODIFIERS or numbers[0][0] in LOCK_KEYS)
