"""Whose size a terminal has."""

from __future__ import annotations

import pytest

from daemon.core.program import Size
from domains.shell.sizes import Sizes

A, B, C = Size(10, 1), Size(20, 2), Size(30, 3)


@pytest.fixture
def sizes():
    return Sizes(Size(80, 24))


def test_the_first_who_says_so_has_it(sizes):
    sizes.want("a", A)
    sizes.want("b", B)
    assert sizes.size == A


def test_who_types_has_it_from_then_on(sizes):
    sizes.want("a", A)
    sizes.want("b", B)
    sizes.typed("b")
    assert sizes.size == B
    sizes.want("a", C)
    assert sizes.size == B
    sizes.want("b", A)
    assert sizes.size == A


def test_who_types_and_has_said_nothing_keeps_what_there_is(sizes):
    sizes.typed("a")
    sizes.want("b", B)
    assert sizes.size == Size(80, 24)


def test_it_can_be_taken_over(sizes):
    sizes.want("a", A)
    sizes.want("b", B, take_over=True)
    assert sizes.size == B


def test_when_the_active_one_leaves_the_one_before_has_it_again(sizes):
    for viewer, size in (("a", A), ("b", B), ("c", C)):
        sizes.want(viewer, size, take_over=True)
    sizes.leave("b")
    assert sizes.size == C
    sizes.leave("c")
    assert sizes.size == A
    sizes.leave("a")
    assert sizes.size == A


def test_when_nobody_active_is_left_whoever_views_has_it(sizes):
    sizes.want("a", A)
    sizes.want("b", B)
    sizes.leave("a")
    assert sizes.size == B
    sizes.leave("nobody")
    assert sizes.size == B
