"""Repositories that are elsewhere than their work tree: by a link, by `--separate-git-dir`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from repositories import ENVIRONMENT, Repo, added, ran

from daemon.core.errors import Conflict

ADA = {"author": "Ada <ada@example.org>"}


def linked(tmp_path: Path) -> Repo:
    """Make a repository whose `.git` is a link."""
    repo = Repo(tmp_path / "linked")
    repo.commit({"a.txt": "1\n", ".gitignore": "no/\n"})
    (repo.path / ".git").rename(tmp_path / "store.git")
    (repo.path / ".git").symlink_to(tmp_path / "store.git")
    return repo


def separate(tmp_path: Path) -> Repo:
    """Make one by `git clone --separate-git-dir`."""
    far = Repo(tmp_path / "far")
    far.commit({"a.txt": "1\n", ".gitignore": "no/\n"})
    options = ["--separate-git-dir", str(tmp_path / "store.git")]
    subprocess.run(
        ["git", "clone", "-q", *options, str(far.path), str(tmp_path / "near")],
        env=ENVIRONMENT,
        check=True,
    )
    return Repo(tmp_path / "near")


@pytest.mark.parametrize("made", [linked, separate])
async def test_a_repository_elsewhere_is_worked_in_where_the_project_is_trusted(
    running, tmp_path, made
):
    repo = made(tmp_path)
    async with running.client() as client:
        project = await added(client, repo.path)
        with pytest.raises(Conflict, match="agentcmd project trust") as refused:
            await ran(client, project, "status")
        assert "worktree repair" not in str(refused.value)
        await client.call("project.trust", {"projectId": project})
        repo.write("b.txt", "b\n")
        repo.write("no/c.txt", "c\n")
        standing = await ran(client, project, "status")
        assert [file["path"] for file in standing["files"]] == ["b.txt"]
        await ran(client, project, "stage", all=True)
        committed = await ran(client, project, "commit", message="more", **ADA)
        assert repo.git("rev-parse", "HEAD").strip() == committed["commit"]
        await ran(client, project, "branch_create", name="side")
        await ran(client, project, "switch", branch="side")
        await ran(client, project, "worktree_add", name="other")
        status = await ran(client, project, "status", worktree="other")
        assert status["summary"]["branch"] == "other"
        await ran(client, project, "worktree_remove", name="other")
        seen = await client.call("file.tree", {"projectId": project})
        names = {entry["name"] for entry in seen["entries"]}
        assert "b.txt" in names
        assert "no" not in names  # ignored
    assert (tmp_path / "store.git" / "HEAD").read_text() == "ref: refs/heads/side\n"


async def test_a_worktree_that_was_moved_is_told_both_ways_out(running, tmp_path):
    repo = Repo(tmp_path / "main")
    repo.commit({"a.txt": "1\n"})
    repo.git("worktree", "add", "-q", str(tmp_path / "tree"))
    (tmp_path / "tree").rename(tmp_path / "moved")
    async with running.client() as client:
        project = await added(client, tmp_path / "moved")
        with pytest.raises(Conflict, match=r"git worktree repair.*agentcmd project trust"):
            await ran(client, project, "status")
        await client.call("project.trust", {"projectId": project})
        assert (await ran(client, project, "status"))["summary"]["branch"] == "tree"
