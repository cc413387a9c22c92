"""The door to the terminal: whatever the command prints leaves here, and does nothing there.

Titles, names, files and the words of agents are foreign text. On a terminal an escape sequence in
it could fill the clipboard, draw a question that nobody asks, or hide what stands there.
"""

from __future__ import annotations

import re
import sys
from typing import Any, BinaryIO, cast

_HARM = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What is no text: controls but newline and tab, what turns the direction, halves of characters."""

_LINES = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")


def harmless(text: str) -> str:
    """Return text that does nothing to a terminal; what would is written as its escape."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return _HARM.sub(_escaped, text)


def harmless_cell(text: str) -> str:
    """Return text as one line that does nothing to a terminal."""
    return _LINES.sub(_escaped, text)


def say(text: str) -> None:
    """Print text on standard output."""
    _put(sys.stdout, harmless(text))


def complain(text: str) -> None:
    """Print text on standard error."""
    _put(sys.stderr, harmless(text))


def complain_over(text: str) -> None:
    """Print text on standard error over the line that stands there."""
    _put(sys.stderr, f"\r{harmless_cell(text)}")


def say_json(text: str) -> None:
    """Print JSON on standard output; in it those characters stand in strings, and are escaped."""
    _put(sys.stdout, re.sub(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", _json, text))


def pass_on(text: str, *, error: bool = False) -> None:
    """Print a program's output: as it is where it goes to another, without colours to a person."""
    stream = sys.stderr if error else sys.stdout
    if stream.isatty():
        text = _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
        _put(stream, harmless(text))
        return
    stream.flush()
    stream.buffer.write(text.encode("utf-8", "surrogatepass"))
    stream.buffer.flush()


def at_terminal(*, error: bool = False) -> bool:
    """Return whether a person sees standard output, or standard error."""
    return (sys.stderr if error else sys.stdout).isatty()


def bytes_out() -> BinaryIO:
    """Return standard output for the bytes of a file that somebody wants there."""
    return cast(BinaryIO, sys.stdout.buffer)


def _put(stream: Any, text: str) -> None:
    stream.write(text)
    stream.flush()


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    named = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(found[0])
    return named or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def _json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
