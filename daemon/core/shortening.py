"""Events over the limit: cut to what can be sent, and marked so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from daemon.core import frames


def shortened(
    data: bytes, limit: int, made: Callable[[bytes], bytes], *, href: str | None
) -> bytes:
    """Return the body of an event whose data is cut until the body fits `limit`.

    `made` gives the body with such data, and `href` says where the whole of it is.
    """
    decoded = msgspec.json.decode(data)
    room = limit - 4096
    mark = {"truncated": True} | ({"href": href} if href else {})
    for keep in (room // 4, room // 64, 256, 0):
        short = _shortened(decoded, keep)
        cut = made(frames.encode({**(short if isinstance(short, dict) else {}), **mark}))
        if len(cut) <= limit:
            return cut
    return made(frames.encode(mark))


def _shortened(value: Any, keep: int) -> Any:
    """Cut every string to `keep` characters, and every list to `keep` items."""
    if isinstance(value, str):
        return value[:keep]
    if isinstance(value, list):
        return [_shortened(item, keep) for item in value[:keep]]
    if isinstance(value, Mapping):
        return {key: _shortened(item, keep) for key, item in value.items()}
    return value
