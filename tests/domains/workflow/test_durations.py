"""Durations as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import BadRequest
from domains.workflow import durations


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5s", 5),
        ("2m", 120),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("1d2h", 93_600),
        ("2w", 1_209_600),
        ("90", 90),
        (" 0.5 ", 0.5),
        (90, 90),
        (0, 0),
        (0.25, 0.25),
        ("366d", durations.LONGEST),
    ],
)
def test_a_duration_is_given_in_seconds(written, seconds):
    assert durations.parse(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "s", "5x", "-5s", "5 5", "m5", "30m1h", "1h1h", "1e3", "٣s", True, -1, float("nan")],
)
def test_what_is_no_duration_is_refused_with_what_is(written):
    with pytest.raises(BadRequest, match="no duration; allowed: a number of seconds, or numbers"):
        durations.parse(written)


@pytest.mark.parametrize("written", ["367d", "999999999999w", 1e12])
def test_more_than_a_year_is_a_slip_of_the_hand(written):
    with pytest.raises(BadRequest, match="too long; allowed: at most 366d"):
        durations.parse(written)


def test_infinity_is_no_duration():
    with pytest.raises(BadRequest, match="no duration"):
        durations.parse(float("inf"))


@given(st.text(alphabet="0123456789.wdhms -", max_size=30))
def test_any_text_is_a_duration_or_refused(written):
    with contextlib.suppress(BadRequest):
        assert 0 <= durations.parse(written) <= durations.LONGEST
