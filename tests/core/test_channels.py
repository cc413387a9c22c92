"""Names and patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.channels import covers, is_pattern, matches, parse_channel
from daemon.core.errors import InvalidChannel

segments = st.sampled_from(["a", "b", "run"])
names = st.lists(segments, min_size=1, max_size=4).map(":".join)
patterns = st.lists(st.sampled_from(["a", "b", "run", "*"]), min_size=1, max_size=4).map(":".join)


@pytest.mark.parametrize("name", ["global", "session:1", "workflow:run:a-B_c.9", "a:" + "x" * 128])
def test_a_good_name_parses(name):
    assert parse_channel(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "session:", ":1", "Session:1", "session 1", "session:é", "a:" + "x" * 129),
        *("a:b:c:d:e:f", "session:1\n", "**", "session:*x", "a/b", "session.1", "session", "*:1"),
    ],
)
def test_a_bad_name_does_not(name):
    with pytest.raises(InvalidChannel):
        parse_channel(name)


@given(grant=patterns, asked=patterns, name=names)
def test_what_a_grant_covers_it_matches(grant, asked, name):
    if covers(grant, asked) and matches(asked, name):
        assert matches(grant, name)


@given(pattern=patterns, name=names)
def test_a_grant_covers_a_name_exactly_when_it_matches(pattern, name):
    assert covers(pattern, name) == matches(pattern, name)
    assert not is_pattern(name)
