"""The pace of a program: its slowest viewer that says what it shows, and for how long."""

from __future__ import annotations

from domains.shell.pace import (
    DEPTH,
    FIRST_WINDOW,
    LEAST_WINDOW,
    MOST_WINDOW,
    STALL,
    Pace,
)


def run(speed, journey, *, seconds=3.0, step=0.001):
    """Let a viewer show `speed` bytes a second, heard `journey` seconds late; gives the pace."""
    pace, now, head, shown = Pace(), 0.0, 0, 0.0
    pace.ack("a", 0, 0, now)
    said = []
    while now < seconds:
        now += step
        while not pace.holds(head):
            head += 16 << 10
            pace.wrote(head, now)
        arrived = [told for at, told in said if at <= now - journey]
        said = [(at, told) for at, told in said if at > now - journey]
        if arrived:
            pace.ack("a", arrived[-1], head, now)
        shown = min(head, shown + speed * step)
        said.append((now, int(shown)))
    return pace._viewers["a"], head - shown


def test_nobody_holds_a_program_that_nobody_follows():
    pace = Pace()
    assert not pace.holds(1 << 40)
    assert pace.give_up(1 << 40, 0.0) is None


def test_what_is_under_way_to_a_slow_viewer_is_shown_within_a_tenth_of_a_second():
    viewer, waiting = run(5e6, 0.002)
    assert waiting / 5e6 < 0.1
    assert viewer.window < FIRST_WINDOW


def test_a_very_slow_one_still_has_a_window():
    viewer, _ = run(200e3, 0.002)
    assert viewer.window == LEAST_WINDOW


def test_a_fast_one_gets_a_window_that_does_not_hold_it_up():
    viewer, _ = run(60e6, 0.002)
    assert viewer.window > 60e6 * DEPTH * 0.8


def test_one_far_away_gets_what_is_under_way_on_top():
    viewer, _ = run(20e6, 0.1)
    assert viewer.window > 20e6 * 0.1
    viewer, _ = run(500e6, 0.1)
    assert viewer.window == MOST_WINDOW


def test_the_slowest_counts_until_it_leaves():
    pace = Pace()
    pace.ack("quick", 0, 0, 0.0)
    pace.ack("slow", 0, 0, 0.0)
    pace.ack("quick", FIRST_WINDOW, FIRST_WINDOW, 0.01)
    assert pace.holds(FIRST_WINDOW)
    pace.leave("slow")
    assert not pace.holds(FIRST_WINDOW)


def test_one_that_says_nothing_is_waited_for_only_so_long_and_counts_again_when_it_is_back():
    pace = Pace()
    pace.ack("a", 0, 0, 0.0)
    head = 4 * FIRST_WINDOW
    assert pace.holds(head)
    assert pace.give_up(head, 1.0) == STALL - 1.0
    assert pace.give_up(head, STALL) is None
    assert not pace.holds(head)
    pace.ack("a", FIRST_WINDOW, head, STALL + 1)
    assert not pace.holds(head)  # it has much to catch up with, and holds nobody meanwhile
    pace.ack("a", head, head, STALL + 2)
    assert pace.holds(head + MOST_WINDOW)


def test_one_that_reads_the_past_first_holds_nobody_up():
    pace = Pace()
    head = 8 * FIRST_WINDOW
    pace.ack("new", 0, head, 0.0, past=head)
    assert not pace.holds(head)
    pace.ack("new", head, head, 0.5)
    assert pace.holds(head + FIRST_WINDOW)


def test_nobody_shows_what_was_not_written():
    pace = Pace()
    pace.ack("a", 1 << 40, 10, 0.0)
    pace.ack("a", 1 << 40, 10, 1.0)
    assert pace.holds(10 + MOST_WINDOW)


def test_repeating_oneself_is_no_progress():
    pace = Pace()
    pace.ack("a", 0, 0, 0.0)
    pace.wrote(FIRST_WINDOW, 0.0)
    for second in range(1, 5):
        pace.ack("a", 0, FIRST_WINDOW, float(second))
        assert pace.give_up(FIRST_WINDOW, float(second)) == STALL - second
    pace.ack("a", 0, FIRST_WINDOW, STALL)
    assert pace.give_up(FIRST_WINDOW, STALL) is None


def test_a_long_silence_of_the_program_is_none_of_its_viewer():
    pace = Pace()
    pace.ack("a", 0, 0, 0.0)
    pace.wrote(FIRST_WINDOW, 100.0)
    assert pace.give_up(FIRST_WINDOW, 101.0) == STALL - 1.0
