"""The calendar, on clocks that jump and are wrong at a start."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import pytest

from daemon.core.calendar import CATCH_UP, Calendar, Look, open_calendar

HOUR = 3600.0
DAY = 24 * HOUR
START = 1_800_000_000.0  # what the fixture `clocks` begins with


def calendar_at(clocks, last=None, boot="a"):
    saved = []
    last = last or Look(clocks.wall, clocks.boot, boot)
    return Calendar(last, boot, saved.append), saved


def test_a_calendar_goes_with_a_clock_that_is_right(clocks):
    found, _ = calendar_at(clocks)
    for seconds in (0, 1, DAY, 30 * DAY):
        clocks.passes(seconds)
        assert found.now() == clocks.wall
        assert found.lag == 0


@pytest.mark.parametrize("ahead", [HOUR, 40 * DAY, 365 * DAY])
def test_a_clock_that_is_ahead_for_a_while_moves_it_by_little_more_than_that_while(clocks, ahead):
    found, _ = calendar_at(clocks)
    clocks.passes(0, wall=ahead)
    for _ in range(6):
        clocks.passes(1)
        found.now()
    assert found.now() - START < CATCH_UP * 6 + 1
    clocks.passes(0, wall=-ahead)
    assert found.now() == clocks.wall


def test_the_time_in_which_no_daemon_ran_counts_where_the_machine_did(clocks):
    found, saved = calendar_at(clocks)
    found.now()
    clocks.passes(40 * DAY)
    again, _ = calendar_at(clocks, saved[-1])
    assert again.now() == clocks.wall


def test_a_machine_that_starts_with_a_wrong_clock_moves_it_by_its_uptime_alone(clocks):
    found, saved = calendar_at(clocks)
    found.now()
    clocks.wall += 365 * DAY
    clocks.boot = 20.0
    again, _ = calendar_at(clocks, saved[-1], boot="b")
    assert again.now() <= START + CATCH_UP * 20 + 1
    assert again.lag > 364 * DAY


def test_after_a_time_switched_off_it_catches_up_while_the_machine_runs(clocks):
    found, saved = calendar_at(clocks)
    found.now()
    clocks.wall += 3 * DAY
    clocks.boot = 0.0
    again, _ = calendar_at(clocks, saved[-1], boot="b")
    for _ in range(4 * 24):
        clocks.passes(HOUR)
        again.now()
    assert again.lag == 0


def test_it_is_saved_now_and_then_and_not_with_each_look(clocks):
    found, saved = calendar_at(clocks)
    for _ in range(1000):
        clocks.passes(1)
        found.now()
    assert len(saved) == 2


async def test_it_goes_on_from_what_the_last_daemon_has_saved(open_core, tmp_path):
    core = await open_core()
    (await open_calendar(core.store, core.journal)).now()
    await core.journal.flushed()
    with contextlib.closing(sqlite3.connect(tmp_path / "agentcmd.db")) as db, db:
        (value,) = db.execute("SELECT value FROM meta WHERE key = 'calendar'").fetchone()
        db.execute("UPDATE meta SET value = 'nonsense' WHERE key = 'calendar'")
    trusted, _, _ = value.split(" ")
    assert abs(float(trusted) - time.time()) < 60
    again = await open_core()
    assert abs((await open_calendar(again.store, again.journal)).now() - time.time()) < 60
