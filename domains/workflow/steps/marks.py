r"""What a command says of how far it is: the progress sequence of terminals, in its output.

`ESC ] 9 ; 4 ; STATE ; PERCENT` and BEL or `ESC \`, as ConEmu introduced it and Windows Terminal
and others show it. States 1, 2 and 4 (running, failed, paused) have a percentage.
"""

from __future__ import annotations

import re

BEGIN = b"\x1b]9;4;"
_MARK = re.compile(rb"\x1b\]9;4;[124];([0-9]{1,3})(?:\x07|\x1b\\)")

LONGEST = len(BEGIN) + len("1;100") + 2
"""Bytes of one."""


class Marks:
    """Finds them in what one stream brings, wherever it is cut."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rest = b""

    def feed(self, data: bytes) -> int | None:
        """Give the last percentage that has come whole with these bytes."""
        if b"\x1b" not in data and not self._rest:
            return None
        text = self._rest + data
        found = None
        last = None
        for last in _MARK.finditer(text):
            found = min(100, int(last.group(1)))
        tail = text[max(last.end() if last else 0, len(text) - LONGEST) :]
        begun = tail.rfind(b"\x1b]")
        if begun < 0:
            begun = len(tail) - 1 if tail.endswith(b"\x1b") else len(tail)
        self._rest = tail[begun:]
        return found
