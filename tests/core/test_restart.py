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
    clock.now = 60.0
    assert made.next_delay() == 1.0


def test_a_limit_of_nothing_never_restarts():
    assert restarts(Clock(), limit=0).next_delay() is None
