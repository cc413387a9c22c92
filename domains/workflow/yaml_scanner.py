"""The scanner of YAML files: PyYAML's, with the plain texts of YAML 1.2.

In braces and brackets PyYAML ends a text at a question mark, which YAML 1.2 does only where a space
or another sign follows: `{id: ask, approve: Deploy?}`.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_BREAKS = "\0 \t\r\n\x85\u2028\u2029"
_IN_FLOW = ",[]{}"
_WORD_ENDS = re.compile(rf"[{_BREAKS}]|:(?=[{_BREAKS}])")
_WORD_ENDS_IN_FLOW = re.compile(
    rf"[{_BREAKS}{re.escape(_IN_FLOW)}]|:(?=[{_BREAKS}{re.escape(_IN_FLOW)}])"
)


class Loader(yaml.SafeLoader):
    """Gives the events of a document."""

    pointer: int
    indent: int
    flow_level: int
    allow_simple_key: bool

    def check_key(self) -> bool:
        """Return whether a question mark says that a key follows."""
        return self.peek(1) in (_BREAKS + _IN_FLOW if self.flow_level else _BREAKS)

    def check_plain(self) -> bool:
        """Return whether a text without quotes begins here."""
        if self.flow_level and self.peek() == "?":
            return not self.check_key()
        return bool(super().check_plain())

    def scan_plain(self) -> Any:
        """Return a text without quotes, which may go on in further lines."""
        start = end = self.get_mark()
        ends = _WORD_ENDS_IN_FLOW if self.flow_level else _WORD_ENDS
        least = self.indent + 1
        parts: list[str] = []
        between: list[str] = []
        while self.peek() != "#":
            found = ends.search(self.buffer, self.pointer)  # the NUL at the end is one
            length = (found.start() if found else len(self.buffer)) - self.pointer
            if not length:
                break
            self.allow_simple_key = False
            parts += [*between, self.prefix(length)]
            self.forward(length)
            end = self.get_mark()
            between = self.scan_plain_spaces(least, start) or []
            if not between or (not self.flow_level and self.column < least):
                break
        return yaml.ScalarToken("".join(parts), True, start, end)
