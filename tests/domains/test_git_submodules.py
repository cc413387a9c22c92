"""Submodules: filled in clones and work trees, discarded, and never lost; nothing of them runs."""

from __future__ import annotations

import pytest
from repositories import Repo, added, ran

from daemon.core.errors import Conflict, NotFound


@pytest.fixture
def allowed(monkeypatch, tmp_path):
    """The user lets submodules be cloned from folders of this machine; gives the configuration."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n')
    return home / ".gitconfig"


def super_of(tmp_path):
    """Make a repository with a submodule that has a submodule."""
    deep = Repo(tmp_path / "far" / "deep")
    deep.commit({"d": "deep\n"})
    sub = Repo(tmp_path / "far" / "sub")
    allow = ("-c", "protocol.file.allow=always")
    sub.git(*allow, "submodule", "--quiet", "add", str(deep.path), "in deep")
    sub.commit({"s": "one\n"})
    repo = Repo(tmp_path / "far" / "super")
    repo.git(*allow, "submodule", "--quiet", "add", str(sub.path), "lib")
    repo.commit({"a": "1\n"})
    return repo, sub


class At(Repo):
    """A work tree that was made elsewhere."""

    def __init__(self, path):
        self.path = path


def moved(path):
    """Make a commit in a submodule, and give its id and the one before."""
    lib = At(path)
    before = lib.git("rev-parse", "HEAD").strip()
    return before, lib.commit({"s": "two\n"})


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("trusted", [False, True])
async def test_a_clone_and_a_worktree_have_their_submodules_filled(running, tmp_path, trusted):
    far, _ = super_of(tmp_path)
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        if trusted:
            await client.call("project.trust", {"projectId": project})
        cloned = await ran(client, project, "clone", url=str(far.path), recurse=True)
        assert cloned["submodules"] == 2
        assert (tmp_path / "own/lib/in deep/d").read_text() == "deep\n"
        made = await ran(client, project, "worktree_add", name="w", recurse=True)
        assert made["submodules"] == 2
        tree = made["worktree"]["path"]
        assert (tmp_path / "own/lib/s").read_text() == "one\n"
        listed = await ran(client, project, "worktree_list", details=True)
        assert listed["worktrees"][1]["clean"] is True
        await ran(client, project, "worktree_remove", name="w")
        assert not (tmp_path / tree).exists()


@pytest.mark.usefixtures("allowed")
async def test_empty_submodules_are_filled_and_follow_the_index(running, tmp_path):
    far, sub = super_of(tmp_path)
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        await ran(client, project, "clone", url=str(far.path))
        assert not list((tmp_path / "own/lib").iterdir())
        done = await ran(client, project, "submodule_update", paths=["lib"])
        (one,) = done["submodules"]
        assert (one["path"], one["commit"], "before" in one) == (
            "lib",
            sub.git("rev-parse", "HEAD").strip(),
            False,
        )
        before, after = moved(tmp_path / "own/lib")
        done = await ran(client, project, "submodule_update", recurse=True)
        first, second = done["submodules"]
        assert (first["before"], first["commit"]) == (after, before)
        assert second["path"] == "lib/in deep"
        with pytest.raises(NotFound):
            await ran(client, project, "submodule_update", paths=["a"])


@pytest.mark.usefixtures("allowed")
async def test_a_worktree_stays_whose_submodule_has_commits_of_its_own(running, tmp_path):
    far, _ = super_of(tmp_path)
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        await ran(client, project, "clone", url=str(far.path))
        made = await ran(client, project, "worktree_add", name="w", recurse=True)
        lib = At(tmp_path / made["worktree"]["path"] / "lib")
        lib.git("switch", "-q", "-c", "mine")
        lib.commit({"s": "mine\n"})
        lib.git("switch", "-q", "--detach", "HEAD~1")
        with pytest.raises(Conflict, match="submodule lib has commits"):
            await ran(client, project, "worktree_remove", name="w")
        await ran(client, project, "worktree_remove", name="w", force=True)


@pytest.mark.usefixtures("allowed")
async def test_a_moved_submodule_is_discarded_and_brought_back(running, tmp_path):
    far, _ = super_of(tmp_path)
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        await ran(client, project, "clone", url=str(far.path), recurse=True)
        lib = At(tmp_path / "own/lib")
        before, after = moved(lib.path)
        lost = await ran(client, project, "discard", paths=["lib"])
        assert (lost["paths"], lib.git("rev-parse", "HEAD").strip()) == (["lib"], before)
        back = await ran(client, project, "discard_restore", discardId=lost["discardId"])
        assert (back["written"], lib.git("rev-parse", "HEAD").strip()) == (["lib"], after)
        lib.write("s", "in the way\n")
        with pytest.raises(Conflict, match="add its folder as a project"):
            await ran(client, project, "stage", paths=["lib/s"])
        with pytest.raises(Conflict, match="submodule lib"):
            await ran(client, project, "discard", all=True)
        assert (lib.path / "s").read_text() == "in the way\n"


async def test_folders_here_are_no_submodules_unless_the_user_says_so(running, tmp_path):
    far, _ = super_of(tmp_path)
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        with pytest.raises(Conflict, match=r"protocol\.file\.allow"):
            await ran(client, project, "clone", url=str(far.path), recurse=True)
        assert not list((tmp_path / "own").iterdir())
        await ran(client, project, "clone", url=str(far.path))
        with pytest.raises(Conflict, match=r"protocol\.file\.allow"):
            await ran(client, project, "submodule_update")


async def test_a_submodule_without_trust_runs_nothing(running, tmp_path, allowed):
    far, _ = super_of(tmp_path)
    own = Repo(tmp_path / "own")
    own.git("-c", "protocol.file.allow=always", "clone", "-q", str(far.path), "clone")
    clone = At(tmp_path / "own" / "clone")
    clone.git("config", "submodule.lib.update", f"!touch {tmp_path}/ran")
    async with running.client() as client:
        project = await added(client, clone.path)
        with pytest.raises(Conflict, match=r"submodule\.lib\.update"):
            await ran(client, project, "submodule_update")
        clone.git("config", "--unset", "submodule.lib.update")
        hooks = tmp_path / "templates" / "hooks"
        hooks.mkdir(parents=True)
        (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / "post-checkout").chmod(0o755)
        with allowed.open("a") as configuration:
            configuration.write(f"[init]\n\ttemplateDir = {hooks.parent}\n")
        await ran(client, project, "submodule_update", recurse=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("allowed")
async def test_a_link_without_an_address_is_told_and_the_others_are_filled(running, tmp_path):
    far, _ = super_of(tmp_path)
    Repo(far.path / "inner").commit({"x": "1\n"})
    far.commit()
    (tmp_path / "own").mkdir()
    async with running.client() as client:
        project = await added(client, tmp_path / "own")
        cloned = await ran(client, project, "clone", url=str(far.path), recurse=True)
        assert cloned["submodules"] == 2
        assert cloned["warnings"][0].startswith("inner is a link")
