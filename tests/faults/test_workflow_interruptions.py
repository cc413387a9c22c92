"""A step that the daemon's end cut off: what is told of it, and who says that it runs again."""

from __future__ import annotations

import asyncio

import pytest
from flows import Flow, Flows
from repositories import Repo
from storms import DyingDaemon
from support import DaemonProcess

HELD = 'run: "echo x >> log; while [ ! -e go ]; do sleep 0.02; done"'


@pytest.fixture
def daemon(tmp_path):
    """A daemon that is killed and started again."""
    process = DaemonProcess(tmp_path / "state", TASK__STOP_GRACE="0.3")
    process.start()
    yield process
    process.kill()


async def cut_off(daemon, folder, keys, after=""):
    """Start a run, and kill the daemon while its step is under way; gives the run's id."""
    async with daemon.client() as client:
        flows = await Flows.of(client, folder, flow=f"- {{id: a, {HELD}{keys}}}{after}")
        flow = await flows.start("flow")
        await flow.until("step.started", stepId="a")
        async with asyncio.timeout(20):
            while not flows.lines():
                await asyncio.sleep(0.02)
    daemon.kill()
    (folder / "go").touch()
    daemon.start()
    return flow.id


async def test_a_step_that_was_cut_off_runs_again_as_another_attempt_and_that_is_told(
    daemon, tmp_path
):
    run_id = await cut_off(daemon, tmp_path / "own", ", retries: 0")
    async with daemon.client() as client:
        flow = Flow(client, run_id)
        assert (await flow.end())["type"] == "completed"
        assert [each.get("attempt", 1) for each in flow.told("step.started")] == [1, 2]
        assert [each["attempt"] for each in flow.told("step.completed")] == [2]
        said = flow.told("annotation")
        assert [(each["stepId"], each["level"]) for each in said] == [("a", "warning")]
        assert "interrupted" in said[0]["message"]
        assert "runs again" in said[0]["message"]
        step = (await flow.steps())["a"]
        assert (step["attempt"], step["interruptions"]) == (2, 1)


async def test_an_interruption_uses_up_no_retry(daemon, tmp_path):
    folder = tmp_path / "own"
    keys = ", retries: {max: 1, backoff: 20ms}, continue-on-error: true"
    async with daemon.client() as client:
        text = f"- {{id: a, {HELD.replace('done', 'done; exit 3')}{keys}}}"
        flows = await Flows.of(client, folder, flow=text)
        flow = await flows.start("flow")
        async with asyncio.timeout(20):
            while not flows.lines():
                await asyncio.sleep(0.02)
    daemon.kill()
    (folder / "go").touch()
    daemon.start()
    async with daemon.client() as client:
        again = Flow(client, flow.id)
        assert (await again.end())["type"] == "completed"
        assert [each["attempt"] for each in again.told("step.retrying")] == [3]
        assert again.told("step.failed")[0]["attempt"] == 3


async def test_a_step_that_forbids_it_fails_and_does_nothing_more(daemon, tmp_path):
    run_id = await cut_off(daemon, tmp_path / "own", ", on-interrupt: fail, retries: 3")
    async with daemon.client() as client:
        end = await Flow(client, run_id).end()
        assert (end["type"], end["code"], end["stepId"]) == ("failed", "interrupted", "a")
        assert "interrupted" in end["message"]
    assert (tmp_path / "own/log").read_text() == "x\n"


@pytest.mark.parametrize("approved", [True, False])
async def test_a_step_that_asks_waits_for_an_answer_however_often_the_daemon_dies(
    daemon, tmp_path, approved
):
    run_id = await cut_off(daemon, tmp_path / "own", ", on-interrupt: ask")
    for _ in range(2):
        async with daemon.client() as client:
            flow = Flow(client, run_id)
            waits = await flow.until("step.waiting", waitsFor="approval")
            assert "interrupted" in waits["message"]
            async with asyncio.timeout(20):
                while (await flow.run())["state"] != "waiting":
                    await asyncio.sleep(0.02)
        daemon.kill()
        daemon.start()
    async with daemon.client() as client:
        flow = Flow(client, run_id)
        await answered(flow, approved=approved)
        end = await flow.end()
        step = (await flow.steps())["a"]
        assert (step["attempt"], step["interruptions"]) == (2, 1)
    lines = (tmp_path / "own/log").read_text().splitlines()
    if approved:
        assert (end["type"], lines) == ("completed", ["x", "x"])
    else:
        assert (end["code"], lines) == ("interrupted", ["x"])


async def answered(flow, *, approved):
    """Answer as soon as the run waits for that."""
    async with asyncio.timeout(20):
        while (await flow.run())["state"] != "waiting":
            await asyncio.sleep(0.02)
    await flow.call("approve", approved=approved, comment="sure")


PYTHON = """
import asyncio, pathlib
from agentcmd_module import workflow

@workflow
async def flow(run):
    await run.command("a", "echo x >> log; while [ ! -e go ]; do sleep 0.02; done",
                      on_interrupt="fail", check=True)
"""


async def test_a_workflow_in_python_says_the_same(daemon, tmp_path):
    folder = tmp_path / "own"
    async with daemon.client() as client:
        flows = await Flows.of(client, folder)
        path = folder / ".agent/workflows/flow.py"
        path.parent.mkdir(parents=True)
        path.write_text(PYTHON.replace("agentcmd_module", "domains.workflow"))
        flow = await flows.start("flow")
        async with asyncio.timeout(30):
            while not flows.lines():
                await asyncio.sleep(0.02)
    daemon.kill()
    (folder / "go").touch()
    daemon.start()
    async with daemon.client() as client:
        end = await Flow(client, flow.id).end()
        assert (end["type"], end["code"], end["stepId"]) == ("failed", "interrupted", "a")
    assert (folder / "log").read_text() == "x\n"


@pytest.mark.parametrize("at", ["git-result:before:1", "result:before:1"])
async def test_what_git_is_known_to_have_done_is_no_interruption(tmp_path, at):
    end, flow = await tagged(tmp_path, at)
    assert end["type"] == "completed"
    assert flow.told("annotation") == []


async def test_what_git_had_begun_is_one(tmp_path):
    end, _ = await tagged(tmp_path, "git-begun:after:1")
    assert (end["type"], end["code"]) == ("failed", "interrupted")


async def tagged(folder, at):
    """Make a tag in a step that forbids to run again, with a daemon that dies at a point."""
    repo, dying = Repo(folder / "own"), DyingDaemon(folder / "state")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"})
    dying.start(at)
    try:
        async with dying.client() as client:
            step = "{id: a, git: {operation: tag_create, name: v1}, on-interrupt: fail}"
            flow = await (await Flows.of(client, repo.path, flow=f"- {step}")).start("flow")
            assert await asyncio.to_thread(dying.died)
        dying.close()
        dying.start()
        async with dying.client() as client:
            flow.client = client
            return await flow.end(), flow
    finally:
        dying.kill()
