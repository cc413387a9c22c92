from daemon.core.restart import Restarts


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def restarts(clock, *, jitter=1.0, **policy):
    options = {"delay": 1.0, "max_delay": 8.0, "limit": 5, "within": 60.0, **policy}
    return Restarts(**options, clock=clock, jitter=lambda: jitter)


def test_delays_double_up_to_the_longest_and_end_at_the_limit():
    made = restarts(Clock())
    assert [made.next_delay() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 8.0, None]


def test_jitter_takes_up_to_half_of_a_delay():
    assert restarts(Clock(), jitter=0.0).next_delay() == 0.5


def test_what_has_run_for_long_enough_begins_anew():
    clock = Clock()
    made = restarts(clock, limit=2)
    assert [made.next_delay(), made.next_delay(), made.next_delay()] == [1.0, 2.0, None]
    clock.now = 3.0 + 60.0
    assert made.next_delay() == 1.0


def test_it_gives_up_where_the_delays_add_up_to_more_than_the_time_that_counts():
    clock = Clock()
    made = restarts(clock, limit=8, max_delay=60.0)
    given = 0
    while (delay := made.next_delay()) is not None:
        given += 1
        assert given <= 8
        clock.now += delay + 0.1
    assert given == 8


def test_what_runs_between_its_failures_for_long_enough_is_never_given_up():
    clock = Clock()
    made = restarts(clock, limit=3)
    for _ in range(100):
        delay = made.next_delay()
        assert delay is not None
        clock.now += delay + 21.0


def test_a_limit_of_nothing_never_restarts():
    assert restarts(Clock(), limit=0).next_delay() is None
