"""The daemon dies at named points and at random ones; runs end as if it never had."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from kill_points import POINTS
from storms import Storm, storm

MATRIX = [
    "start-row:before:1",
    "start-row:committed:1",
    "step-row:committed:3",
    "spawn:before:2",
    "spawn:after:2",
    "pid-row:before:3",
    "pid-row:committed:2",
    "effect:before:4",
    "effect:after:4",
    "result:before:2",
    "result:after:2",
    "result:committed:2",
    "event:before:5",
    "event:after:5",
    "retry:committed:1",
    "sent:committed:1",
    "final-row:before:2",
    "final-row:committed:2",
]
"""Where it dies: what, when, and at which time."""


@pytest.mark.parametrize("points", [MATRIX[0::2], MATRIX[1::2]], ids=["one half", "other half"])
async def test_wherever_the_daemon_dies_a_run_ends_as_an_undisturbed_one(tmp_path, points):
    assert {each.partition(":")[0] for each in MATRIX} == POINTS.keys()
    seen = Storm(tmp_path)
    try:
        await seen.prepare()
        seen.daemon.kill()
        for number, point in enumerate(points):
            if seen.daemon.start(point):
                starting = asyncio.ensure_future(seen.begin([number]))
                assert await asyncio.to_thread(seen.daemon.died), f"it did not die at {point}"
                starting.cancel()
                await asyncio.wait([starting])
            seen.daemon.close()
            seen.witness()
            assert seen.faults == [], point
        await seen.finish(list(range(len(points))))
    finally:
        with contextlib.suppress(Exception):
            seen.daemon.kill()
    assert seen.faults == []


async def test_a_small_storm_of_kills_leaves_no_trace_in_what_runs_come_to(tmp_path):
    seen = await storm(tmp_path, kills=8, runs=5, seed=1)
    assert seen.kills >= 8
    assert seen.faults == []
