"""Runs that belong together, and keys by which a run is started once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flows import Flow, Flows

from daemon.core.errors import Conflict


@pytest.fixture
async def flows(start_daemon, tmp_path):
    """A project without workflows yet; what is asked to end does so within a second."""
    running = await start_daemon(TASK__STOP_GRACE="0.3")
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


async def test_a_run_that_is_paused_pauses_what_it_waits_for(flows):
    client = flows.client
    flows.write("outer", "- {id: child, workflow: inner}")
    flows.write("inner", "- {id: told, wait-for: go}\n- {id: after, run: echo after >> log}")
    outer = await flows.start("outer")
    await outer.until("step.started", stepId="child")
    runs: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not runs:
            runs = (await client.call("workflow.runs", {"workflow": "inner"}))["runs"]
    inner = Flow(client, runs[0]["id"])
    await inner.until("step.waiting")
    await outer.call("pause")
    assert (await inner.run())["state"] == "paused"
    await inner.call("send_event", event="go")
    await inner.until("step.completed", stepId="told")
    assert flows.lines() == []
    await outer.call("resume")
    assert (await outer.end())["type"] == "completed"
    assert flows.lines() == ["after"]


async def test_a_key_with_other_arguments_is_a_conflict(flows):
    flows.write("flow", "args: {n: {type: integer}}\nsteps:\n  - {id: a, run: 'true'}")
    first = await flows.start("flow", args={"n": 1}, idempotencyKey="k")
    assert (await flows.start("flow", args={"n": 1}, idempotencyKey="k")).id == first.id
    with pytest.raises(Conflict, match="other arguments"):
        await flows.start("flow", args={"n": 2}, idempotencyKey="k")


async def test_an_argument_that_is_left_out_is_another_one_unless_it_is_the_default(flows):
    flows.write(
        "flow",
        "args: {n: {type: integer}, m: {type: integer, default: 2}}\n"
        "steps:\n  - {id: a, run: 'true'}",
    )
    asked = {"projectId": flows.project, "workflow": "flow", "idempotencyKey": "k"}
    first = await flows.client.call("workflow.start", {**asked, "args": {"n": 1, "m": 2}})
    again = await flows.client.call("workflow.start", {**asked, "args": {"n": 1}})
    assert (first["created"], again["created"]) == (True, False)
    assert again["runId"] == first["runId"]
    for other in ({}, {"m": 2}, {"n": 1, "m": 3}, {"n": 1, "o": 1}):
        with pytest.raises(Conflict, match="other arguments"):
            await flows.client.call("workflow.start", {**asked, "args": other})


@pytest.mark.parametrize("changed", [False, True])
async def test_an_approval_is_asked_for_again_where_what_follows_it_has_changed(flows, changed):
    text = "- {id: ship, approve: Ship?}\n- {id: a, run: exit 1}"
    flows.write("flow", text)
    flow = await flows.start("flow")
    await flow.until("step.waiting")
    await flow.call("approve")
    assert (await flow.end())["type"] == "failed"
    if changed:
        flows.write("flow", text.replace("exit 1", "echo other >> log"))
    await flow.call("retry")
    if changed:
        await flow.until("step.waiting", stepId="ship")
        assert flows.lines() == []
        await flow.call("approve")
    assert (await flow.end())["type"] == ("completed" if changed else "failed")
    assert len(flow.told("step.waiting")) == 1 + changed
