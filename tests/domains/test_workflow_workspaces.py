"""Where runs work: what of it outlives them, and for how long."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flows import Flows
from repositories import Repo
from support import until

TEXT = """
workspace: worktree
steps:
  - {id: build, run: "echo built > out.ignored; echo build >> %(log)s"}
  - {id: test, run: "pwd; cat out.ignored; test -e %(ok)s"}
"""


@pytest.fixture
async def flows(running, tmp_path):
    """A repository with a workflow that fails until there is a file called ok."""
    repo = Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n*.ignored\n"})
    text = TEXT % {"log": tmp_path / "log", "ok": tmp_path / "ok"}
    async with running.client() as client:
        flows = await Flows.of(client, repo.path, flow=text)
        flows.repo, flows.running, flows.ok = repo, running, tmp_path / "ok"
        yield flows


def worktrees(flows):
    return flows.repo.git("worktree", "list").splitlines()[1:]


async def left(flows):
    """Give the runs whose work trees the daemon has yet to remove."""
    journal = flows.running.daemon._journal
    await journal.flushed()
    query = "SELECT run FROM workflow_worktree"
    return await journal.store.read(lambda db: [run for (run,) in db.execute(query)])


async def test_a_retry_finds_the_work_tree_as_its_first_steps_have_left_it(flows):
    flow = await flows.done("flow")
    assert flow.seen[-1].type == "workflow.run.failed"
    cwd = (await flow.run())["cwd"]
    assert cwd != str(flows.folder)
    assert flow.told("annotation")[-1]["message"] == f"its work tree {cwd} stays for a retry"
    assert len(worktrees(flows)) == 1
    flows.ok.touch()
    await flow.call("retry")
    assert (await flow.end())["type"] == "completed"
    assert (await flow.result("test"))["stdout"] == f"{cwd}\nbuilt\n"
    assert (flows.folder.parent / "log").read_text() == "build\n"
    assert worktrees(flows) == []
    assert "agentcmd/" not in flows.repo.git("branch", "--list")
    assert await left(flows) == []


async def test_a_retry_is_on_the_branch_of_its_run_again(flows):
    flows.write(
        "branch",
        "workspace: branch\nsteps:\n"
        f"  - {{id: a, run: git branch --show-current; test -e {flows.ok}}}",
    )
    main = flows.repo.git("branch", "--show-current").strip()
    flow = await flows.done("branch")
    branch = (await flow.run())["branch"]
    assert (await flow.result("a"))["stdout"].strip() == branch
    await flow.call("retry")  # where it still is
    assert (await flow.end())["code"] == "exit"
    flows.repo.git("switch", "-q", main)
    flows.ok.touch()
    await flow.call("retry")
    assert (await flow.end())["type"] == "completed"
    assert (await flow.result("a"))["stdout"].strip() == branch
    assert branch == f"agentcmd/{flow.id}" != main


async def test_one_that_somebody_has_removed_is_made_again(flows):
    flow = await flows.done("flow")
    cwd = (await flow.run())["cwd"]
    branch = flows.repo.git("-C", cwd, "branch", "--show-current").strip()
    (Path(cwd) / "a.txt").write_text("b\n")
    flows.repo.git("-C", cwd, "commit", "-q", "-a", "-m", "kept")
    shutil.rmtree(cwd)
    flows.repo.git("worktree", "prune")
    flows.ok.touch()
    (flows.folder / ".agent/workflows/flow.yaml").write_text(
        "workspace: worktree\nsteps: [{id: build, run: x}, {id: test, run: cat a.txt}]"
    )
    await flow.call("retry")
    assert (await flow.end())["type"] == "completed"
    assert (await flow.result("test"))["stdout"] == "b\n"  # on the branch that it had
    assert (await flow.run())["branch"] == branch
    assert any("stays" in each["message"] for each in flow.told("annotation")[-1:])  # not merged


async def test_it_is_removed_with_the_records_of_its_run_where_nothing_is_lost(flows):
    lost, kept = await flows.done("flow"), await flows.done("flow")
    (Path((await kept.run())["cwd"]) / "new.txt").write_text("work\n")
    assert len(worktrees(flows)) == 2
    assert sorted(await left(flows)) == [lost.id, kept.id]
    journal = flows.running.daemon._journal
    for flow in (lost, kept):
        journal.forget(journal.get(f"workflow:run:{flow.id}"))
    await until(lambda: len(worktrees(flows)) == 1)
    assert kept.id in worktrees(flows)[0]
    assert await left(flows) == []
