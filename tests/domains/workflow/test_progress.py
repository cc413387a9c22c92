"""How far steps are: at once, then seldom, and the last word before the end."""

from __future__ import annotations

import pytest
from support import until

from domains.workflow.progress import Progress, progress_of


@pytest.mark.parametrize(
    ("current", "total", "percentage"),
    [(0, 3, 0.0), (1, 3, 33.3), (3, 3, 100.0), (5, 3, 100.0), (5, None, None), (0, 0, None)],
)
def test_the_percentage_follows_from_what_is_known(current, total, percentage):
    assert progress_of(current, total).percentage == percentage


async def test_the_first_is_told_at_once_and_of_the_others_the_last(monkeypatch):
    monkeypatch.setattr("domains.workflow.progress.PACE", 0.02)
    told = []
    progress = Progress(lambda step, said: told.append((step, said.current)))
    for number in range(1000):
        progress.note("a", progress_of(number, 1000))
        progress.note("b", progress_of(number))
    assert told == [("a", 0)]
    await until(lambda: progress._timer is None)
    assert told == [("a", 0), ("b", 999), ("a", 999)]
    progress.note("a", progress_of(1000, 1000))
    assert told[-1] == ("a", 1000)
    progress.close()


async def test_what_waits_is_told_before_the_end_and_nothing_after_it():
    told = []
    progress = Progress(lambda step, said: told.append((step, said.current)))
    for number in (1, 2):
        progress.note("a", progress_of(number))
        progress.note("b", progress_of(number))
    progress.flush("a")
    progress.flush("a")
    progress.flush("c")
    assert told == [("a", 1), ("a", 2)]
    progress.close()
    progress.flush("b")
    assert told == [("a", 1), ("a", 2)]
