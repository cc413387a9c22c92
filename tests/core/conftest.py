"""Fixtures of the tests of core."""

from __future__ import annotations

import pytest

from daemon.core import calendar, clock

START = 1_800_000_000.0


class Clocks:
    """Clocks of a machine: what the wall says, what passes, and what passes while it is awake."""

    def __init__(self) -> None:
        self.wall, self.boot, self.awake = START, 1000.0, 500.0

    def passes(self, seconds: float, *, asleep: bool = False, wall: float | None = None) -> None:
        self.boot += seconds
        self.wall += seconds if wall is None else wall
        self.awake += 0.0 if asleep else seconds


@pytest.fixture
def clocks(monkeypatch):
    found = Clocks()

    class Time:
        time = staticmethod(lambda: found.wall)
        monotonic = staticmethod(lambda: found.awake)

    monkeypatch.setattr(clock, "time", Time)
    monkeypatch.setattr(calendar, "time", Time)
    monkeypatch.setattr(clock, "boottime", lambda: found.boot)
    monkeypatch.setattr(calendar, "uptime", lambda: found.boot)
    return found
