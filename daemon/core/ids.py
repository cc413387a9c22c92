"""Ids of what is made here: short, sorted by time, and fit for a channel name."""

from __future__ import annotations

import secrets
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """Make an id that sorts by time: ten digits of milliseconds, eight at random (base 32)."""
    stamp, random = int(time.time() * 1000), secrets.randbits(40)
    high = "".join(_DIGITS[stamp >> shift & 31] for shift in range(45, -5, -5))
    return high + "".join(_DIGITS[random >> shift & 31] for shift in range(35, -5, -5))
