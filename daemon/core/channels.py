"""Channel names and the patterns over them: what parses, what matches, what covers what."""

from __future__ import annotations

import re

from daemon.core.errors import InvalidChannel

GLOBAL = "global"
"""The daemon's own channel; what is told there reaches every client unasked."""

_SEGMENT = r"[A-Za-z0-9_.\-]{1,128}"
_NAME = re.compile(rf"{GLOBAL}|[a-z]{{1,32}}(?::{_SEGMENT}){{1,4}}", re.ASCII)
_PATTERN = re.compile(rf"\*|[a-z]{{1,32}}(?::(?:{_SEGMENT}|\*)){{1,4}}", re.ASCII)
_ID = re.compile(_SEGMENT, re.ASCII)


def is_pattern(name: str) -> bool:
    """Tell a wildcard (`session:*`) from a channel (`session:1`)."""
    return "*" in name


def parse_channel(name: str) -> str:
    """Give the name back when it is a channel or a pattern; InvalidChannel otherwise."""
    shape = _PATTERN if is_pattern(name) else _NAME
    if not shape.fullmatch(name):
        raise InvalidChannel(
            f"{name[:80]!r} is no channel name: use domain:id, as in session:123, "
            "with letters, digits, '_', '-' and '.' in the id (128 at most)"
        )
    return name


def is_id(text: str) -> bool:
    """Tell whether a text can stand in a channel name as an id."""
    return _ID.fullmatch(text) is not None


def matches(pattern: str, channel: str) -> bool:
    """Match a channel: `*` stands for one segment or, at the end, for the rest."""
    wanted, parts = pattern.split(":"), channel.split(":")
    if wanted[-1] == "*":
        return len(parts) >= len(wanted) and _each(wanted[:-1], parts)
    return len(parts) == len(wanted) and _each(wanted, parts)


def covers(grant: str, asked: str) -> bool:
    """Tell whether everything that `asked` (a channel or a pattern) can match, `grant` matches."""
    wanted, parts = grant.split(":"), asked.split(":")
    if wanted[-1] == "*":
        return len(parts) >= len(wanted) and _each(wanted[:-1], parts)
    # A pattern that ends in `*` reaches any depth: only a grant that does too can cover it.
    return parts[-1] != "*" and len(parts) == len(wanted) and _each(wanted, parts)


def _each(wanted: list[str], parts: list[str]) -> bool:
    return all(want in ("*", part) for want, part in zip(wanted, parts, strict=False))
