"""Deadlines and the calendar, on clocks that jump, stand still and are wrong at a start."""

from __future__ import annotations

from daemon.core import clock
from daemon.core.clock import STEADY, Deadline

HOUR = 3600.0
DAY = 24 * HOUR
START = 1_800_000_000.0  # what the fixture `clocks` begins with


def test_a_deadline_comes_when_its_time_has_passed(clocks):
    deadline = Deadline(START + 600)
    assert 0 < deadline.pause() <= clock.LOOK
    clocks.passes(599)
    assert 0 < deadline.pause() <= 1
    clocks.passes(1)
    assert deadline.pause() == 0


def test_a_deadline_that_passed_in_a_suspend_comes_on_waking(clocks):
    deadline = Deadline(START + 600)
    clocks.passes(HOUR, asleep=True)
    assert deadline.pause() == 0


def test_a_clock_that_is_set_forward_and_stays_brings_a_deadline_nearer(clocks):
    deadline = Deadline(START + 600)
    clocks.passes(1, wall=HOUR)
    assert deadline.pause() > 0
    clocks.passes(STEADY)
    assert deadline.pause() == 0


def test_a_clock_that_jumps_for_some_seconds_brings_none(clocks):
    deadline = Deadline(START + 600)
    for _ in range(9):
        clocks.passes(1, wall=40 * DAY)
        assert deadline.pause() > 0
        clocks.passes(5)
        assert deadline.pause() > 0
        clocks.passes(0, wall=-40 * DAY)
        assert deadline.pause() > 0
    clocks.passes(600)
    assert deadline.pause() == 0


def test_a_clock_that_is_set_back_postpones_none(clocks):
    deadline = Deadline(START + 600)
    clocks.passes(600, wall=-DAY)
    assert deadline.pause() == 0
