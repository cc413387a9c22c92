import pytest

from daemon.core.histogram import Histogram


def test_a_value_is_counted_in_the_first_bucket_that_holds_it():
    seen = Histogram(1.0, 2.0, 4.0)
    for value in (0.0, 1.0, 1.5, 4.0, 4.1, 100.0):
        seen.add(value)
    assert seen.counts == [2, 1, 1, 2]
    assert seen.count == 6
    assert seen.sum == pytest.approx(110.6)
