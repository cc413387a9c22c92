"""Ids."""

from __future__ import annotations

import itertools

from daemon.core import ids
from daemon.core.channels import is_id


def test_ids_differ_and_can_stand_in_a_channel():
    made = {ids.new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_id(each) and len(each) == 18 for each in made)


def test_ids_sort_by_the_time_of_their_making(monkeypatch):
    times = itertools.count(1767225600.0, 0.002)
    monkeypatch.setattr(ids.time, "time", lambda: next(times))
    made = [ids.new_id() for _ in range(100)]
    assert made == sorted(made)


def test_ids_of_one_moment_and_of_a_clock_that_is_set_back_are_in_order(monkeypatch):
    times = itertools.cycle((1_800_000_000.0, 1_800_000_000.0, 1_799_999_000.0))
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(ids.time, "time", lambda: next(times))
    made = [ids.new_id() for _ in range(100)]
    assert made == sorted(made)
    assert len(set(made)) == 100
