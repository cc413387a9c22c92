"""Pages of lists: their cursors, and those of which a narrow token may see few."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from daemon.core.errors import BadRequest

LEAST = 100
"""Rows that are read at once at the least."""

NEWEST = "~"
"""Sorts behind every id."""


class Listed(Protocol):
    """What is listed: newest first, by an id that sorts by creation."""

    @property
    def id(self) -> str:
        """Give the id."""


def number_of(cursor: str | None) -> int:
    """Give the number of a row where a page begins, 0 for the first page.

    BadRequest for a cursor that no answer has given.
    """
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise BadRequest(f"{cursor[:80]!r} is no cursor; give the nextCursor of an answer")
    return int(cursor)


AnyListed = TypeVar("AnyListed", bound=Listed)


async def page_of(
    read: Callable[[str, int], Awaitable[list[AnyListed]]],
    allowed: Callable[[AnyListed], bool],
    *,
    cursor: str | None,
    limit: int,
) -> tuple[list[AnyListed], str | None]:
    """Give the next `limit` of those that are allowed, and the cursor of the page after them.

    `read` gives up to so many rows that are older than an id, newest first.
    """
    found: list[AnyListed] = []
    before = cursor or NEWEST
    size = max(limit, LEAST)
    while len(found) < limit:
        page = await read(before, size)
        found += [each for each in page if allowed(each)]
        if len(page) < size and len(found) <= limit:
            return found[:limit], None
        before = page[-1].id
    return found[:limit], found[limit - 1].id
