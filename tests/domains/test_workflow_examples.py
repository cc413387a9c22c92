"""The workflows that come with the project: each does what its first line says."""

from __future__ import annotations

from pathlib import Path

import pytest
from flows import Flows
from repositories import Repo

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "workflows").glob("*.*"))


def test_every_example_has_a_test_here():
    names = {path.stem for path in EXAMPLES}
    assert names == {"lint-changed", "mend_until_green", "plan-implement-review", "test-fix"}


@pytest.fixture
def repo(tmp_path):
    """A repository with all of the examples, and an identity."""
    made = Repo(tmp_path / "shop")
    made.git("config", "user.name", "Ada")
    made.git("config", "user.email", "ada@example.org")
    folder = made.path / ".agent" / "workflows"
    folder.mkdir(parents=True)
    for path in EXAMPLES:
        (folder / path.name).write_bytes(path.read_bytes())
    made.commit({"a.py": "a = 1\n", "b c.py": "b = 1\n", "notes.txt": "x\n"})
    return made


async def test_what_has_changed_is_linted_four_at_a_time(running, repo):
    repo.git("switch", "-q", "-c", "topic")
    repo.commit({"a.py": "bad\n", "b c.py": "good\n", "notes.txt": "bad\n"})
    lint = "grep -v bad"  # fails where there is nothing else
    async with running.client() as client:
        flows = await Flows.of(client, repo.path)
        flow = await flows.done("lint-changed", args={"lint": lint})
        steps = await flow.steps()
    assert steps["files"]["result"] == {"items": 2}
    assert steps["files/0/lint"]["result"]["exitCode"] == 1
    assert steps["files/1/lint"]["result"]["exitCode"] == 0
    assert [told["message"] for told in flow.told("annotation")] == ["a.py: "]
    assert flow.seen[-1].type == "workflow.run.completed"


async def test_a_command_that_fails_is_mended_and_tried_again(start_daemon, claude, repo):
    running = await start_daemon(**claude)
    async with running.client() as client:
        flows = await Flows.of(client, repo.path)
        flow = await flows.start(
            "test-fix", args={"test": "test -f ok || { touch ok; echo no; exit 1; }"}
        )
        end = await flow.end(60)
        steps = await flow.steps()
    assert end["type"] == "completed", end
    assert (steps["test"]["state"], steps["again"]["result"]["exitCode"]) == ("failed", 0)
    assert "no" in steps["fix"]["result"]["result"]  # the model of the tests says what it is told
    assert steps["mend"]["state"] == "skipped"
    assert steps["verdict"]["state"] == "completed"


async def test_an_agent_plans_somebody_agrees_and_it_goes_on_in_a_work_tree(
    start_daemon, claude, repo
):
    running = await start_daemon(**claude)
    async with running.client() as client:
        flows = await Flows.of(client, repo.path)
        flow = await flows.start(
            "plan-implement-review",
            args={"task": "Add a dark mode", "test": "pwd; echo new > made"},
        )
        waits = await flow.until("step.waiting", 60, stepId="agree")
        assert "Add a dark mode" in waits["message"]
        await flow.call("approve", comment="Yes, and be quick")
        end = await flow.end(60)
        assert end["type"] == "completed", end
        steps = await flow.steps()
        run = await flow.run()
    assert steps["plan"]["sessionId"] == steps["implement"]["sessionId"]
    assert steps["review"]["sessionId"] == steps["plan"]["sessionId"]
    assert "be quick" in steps["implement"]["result"]["result"]
    assert steps["test"]["result"]["stdout"].strip() == run["cwd"] != str(repo.path)
    committed = repo.git("log", "-1", "--format=%s", run["branch"]).strip()
    assert committed == "Add a dark mode"
    assert not (repo.path / "made").exists()
    assert any("stays" in told["message"] for told in flow.told("annotation"))


async def test_an_agent_mends_in_one_conversation_until_a_command_succeeds(
    start_daemon, claude, repo
):
    running = await start_daemon(**claude)
    passes = "echo x >> tries; test $(wc -l < tries) -ge 3 || { echo no; exit 1; }"
    async with running.client() as client:
        flows = await Flows.of(client, repo.path)
        flow = await flows.start("mend_until_green", args={"test": passes})
        end = await flow.end(60)
        steps = await flow.steps()
        assert end["type"] == "completed", end
        assert end["output"] == {"mended": 2}
        assert list(steps) == ["test", "fix", "test#2", "fix#2", "test#3"]
        assert steps["fix"]["sessionId"] == steps["fix#2"]["sessionId"]
        last = await flows.start("mend_until_green", args={"test": "exit 1", "tries": 0})
        end = await last.end(60)
        assert (end["code"], end["stepId"]) == ("exit", "last")
