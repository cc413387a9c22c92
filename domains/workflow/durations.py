"""Durations as people write them: `5s`, `2m`, `1h30m`, or a number of seconds."""

from __future__ import annotations

import math
import re

from daemon.core.errors import BadRequest

LONGEST = 366 * 86_400.0
"""In seconds: a wait of more than a year is a slip of the hand."""

ALLOWED = "a number of seconds, or numbers with ms, s, m, h, d or w, as in 5s, 2m or 1h30m"

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
"""The longest first: the order in which they are written."""

_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|[wdhms])\s?", re.ASCII)


def parse(value: str | float) -> float:
    """Give seconds; BadRequest for what is no duration, is negative, or is more than a year."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _refused(value)
    seconds = _read(value.strip()) if isinstance(value, str) else value
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise _refused(value)
    if seconds > LONGEST:
        raise BadRequest(f"{str(value)[:40]!r} is too long; allowed: at most 366d")
    return float(seconds)


def _read(text: str) -> float | None:
    if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text, re.ASCII):
        return float(text)
    order = list(_UNITS)
    at, seconds, last = 0, 0.0, -1
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or order.index(part[2]) <= last:
            return None
        last = order.index(part[2])
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return seconds if text else None


def _refused(value: object) -> BadRequest:
    return BadRequest(f"{str(value)[:40]!r} is no duration; allowed: {ALLOWED}")
