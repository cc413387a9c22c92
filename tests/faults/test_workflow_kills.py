"""The daemon dies at named points and at random ones; runs end as if it never had."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from flows import Flows
from kill_points import POINTS
from repositories import Repo
from storms import DyingDaemon, Storm, storm

from daemon.core.errors import AgentcmdError

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


@pytest.mark.parametrize("point", ["worktree:after:1", "release:before:1", "release:after:1"])
async def test_a_run_has_one_work_tree_wherever_the_daemon_dies(tmp_path, point):
    daemon, repo = DyingDaemon(tmp_path / "state"), Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"})
    try:
        flow = await begun_and_died(daemon, repo, "worktree", point)
        async with daemon.client() as client:
            flow.client = client
            end = await flow.end()
            assert (end["type"], end.get("message")) == ("completed", None)
            run = await flow.run()
            where, on = (await flow.result("a"))["stdout"].split()
            assert (where, on) == (run["cwd"], f"agentcmd/{flow.id}")
            assert where != str(repo.path)
            said = [each["message"] for each in flow.told("annotation")]
            assert all("interrupted" in each for each in said)  # nothing stays, or is said to
            assert len(repo.git("worktree", "list").splitlines()) == 1
            assert "agentcmd/" not in repo.git("branch", "--list")
    finally:
        daemon.kill()


async def test_a_run_is_on_its_branch_where_the_daemon_died_after_it_was_made(tmp_path):
    daemon, repo = DyingDaemon(tmp_path / "state"), Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"})
    try:
        flow = await begun_and_died(daemon, repo, "branch", "branch:after:1")
        async with daemon.client() as client:
            flow.client = client
            assert (await flow.end())["type"] == "completed"
            said = (await flow.result("a"))["stdout"].split()
            assert said == [str(repo.path), f"agentcmd/{flow.id}"]
    finally:
        daemon.kill()


async def test_a_work_tree_that_was_just_made_for_a_run_that_is_cancelled_goes_with_it(tmp_path):
    daemon, repo = DyingDaemon(tmp_path / "state"), Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"})

    async def cancelling(flow):
        with contextlib.suppress(AgentcmdError):
            await flow.call("cancel")

    try:
        flow = await begun_and_died(daemon, repo, "worktree", "worktree:after:1", cancelling)
        async with daemon.client() as client:
            flow.client = client
            assert (await flow.end())["type"] == "cancelled"
            assert len(repo.git("worktree", "list").splitlines()) == 1
    finally:
        daemon.kill()


async def begun_and_died(daemon, repo, workspace, point, then=None):
    """Start a run with a daemon that dies at a point, and then one that does not."""
    daemon.start(point)
    text = f"workspace: {workspace}\nsteps: [{{id: a, run: pwd; git branch --show-current}}]"
    async with daemon.client() as client:
        flows = await Flows.of(client, repo.path)
        path = repo.path / ".agent/workflows/flow.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        flow = await flows.start("flow")
        if then is not None:
            await then(flow)
        assert await asyncio.to_thread(daemon.died)
    daemon.close()
    daemon.start()
    return flow


async def test_a_small_storm_of_kills_leaves_no_trace_in_what_runs_come_to(tmp_path):
    seen = await storm(tmp_path, kills=8, runs=5, seed=1)
    assert seen.kills >= 8
    assert seen.faults == []
