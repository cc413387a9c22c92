"""Lines of git's standard error that tell how far it is."""

from __future__ import annotations

import pytest

from domains.git.progress import parse_progress


@pytest.mark.parametrize(
    ("line", "stage", "current", "total", "percentage"),
    [
        ("remote: Counting objects:  25% (1/4)   ", "Counting objects", 1, 4, 25.0),
        ("remote: Enumerating objects: 12, done.", "Enumerating objects", 12, None, None),
        (
            "Receiving objects:  42% (512/1200), 3.10 MiB | 1.02 MiB/s",
            *("Receiving objects", 512, 1200, 42.0),
        ),
        ("Resolving deltas: 100% (9/9), done.", "Resolving deltas", 9, 9, 100.0),
        ("Updating files:   7% (700/10000)", "Updating files", 700, 10000, 7.0),
        (
            "Writing objects: 100% (3/3), 250 bytes | 250.00 KiB/s, done.",
            "Writing objects",
            3,
            3,
            100.0,
        ),
        ("Rebasing (2/8)", "Rebasing", 2, 8, 25.0),
        ("Collecting garbage: 3", "Collecting garbage", 3, None, None),
    ],
)
def test_a_stage_is_read_with_how_far_it_is(line, stage, current, total, percentage):
    found = parse_progress(line)
    assert found is not None
    assert found.stage == stage
    assert (found.progress.current, found.progress.total) == (current, total)
    assert found.progress.percentage == percentage


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Cloning into '.agentcmd-clone-1'...",
        "fatal: early EOF",
        "remote: Create a pull request for 'topic' on GitHub by visiting:",
        "warning: 50% (1/2)",
        "From https://example.org/shop",
    ],
)
def test_any_other_line_is_no_progress(line):
    assert parse_progress(line) is None
