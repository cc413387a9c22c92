"""Ids of what is made here: short, sorted by time, and fit for a channel name."""

from __future__ import annotations

import secrets
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


_last = 0
"""The last id as a number. Two of one millisecond, or of a clock set back, are in order as well."""


def new_id() -> str:
    """Return an id that sorts by time: ten digits of milliseconds, eight at random (base 32)."""
    global _last  # noqa: PLW0603  # the order is one for all that a process makes
    _last = max(int(time.time() * 1000) << 40 | secrets.randbits(40), _last + 1)
    return "".join(_DIGITS[_last >> shift & 31] for shift in range(85, -5, -5))
