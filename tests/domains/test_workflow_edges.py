"""Workflows at their edges: what is hostile, too much, or comes at the worst moment."""

from __future__ import annotations

import subprocess

import pytest
from flows import Flows
from support import until

from daemon.core.errors import NotFound


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


@pytest.mark.parametrize("run_id", ["/etc", "..", ".", "../../etc", "a\0b", "x" * 5000])
async def test_no_file_outside_of_the_kept_ones_is_an_artifact(flows, tmp_path, run_id):
    (tmp_path / "state/hosts").write_text("of the daemon")
    with pytest.raises(NotFound, match="no run"):
        await flows.client.call("workflow.artifact", {"runId": run_id, "name": "hosts"})


@pytest.fixture
async def trees(running, tmp_path):
    """A repository with a workflow that works in a work tree, until there is a file `flag`."""
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write(
            "tree",
            f"""
            workspace: worktree
            steps:
              - {{id: a, run: "pwd >> {tmp_path}/log; test -e {tmp_path}/flag"}}
            """,
        )
        for words in ("init -q -b main", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
            subprocess.run(["git", *words.split()], cwd=flows.folder, check=True)
        yield flows


def listed(flows):
    found = subprocess.run(
        ["git", "worktree", "list"], cwd=flows.folder, capture_output=True, check=True, text=True
    )
    return found.stdout.splitlines()


async def test_a_work_tree_that_is_made_while_its_run_is_cancelled_is_the_runs(trees, tmp_path):
    hook = trees.folder / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/making; sleep 0.5\n")
    hook.chmod(0o755)
    await trees.client.call("project.trust", {"projectId": trees.project, "trusted": True})
    flow = await trees.start("tree")
    await until((tmp_path / "making").exists)
    await flow.call("cancel")
    assert (await flow.end())["type"] == "cancelled"
    (_, tree) = listed(trees)
    assert tree.startswith((await flow.run())["cwd"])
    assert "stays for a retry" in flow.told("annotation")[0]["message"]
    assert not (tmp_path / "log").exists()
