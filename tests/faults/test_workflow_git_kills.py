"""The daemon dies when git has done what a step asked for, and nobody has written it down."""

from __future__ import annotations

import asyncio
import subprocess

import git_steps
import pytest
from flows import Flows
from repositories import Repo
from storms import DyingDaemon

OPERATIONS = {
    "commit": "{operation: commit, message: it, all: true}",
    "amend": "{operation: commit, message: it, amend: true}",
    "tag": "{operation: tag_create, name: v1}",
    "annotated": "{operation: tag_create, name: v1, message: one}",
    "branch": "{operation: branch_create, name: new}",
    "there": "{operation: branch_create, name: new, switch: true}",
    "switch": "{operation: switch, branch: side}",
    "forward": "{operation: merge, revision: side}",
    "merge": "{operation: merge, revision: side, ff: never}",
    "squash": "{operation: merge, revision: side, squash: true}",
    "push": "{operation: push, remote: origin, branch: side}",
    "pull": "{operation: pull, remote: origin, branch: main}",
    "rebase": "{operation: rebase, onto: apart}",
    "pick": "{operation: cherry_pick, revisions: [apart~1, apart]}",
    "revert": "{operation: revert, revisions: [HEAD]}",
    "reset": "{operation: reset, revision: HEAD~1, mode: soft}",
    "hard": "{operation: reset, revision: HEAD~1, mode: hard}",
    "stash": "{operation: stash_save}",
    "pop": "{operation: stash_pop}",
    "drop": "{operation: stash_drop}",
    "worktree": "{operation: worktree_add, name: beside}",
    "deleted": "{operation: branch_delete, name: side, force: true}",
    "renamed": "{operation: branch_rename, name: side, newName: other}",
    "untagged": "{operation: tag_delete, name: v0}",
}
"""Steps, each of which changes something."""

CHANGED = {"commit", "amend", "stash"}
STASHED = {"pop", "drop"}
PULLS = {"pull"}

TREE = "%T %s"

REFS = ("refs/heads", "refs/tags", "refs/remotes")


def prepare(folder, name):
    """Make a repository with all that the steps are about, and its remote."""
    repo = Repo(folder / "own")
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"}, "first")
    repo.git("branch", "-M", "main")
    repo.commit({"b.txt": "b\n"}, "second")
    repo.git("tag", "v0")
    repo.git("switch", "-qc", "side")
    repo.commit({"side.txt": "s\n"}, "side")
    repo.git("switch", "-qc", "apart", "main~1")
    repo.commit({"c.txt": "c\n"}, "third")
    repo.commit({"d.txt": "d\n"}, "fourth")
    repo.git("switch", "-q", "main")
    remote = folder / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    repo.git("remote", "add", "origin", str(remote))
    repo.git("push", "-q", "origin", "main")
    if name in PULLS:
        repo.git("reset", "-q", "--hard", "HEAD~1")
    if name in STASHED:
        for text in ("one\n", "two\n"):
            (repo.path / "a.txt").write_text(text)
            repo.git("stash", "push", "-q", "-m", text.strip())
    if name in CHANGED:
        (repo.path / "a.txt").write_text("changed\n")
        repo.git("add", "a.txt")
    return repo


def standing(repo):
    """Tell all that the steps may have changed, without what depends on the moment."""
    return {
        "head": repo.git("symbolic-ref", "HEAD"),
        "refs": repo.git("for-each-ref", "--format=%(refname) %(objecttype) %(subject)", *REFS),
        "history": repo.git("log", f"--format={TREE}", "HEAD"),
        "index": repo.git("write-tree"),
        "status": repo.git("status", "--porcelain"),
        "stash": repo.git("stash", "list", "--format=%gs"),
        "remote": repo.git("ls-remote", "--heads", "--tags", "origin").split()[1::2],
        "worktrees": len(repo.git("worktree", "list").splitlines()),
    }


async def carried_out(folder, name, at=""):
    """Run one step with a daemon that dies at a point; gives its result, and what is there."""
    return await git_steps.carried_out(
        folder, OPERATIONS[name], lambda place: prepare(place, name), standing, at
    )


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_step_that_git_has_done_is_not_done_again(tmp_path, name):
    undisturbed = await carried_out(tmp_path / "undisturbed", name)
    disturbed = await carried_out(tmp_path / "disturbed", name, "git-result:before:1")
    assert disturbed == undisturbed


@pytest.mark.parametrize("name", ["commit", "tag", "branch"])
@pytest.mark.parametrize("at", ["result:before:1", "result:after:1"])
async def test_what_git_has_answered_is_answered_again(tmp_path, name, at):
    undisturbed = await carried_out(tmp_path / "undisturbed", name)
    assert await carried_out(tmp_path / "disturbed", name, at) == undisturbed


BY_HAND = {
    "commit": (("commit", "-q", "-m", "it"), "nothing is staged"),
    "tag": (("tag", "v1"), "exists"),
    "branch": (("branch", "new"), "exists"),
}


@pytest.mark.parametrize("name", BY_HAND)
async def test_what_somebody_does_meanwhile_is_not_taken_for_what_the_step_did(tmp_path, name):
    repo, daemon = prepare(tmp_path, name), DyingDaemon(tmp_path / "state")
    daemon.start("git-begun:after:1")
    try:
        async with daemon.client() as client:
            text = f"- {{id: a, git: {OPERATIONS[name]}}}"
            flow = await (await Flows.of(client, repo.path, flow=text)).start("flow")
            assert await asyncio.to_thread(daemon.died)
        daemon.close()
        args, why = BY_HAND[name]
        repo.git(*args)
        daemon.start()
        async with daemon.client() as client:
            flow.client = client
            end = await flow.end()
            assert end["type"] == "failed"
            assert why in end["message"]
    finally:
        daemon.kill()
