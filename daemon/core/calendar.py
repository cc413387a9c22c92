"""The time by which things are old: a wall clock that is wrong for a while deletes nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from daemon.core.clock import boottime
from daemon.core.journal import Journal
from daemon.core.store import Store, boot_id

CATCH_UP: Final = 2.0
"""Seconds that the calendar may move in a second, to catch up with a machine that was off."""

SLACK: Final = 0.02
"""Seconds by which the kernel's uptime may be behind: it has hundredths."""

SAVED_EVERY: Final = 600.0
"""Seconds between two saved looks: within one boot an old one tells as much as a new one."""

_UPTIME = Path("/proc/uptime")


class Look(NamedTuple):
    """What a calendar remembers: its time, and the machine's uptime and boot then."""

    trusted: float
    uptime: float
    boot: str


class Calendar:
    """The time by which things are old: the wall clock, as far as time has really passed.

    Between two looks it moves by at most `CATCH_UP` times the machine's uptime, over restarts of
    the daemon too. After a time in which the machine was off it lags behind, and catches up while
    the machine runs; until then things are kept longer.
    """

    def __init__(self, last: Look, boot: str, save: Callable[[Look], None]) -> None:
        """Go on from the last look; `save` keeps a look for the next daemon."""
        self._last = last
        self._boot = boot
        self._save = save
        self._saved_at: float | None = None

    def now(self) -> float:
        """Return the time, in Unix seconds, of which everything older than an age is old."""
        up = uptime()
        passed = up - self._last.uptime if self._last.boot == self._boot else up
        most = self._last.trusted + CATCH_UP * max(0.0, passed) + SLACK
        trusted = min(time.time(), most)
        self._last = Look(trusted, up, self._boot)
        if self._saved_at is None or up - self._saved_at >= SAVED_EVERY:
            self._saved_at = up
            self._save(self._last)
        return trusted

    @property
    def lag(self) -> float:
        """Return the seconds for which the wall clock is ahead of the calendar."""
        return max(0.0, time.time() - self._last.trusted)


def uptime() -> float:
    """Return the seconds since the machine's start as the kernel's file has them.

    No library between us and the kernel can say something else there.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        return float(_UPTIME.read_text(encoding="ascii").split()[0])
    return boottime()


async def open_calendar(store: Store, journal: Journal) -> Calendar:
    """Go on from the look that the last daemon has saved.

    Where there is none the store's last change tells until when the clock was believed.
    """
    boot = boot_id()
    rows = await store.read(
        lambda db: db.execute("SELECT value FROM meta WHERE key = 'calendar'").fetchall()
    )
    try:
        trusted, up, its_boot = rows[0][0].split(" ")
        last = Look(float(trusted), float(up), its_boot)
    except (IndexError, ValueError):
        last = Look(store.written_at or time.time(), uptime(), boot)

    def save(look: Look) -> None:
        journal.execute(
            "INSERT INTO meta VALUES ('calendar', :value) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            value=f"{look.trusted!r} {look.uptime!r} {look.boot}",
        )

    return Calendar(last, boot, save)
