"""The daemon dies while a run and the one inside of it are retried."""

from __future__ import annotations

import asyncio

import pytest
from flows import Flow, Flows
from storms import DyingDaemon

INNER = """
- {id: a, run: "echo a >> log"}
- {id: b, run: "echo b >> log; test -e fixed"}
- {id: c, run: "echo c >> log"}
"""

POINTS = [
    "retry-row:committed:1",
    "take-up:before:1",
    "retry-row:before:2",
    "retry-row:after:2",
    "retry-row:committed:2",
    "take-up:after:1",
    "step-row:committed:2",
    "final-row:before:1",
    "final-row:committed:1",
    "final-row:before:2",
]
"""Where it dies; the first of each is the outer run's, but for its end, which comes last."""


@pytest.mark.parametrize(
    ("point", "fixed"),
    [(each, True) for each in POINTS] + [(each, False) for each in POINTS if "final" in each],
)
async def test_wherever_the_daemon_dies_the_run_inside_is_retried_once(tmp_path, point, fixed):
    folder, dying = tmp_path / "own", DyingDaemon(tmp_path / "state")
    try:
        dying.start()
        async with dying.client() as client:
            flows = await Flows.of(client, folder, inner=INNER, outer="- {id: s, workflow: inner}")
            flow = await flows.done("outer")
            child = (await flow.steps())["s"]["child"]
        dying.kill()
        if fixed:
            (folder / "fixed").touch()
        dying.start(point)
        async with dying.client() as client:
            retrying = asyncio.ensure_future(Flow(client, flow.id).call("retry"))
            assert await asyncio.to_thread(dying.died), f"it did not die at {point}"
            retrying.cancel()
            await asyncio.wait([retrying])
        dying.close()
        dying.start()
        async with dying.client() as client:
            flow.client = client
            end = await settled(flow)
            inner = await Flow(client, child).run()
            assert len((await client.call("workflow.runs", {"workflow": "inner"}))["runs"]) == 1
        assert end["type"] == inner["end"]["type"] == ("completed" if fixed else "failed")
        assert inner["attempt"] == 2
        lines = flows.lines()
        assert lines[:2] == ["a", "b"]
        assert set(lines[2:]) == ({"b", "c"} if fixed else {"b"})
    finally:
        dying.kill()


async def settled(flow):
    """Wait until a run has ended, and give how."""
    async with asyncio.timeout(60):
        while (run := await flow.run())["state"] != "ended":
            await asyncio.sleep(0.02)
    return run["end"]
