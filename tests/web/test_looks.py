"""The time of each look, and how long nobody could be heard before it."""

from __future__ import annotations

from contextlib import aclosing
from types import SimpleNamespace

import pytest

from daemon.web.looks import looks


async def test_what_is_late_by_more_than_the_pace_is_time_in_which_nobody_was_heard(monkeypatch):
    times = iter([10.0, 10.0625, 10.0625, 12.125])
    monkeypatch.setattr("daemon.web.looks.time", SimpleNamespace(monotonic=lambda: next(times)))
    async with aclosing(looks(0.03125)) as looking:
        assert await anext(looking) == (10.0625, 0.0)
        assert await anext(looking) == (12.125, pytest.approx(2.03125))
