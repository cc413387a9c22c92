"""Pages of what a token may see, whatever lies between."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from daemon.core.listing import LEAST, page_of


class Row(NamedTuple):
    id: str


@pytest.mark.parametrize("limit", [1, 7, 100, 150, 500])
@pytest.mark.parametrize("count", [0, 1, LEAST - 1, LEAST, LEAST + 1, 450])
@pytest.mark.parametrize("every", [1, 3, 1000])
async def test_all_pages_together_are_all_that_is_allowed_once_and_newest_first(
    limit, count, every
):
    rows = [Row(f"{number:04}") for number in range(count, 0, -1)]

    async def read(before, size):
        return [row for row in rows if row.id < before][:size]

    seen, cursor = [], None
    while True:
        page, cursor = await page_of(
            read, lambda row: int(row.id) % every == 0, cursor=cursor, limit=limit
        )
        assert len(page) <= limit
        seen += page
        if cursor is None:
            break
    assert seen == [row for row in rows if int(row.id) % every == 0]
