"""What is left out without trust, hooks and signatures, is told in the answers."""

from __future__ import annotations

import pytest
from repositories import Repo, added, ran


@pytest.fixture
def policy(monkeypatch, tmp_path):
    """The user signs everything, and has hooks for all repositories."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "prepare-commit-msg", "post-merge", "pre-push", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.org\n"
        f"[core]\n\thooksPath = {hooks}\n[commit]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def forked(path):
    """Make a repository whose branches `main` and `other` have commits of their own."""
    repo = Repo(path)
    first = repo.commit({"a": "1\n"})
    repo.git("switch", "-q", "-c", "other")
    other = repo.commit({"b": "1\n"})
    repo.git("switch", "-q", "main")
    repo.commit({"c": "1\n"})
    return repo, first, other


def left(answer):
    return answer.get("hooksSkipped", False), answer.get("signatureSkipped", False)


@pytest.mark.usefixtures("policy")
async def test_every_operation_says_what_it_left_out(running, tmp_path):
    repo, first, other = forked(tmp_path / "own")
    far = Repo(tmp_path / "far.git", bare=True)
    repo.git("remote", "add", "origin", f"file://{far.path}")
    async with running.client() as client:
        project = await added(client, repo.path)
        merged = await ran(client, project, "merge", revision="other")
        assert left(merged) == (True, True)
        assert left(await ran(client, project, "merge", revision="other")) == (False, False)
        pushed = await ran(client, project, "push", remote="origin", setUpstream=True)
        assert left(pushed) == (True, True)
        assert left(await ran(client, project, "pull")) == (False, False)
        assert left(await ran(client, project, "revert", revisions=[other])) == (True, True)
        switched = await ran(client, project, "switch", branch="old", create=True, revision=first)
        assert left(switched) == (True, False)
        made = await ran(client, project, "branch_create", name="new", switch=True)
        assert left(made) == (True, False)
        assert left(await ran(client, project, "branch_create", name="no")) == (False, False)
        assert left(await ran(client, project, "worktree_add", name="w")) == (True, False)
        await ran(client, project, "switch", branch="old")
        ahead = await ran(client, project, "merge", revision="other")
        assert (ahead["fastForward"], left(ahead)) == (True, (True, False))
        assert left(await ran(client, project, "cherry_pick", revisions=["main~2"])) == (True, True)
        repo.commit({"d": "1\n"})
        assert left(await ran(client, project, "rebase", onto="main")) == (True, True)
    assert not (tmp_path / "ran").exists()


async def test_nothing_is_said_where_nothing_was_left_out(running, tmp_path):
    repo, _, _ = forked(tmp_path / "own")
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    async with running.client() as client:
        project = await added(client, repo.path)
        merged = await ran(client, project, "merge", revision="other")
        assert left(merged) == (False, False)
        assert left(await ran(client, project, "switch", branch="other")) == (False, False)
