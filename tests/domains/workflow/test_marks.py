"""The progress sequence of terminals, wherever the stream is cut."""

from __future__ import annotations

import pytest

from domains.workflow.steps.marks import LONGEST, Marks

ENDS = ["\a", "\x1b\\"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("state", [1, 2, 4])
def test_a_percentage_is_found_wherever_it_is_cut(end, state):
    text = f"before\x1b]9;4;{state};42{end}after".encode()
    for cut in range(len(text) + 1):
        marks = Marks()
        found = [marks.feed(text[:cut]), marks.feed(text[cut:])]
        assert [each for each in found if each is not None] == [42], cut
    marks = Marks()
    found = [marks.feed(bytes([byte])) for byte in text]
    assert [each for each in found if each is not None] == [42]


def test_the_last_of_several_counts_and_none_counts_twice():
    marks = Marks()
    assert marks.feed(b"\x1b]9;4;1;1\a\x1b]9;4;1;2\a\x1b]9;4;1;3") == 2
    assert marks.feed(b"\a") == 3
    assert marks.feed(b"plain") is None
    assert marks.feed(b"\a") is None


@pytest.mark.parametrize(
    "text",
    [
        b"\x1b]9;4;0;50\a",  # it is over
        b"\x1b]9;4;3;50\a",  # nobody knows
        b"\x1b]9;4;1\a",
        b"\x1b]9;4;1;x\a",
        b"\x1b]9;4;1;1000\a",
        b"\x1b]9;5;1;50\a",
        b"]9;4;1;50\a",
        b"\x1b]0;9;4;1;50\a",
    ],
)
def test_what_is_none_is_none(text):
    assert Marks().feed(text) is None


def test_what_is_over_100_is_100():
    assert Marks().feed(b"\x1b]9;4;1;250\a") == 100


def test_what_begins_and_never_ends_is_not_kept():
    marks = Marks()
    for _ in range(1000):
        assert marks.feed(b"\x1b]9;4;1;" + b"5" * 1000) is None
        assert len(marks._rest) <= LONGEST
    assert marks.feed(b"\x1b") is None
    assert marks.feed(b"]9;4;1;7\a") == 7
